"""
Time that a source loses for how its connections ended.

The rules are those of ``PerSourcePenalties``, sshd_config(5): every bad ending adds seconds, they
run down as time does, and nothing happens to a source before a threshold. From then on it is
refused until all of them have run down, and not only until it is below the threshold again, or it
would be in and out with every ending. What is refused adds nothing: a peer that keeps trying is not
kept out for longer.

Where we differ:

- they count at the verdict, since a connection here goes on as a session;
- who comes and leaves without a byte has done nothing (health checks do that);
- who leaves in the middle has done nothing either: that is what a bad network does;
- a source of IPv6 is a /64 rather than one address;
- a full table always forgets the soonest to expire; nobody is denied for what others did;
- while slots are scarce, a slot costs its holder for as long as it was held, however that ended.

The last one is what keeps a crowd out that comes back for ever, one slot for each of thousands of
addresses. A penalty that is shorter than the time its ending took never adds up from one slot; and
one that is longer, whatever happens, shuts everybody out who is behind one address with somebody
clumsy, also where there is room for all of them. With a price that follows the scarcity there is
none in a quiet hour; and a first slip is not enforced even in a loud one. The figures were chosen
by a simulation, tests/admission/simulation.py.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from math import inf

from sockproto.admission.expiries import MAX_SOURCES, by_family
from sockproto.admission.rules import NO_SOURCE, Applicant
from sockproto.core.errors import ConfigurationError


@dataclass(frozen=True, slots=True, kw_only=True)
class Penalties:
    """
    What an ending costs, in seconds.

    Attributes:
        deadline: The peer has begun, and was too slow.
        reject: The handshake said no.
        silence: The peer was too slow, and had not said a word.
        violation: It sent too much, or what cannot be parsed.
        crash: The plug-in broke; whoever makes it break may be trying to.
        held: What a second in a slot costs at the least, unless the peer was accepted, if no slot
            is left; while a newcomer is dropped with a probability, that part of it, and nothing
            while nobody is dropped.
        threshold: How many seconds a source has to have before it is refused.
        most: The most that it can have.

    Raises:
        ConfigurationError: If one is negative or without an end, or the threshold above the most.
    """

    deadline: float = 10.0
    reject: float = 5.0
    silence: float = 1.0
    violation: float = 10.0
    crash: float = 90.0
    held: float = 30.0
    threshold: float = 15.0
    most: float = 600.0

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            # Not "value < 0": that is false for NaN.
            if not 0 <= value < inf:
                raise ConfigurationError(
                    f"a penalty's {each.name} must be 0 seconds or more, and end, got {value}"
                )
        if self.threshold > self.most:
            raise ConfigurationError(
                f"penalties enforced from {self.threshold:g} s but cut at {self.most:g} s "
                "are never enforced; give a lower threshold, or a higher most"
            )


class SourcePenalties:
    """
    Refuses a source whose connections have ended badly, for a while.

    Attributes:
        costs: The reasons of an ending that may cost something, and how many seconds.
    """

    name = "penalties"
    is_cap = False

    def __init__(self, penalties: Penalties, max_sources: int = MAX_SOURCES) -> None:
        self._threshold = penalties.threshold
        self._most = penalties.most
        self._silence = penalties.silence
        self._held = penalties.held
        self.costs = {
            "timeout": penalties.deadline,
            "rejected": penalties.reject,
            "limit": penalties.violation,
            "violation": penalties.violation,
            "crashed": penalties.crash,
            # Nothing but the slot: to hold one and leave just in time must not be for free.
            "lost": 0.0,
            "probe": 0.0,
        }
        # Those that are marked are refused.
        self._tables = by_family(max_sources)

    def odds(self, applicant: Applicant) -> float:
        source = applicant.source
        if source is None:
            return False
        table = self._tables[applicant.family]
        return source in table.marked and table.until(source) > applicant.since

    def charge(
        self,
        applicant: Applicant,
        reason: str,
        silent: bool,
        now: float,
        scarcity: float = 0.0,
    ) -> None:
        """
        Charge a source for an ending.

        Args:
            applicant: Whose connection has ended.
            reason: What the verdict was, one of :attr:`costs`.
            silent: Whether not a byte had come from it.
            now: The clock's time.
            scarcity: With which probability a newcomer is dropped, for all those who are pending.
        """
        source = applicant.source
        timeout = reason == "timeout"
        fixed = self._silence if silent and timeout else self.costs[reason]
        seconds = max(fixed, self._held * scarcity * (now - applicant.since))
        if not seconds or source is None:
            return
        table = self._tables[applicant.family]
        until = table.until(source)
        first = until <= now
        if first:
            until = now
            table.marked.discard(source)
        until = min(until + seconds, now + self._most)
        table.put(source, until, now)
        # A slot that was held for long may have been a slip: that is enforced from the second on.
        if until - now >= self._threshold and (not first or fixed >= self._threshold):
            table.marked.add(source)

    def figures(self, applicant: Applicant) -> str:
        source = applicant.source
        if source is None:
            return NO_SOURCE
        table = self._tables[applicant.family]
        left = max(0.0, table.until(source) - applicant.since)
        if left and source in table.marked:
            return f"refused for {left:.1f} s more, for how its source has behaved"
        if left > self._threshold:
            return f"{left:.1f} s have accrued by one slip, enforced with the next"
        return f"{left:.1f} s have accrued, enforced from {self._threshold:g} s"
