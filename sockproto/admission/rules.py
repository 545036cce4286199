"""
What a rule is, and those that only look and count.

A rule answers with a *probability*: never, for sure, or, where a drop is random, something between.
It draws nothing and changes nothing, so that whoever wants to know what would happen asks the same
question as the door does, and gets the same answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from sockproto.admission.counts import Counts
from sockproto.admission.early_drop import EarlyDrop
from sockproto.admission.networks import Networks
from sockproto.admission.sources import Source
from sockproto.core.facts import Family

EVERYBODY = Networks.parse("all")

NO_SOURCE = "not limited per source"


class Applicant:
    """
    A peer at the door: all that a rule looks at.

    Args:
        family: Of which family its address is.
        number: That address, as :func:`~sockproto.admission.networks.number_of` has it.
        source: To which source it belongs, or None.
        tls: Whether TLS comes first.
        since: When it came, on the clock's time.
    """

    __slots__ = ("family", "number", "since", "source", "tls")

    def __init__(
        self, family: Family, number: int | None, source: Source | None, tls: bool, since: float
    ) -> None:
        self.family = family
        self.number = number
        self.source = source
        self.tls = tls
        self.since = since


class Rule(Protocol):
    """Something that a peer can be refused for."""

    @property
    def name(self) -> str:
        """What sets it, so that the operator knows what to change."""
        ...

    @property
    def is_cap(self) -> bool:
        """Whether it refuses because there are too many, and not because of who it is."""
        ...

    def odds(self, applicant: Applicant) -> float:
        """With which probability it refuses a peer: 0, 1, or something between."""
        ...

    def figures(self, applicant: Applicant) -> str:
        """On which figures, in words for the operator."""
        ...


@dataclass(frozen=True, slots=True)
class Verdict:
    """
    What one rule says about one peer.

    Attributes:
        rule: The rule's name.
        odds: With which probability it refuses.
        figures: On which figures.
    """

    rule: str
    odds: float
    figures: str

    @property
    def word(self) -> str:
        """``admits``, ``refuses``, or ``refuses 43 %``."""
        if self.odds <= 0:
            return "admits"
        return "refuses" if self.odds >= 1 else f"refuses {self.odds:.0%}".replace("%", " %")


class AllowDeny:
    """
    Networks that may come in, and those that may not.

    The most specific network that holds an address has the say; of two that are equally specific,
    the one that denies. An address that neither knows comes in if everybody is allowed, and not if
    the operator has said who is. Who has no numeric address, as on a unix socket, is nobody's
    business here.
    """

    name = "allow, deny"
    is_cap = False

    def __init__(self, allow: Networks, deny: Networks) -> None:
        self._allow = allow
        self._deny = deny
        self._open = allow == EVERYBODY

    def odds(self, applicant: Applicant) -> float:
        number = applicant.number
        denied = self._deny.match_number(number)
        if self._open:
            # Everybody is allowed, but nobody less specifically than that.
            return denied is not None
        allowed = self._allow.match_number(number)
        if allowed is None:
            return number is not None
        return denied is not None and denied >= allowed

    def figures(self, applicant: Applicant) -> str:
        allowed = self._allow.match_number(applicant.number)
        denied = self._deny.match_number(applicant.number)
        return f"allowed {_by(allowed)}, denied {_by(denied)}"


def _by(length: int | None) -> str:
    return "by none" if length is None else f"by a /{length}"


class MaxConnections:
    """The cap on all connections."""

    name = "max_connections"
    is_cap = True

    def __init__(self, most: int, counts: Counts) -> None:
        self._most = most
        self._counts = counts

    def odds(self, applicant: Applicant) -> float:
        return self._counts.connections >= self._most

    def figures(self, applicant: Applicant) -> str:
        return f"{self._counts.connections} of {self._most} connections are taken"


class MaxPending:
    """The cap on pending handshakes, with an early drop at random."""

    is_cap = True

    def __init__(self, name: str, cap: EarlyDrop, counts: Counts) -> None:
        self.name = name
        self._cap = cap
        self._shown = str(cap)
        self._counts = counts

    def odds(self, applicant: Applicant) -> float:
        return self._cap.odds(self._counts.pending[applicant.tls])

    def figures(self, applicant: Applicant) -> str:
        return f"{self._counts.pending[applicant.tls]} are pending, of {self._shown}"


class MaxPerSource:
    """
    A cap on what one source may have.

    Args:
        name: What sets it.
        most: The cap.
        counts_of: What each source has.
        what: What that is, in a word.
    """

    is_cap = True

    def __init__(self, name: str, most: int, counts_of: dict[Source, int], what: str) -> None:
        self.name = name
        self._most = most
        self._counts_of = counts_of
        self._what = what

    def odds(self, applicant: Applicant) -> float:
        source = applicant.source
        return source is not None and self._counts_of.get(source, 0) >= self._most

    def figures(self, applicant: Applicant) -> str:
        source = applicant.source
        if source is None:
            return NO_SOURCE
        return f"{self._counts_of.get(source, 0)} of {self._most} {self._what} from its source"
