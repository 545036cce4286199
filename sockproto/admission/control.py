"""
Admission control: who may start a handshake, and how many at once.

A :class:`~sockproto.admission.policy.Policy` becomes a list of rules, in this order: what is true
of an address for good, what holds for everybody, what its source has done, and what it has. The
random drop comes last, so that a number is only drawn for a peer that nothing else speaks against.
The first rule that refuses has the word. Only a peer that all of them admit changes anything.

What no sequence of calls may break: a slot that is taken is given back exactly once; the counts are
those of the live connections; who waits for room is told whenever there is some; and nothing that
was refused is counted.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from math import inf

from sockproto.admission.contract import Refusal, Ticket
from sockproto.admission.counts import Counts
from sockproto.admission.early_drop import PRESSURE
from sockproto.admission.networks import number_of
from sockproto.admission.penalties import SourcePenalties
from sockproto.admission.policy import DEFAULT_POLICY, Policy
from sockproto.admission.rate import MaxRatePerSource
from sockproto.admission.rules import (
    EVERYBODY,
    AllowDeny,
    Applicant,
    MaxConnections,
    MaxPending,
    MaxPerSource,
    Rule,
    Verdict,
)
from sockproto.admission.sources import Source, Sources
from sockproto.core.facts import Address, Family

MAX_IDENTIFIED = 4096
"""Of how many addresses it is remembered what is made of them; each takes a few hundred bytes."""

NO_VERDICT = "none"
"""The reason of a slot that is given back before there was a verdict. It costs nothing."""


class AdmissionControl:
    """
    Decides who may start, by a policy. One of them may stand behind several entrances.

    Args:
        policy: The rules.
        seconds: A clock. It should not follow the time of day, which may be set back.
        random: What draws numbers from 0 up to 1.
        dry_run: Admit everybody, and only say who would have been refused. Whoever would have been
            takes no slot, so that what is said about the next one is what would be said.

    Attributes:
        counts: How many there are. Not to be changed from outside.
    """

    def __init__(
        self,
        policy: Policy = DEFAULT_POLICY,
        *,
        seconds: Callable[[], float] = time.monotonic,
        random: Callable[[], float] = random.random,
        dry_run: bool = False,
    ) -> None:
        self.counts = Counts()
        self._policy = policy
        self._seconds = seconds
        self._random = random
        self._dry_run = dry_run
        self._sources = Sources(
            policy.inet_prefix, policy.inet6_prefix, policy.exempt, policy.exempt_unix
        )
        self._goodbye = policy.goodbye
        # Indexed by a bool, as the pending ones are counted.
        self._caps = (policy.max_pending, policy.max_pending_tls)
        self._pressed = tuple(
            # In a dry run nobody has to hurry, either.
            inf if dry_run or each is None else PRESSURE * each.full
            for each in self._caps
        )
        self._most = policy.max_connections if policy.wait and not dry_run else None
        self._waiting: list[Callable[[], object]] = []
        self._rate: MaxRatePerSource | None = None
        if policy.max_rate_per_source is not None:
            self._rate = MaxRatePerSource(policy.max_rate_per_source, policy.max_sources)
        self._costs: Mapping[str, float] = {}
        self._penalties: SourcePenalties | None = None
        if policy.penalties is not None:
            self._penalties = SourcePenalties(policy.penalties, policy.max_sources)
            self._costs = self._penalties.costs
        self._connections: MaxConnections | None = None
        if policy.max_connections is not None:
            self._connections = MaxConnections(policy.max_connections, self.counts)
        shared = tuple(self._shared_rules())
        names = ("max_pending", "max_pending_tls")
        self._rules: tuple[tuple[Rule, ...], ...] = tuple(
            shared if cap is None else (*shared, MaxPending(name, cap, self.counts))
            for name, cap in zip(names, self._caps, strict=True)
        )
        # Most come while there is room for all, and then no cap on all has a say; to those of no
        # source, no rule about sources has. This is the path of every connection.
        self._crowded = inf if policy.max_connections is None else policy.max_connections
        self._dropping = tuple(inf if each is None else each.start for each in self._caps)
        self._calm = tuple(each for each in shared if each is not self._connections)
        self._calm_of_nobody = tuple(each for each in self._calm if isinstance(each, AllowDeny))
        # Whoever comes has often come before.
        self._identified = lru_cache(MAX_IDENTIFIED)(self._identify)

    def _shared_rules(self) -> Iterator[Rule]:
        """The rules that are the same for TLS, in order; a rule that nothing sets is not there."""
        policy, counts = self._policy, self.counts
        if policy.deny or policy.allow != EVERYBODY:
            yield AllowDeny(policy.allow, policy.deny)
        if self._connections is not None:
            yield self._connections
        if self._penalties is not None:
            yield self._penalties
        if self._rate is not None:
            yield self._rate
        most = policy.max_pending_per_source
        if most is not None:
            yield MaxPerSource("max_pending_per_source", most, counts.pending_of, "pending")
        most = policy.max_connections_per_source
        if most is not None:
            name = "max_connections_per_source"
            yield MaxPerSource(name, most, counts.connections_of, "connections")

    # What the gate asks

    def admit(self, address: Address, *, uid: int | None = None, tls: bool = False) -> Ticket | str:
        """Take a slot for a peer; or refuse it, and say by which rule and on which figures."""
        family = address.family
        if address.host:
            number, source = self._identified(family, address.host)
        else:
            number, source = None, self._sources.find(None, uid)
        ticket = Slot(family, number, source, tls, self._seconds(), self)
        counts = self.counts
        pending = counts.pending[tls]
        if counts.connections >= self._crowded or pending >= self._dropping[tls]:
            rules = self._rules[tls]
        else:
            rules = self._calm_of_nobody if source is None else self._calm
        for rule in rules:
            odds = rule.odds(ticket)
            if odds and (odds >= 1 or self._random() < odds):
                return self._refuse(rule, ticket)
        # Nobody asks for it again, and it would take its memory for as long as the slot does.
        ticket.number = None
        counts.enter(source, tls)
        if self._rate is not None:
            self._rate.count(ticket)
        # Most come without any pressure, and need no division.
        if pending + 1 > self._pressed[tls]:
            cap = self._caps[tls]
            assert cap is not None
            ticket.patience = cap.patience(pending + 1)
        return ticket

    def _identify(self, family: Family, host: str) -> tuple[int | None, Source | None]:
        """Which number an address has, and which source it belongs to."""
        number = number_of(Address(family, host))
        return number, self._sources.find(number, None)

    def _refuse(self, rule: Rule, applicant: Applicant) -> Ticket | str:
        refusal = f"{rule.name}: {rule.figures(applicant)}"
        if self._dry_run:
            return Waived(refusal)
        return Refusal(refusal, self._goodbye) if self._goodbye and rule.is_cap else refusal

    def hold(self) -> Ticket | str:
        """Take a slot for a connection of which nobody knows yet whose it is, or refuse it."""
        held = Slot("memory", None, None, False, self._seconds(), self, pending=False)
        if self._connections is not None and self._connections.odds(held):
            return self._refuse(self._connections, held)
        self.counts.hold()
        return held

    # What the listener asks

    @property
    def has_room(self) -> bool:
        """Whether another connection may be accepted; False if it has to wait for one to go."""
        return self._most is None or self.counts.connections < self._most

    def when_room(self, callback: Callable[[], object]) -> None:
        """
        Have something called once, as soon as there is room; right now if there is.

        Several may wait, and all of them are called: each has to look whether there still is room,
        and may wait again.
        """
        self._waiting.append(callback)
        self._call_waiting()

    def _call_waiting(self) -> None:
        # Taken off first: a callback that finds no room, or fails, leaves the others waiting.
        while self._waiting and self.has_room:
            self._waiting.pop(0)()

    # What the operator asks

    def verdicts(
        self, address: Address, *, uid: int | None = None, tls: bool = False
    ) -> list[Verdict]:
        """
        What each rule would say about a peer right now, up to the first that refuses for sure.

        Nothing is drawn, and nothing counted.
        """
        number = number_of(address)
        source = self._sources.find(number, uid)
        applicant = Applicant(address.family, number, source, tls, self._seconds())
        verdicts: list[Verdict] = []
        for rule in self._rules[tls]:
            odds = float(rule.odds(applicant))
            verdicts.append(Verdict(rule.name, odds, rule.figures(applicant)))
            if odds >= 1:
                break
        return verdicts

    def source_of(self, address: Address, *, uid: int | None = None) -> str:
        """To which source a peer belongs: ``2001:db8::/64``, ``user 1000``, or ``exempt``."""
        return self._sources.describe(number_of(address), uid)

    # What a slot tells

    def _charge(self, slot: Slot, reason: str, silent: bool) -> None:
        """A slot that was pending until now has come to an end that costs something."""
        if self._penalties is not None:
            cap = self._caps[slot.tls]
            # One more: it was one of them.
            scarcity = 0.0 if cap is None else cap.odds(self.counts.pending[slot.tls] + 1)
            self._penalties.charge(slot, reason, silent, self._seconds(), scarcity)


class Slot(Applicant):
    """
    A slot that is taken: the peer that has been admitted is its own ticket.

    Attributes:
        patience: How much of its handshake timeout the peer is given.
    """

    __slots__ = ("_control", "_pending", "_taken", "patience")

    waived = None

    def __init__(
        self,
        family: Family,
        number: int | None,
        source: Source | None,
        tls: bool,
        since: float,
        control: AdmissionControl,
        pending: bool = True,
    ) -> None:
        # What super().__init__() would do, on the path of every connection.
        self.family = family
        self.number = number
        self.source = source
        self.tls = tls
        self.since = since
        self.patience = 1.0
        self._taken = True
        self._pending = pending
        self._control = control

    def settled(self, reason: str, *, silent: bool = False, ours: bool = False) -> None:
        """The verdict has fallen; what comes after the first is not heard."""
        if self._pending:
            self._pending = False
            control = self._control
            control.counts.settle(self.source, self.tls)
            if not ours and reason in control._costs:
                control._charge(self, reason, silent)

    def release(self) -> None:
        """Give the slot back; to give it back again does nothing."""
        if not self._taken:
            return
        if self._pending:
            self.settled(NO_VERDICT)
        self._taken = False
        control = self._control
        control.counts.leave(self.source)
        if control._waiting:
            control._call_waiting()


class Waived:
    """The ticket of a peer that would have been refused. It takes no slot."""

    __slots__ = ("waived",)

    patience = 1.0

    def __init__(self, waived: str) -> None:
        self.waived = waived

    def settled(self, reason: str, *, silent: bool = False, ours: bool = False) -> None:
        """Nothing was pending; and who would not have been let in would not have ended badly."""

    def release(self) -> None:
        """Nothing was taken."""
