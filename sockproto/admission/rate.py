"""
How often a source may come.

The rule is the generic cell rate algorithm (ITU-T I.371 annex A): each admission puts the source's
clock one interval ahead, and a source whose clock is too far ahead has to wait. That takes one
number a source and one comparison, where a log of the last N times would take N of each; and there
is no window whose turn lets twice as many in at once. What it promises is: N at once, then one more
in every N-th part of the time.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from math import ceil, inf, isfinite

from sockproto.admission.expiries import MAX_SOURCES, by_family
from sockproto.admission.rules import NO_SOURCE, Applicant
from sockproto.core.errors import ConfigurationError

ROUNDING = 1e-5
"""Seconds that are nothing. Clocks that read as the time of day round to a microsecond or so."""


@dataclass(frozen=True, slots=True)
class Rate:
    """
    So many in so long.

    Attributes:
        count: How many may come at once.
        seconds: In how long they are forgotten, each in its part of it.

    Raises:
        ConfigurationError: If one of them is not above 0, or the time has no end.
    """

    count: int
    seconds: float

    def __post_init__(self) -> None:
        if not (self.count >= 1 and 0 < self.seconds < inf):
            raise ConfigurationError(
                f"{self} is not a rate; give a count and a time above 0, like 50/10s"
            )

    def __str__(self) -> str:
        # Not :g alone, which writes a million as 1e+06; but it says inf and nan as Python does.
        seconds = f"{self.seconds:.15g}"
        if isfinite(self.seconds):
            seconds = f"{Decimal(seconds).normalize():f}"
        return f"{self.count}/{seconds}s"


class MaxRatePerSource:
    """The cap on how often one source is admitted; what was refused does not count."""

    name = "max_rate_per_source"
    is_cap = True

    def __init__(self, rate: Rate, max_sources: int = MAX_SOURCES) -> None:
        self._rate = rate
        self._interval = rate.seconds / rate.count
        self._most_ahead = rate.seconds - self._interval + ROUNDING
        self._ahead = by_family(max_sources)

    def odds(self, applicant: Applicant) -> float:
        source = applicant.source
        if source is None:
            return False
        until = self._ahead[applicant.family].until(source)
        return until - applicant.since > self._most_ahead

    def count(self, applicant: Applicant) -> None:
        """This one has been admitted."""
        source = applicant.source
        if source is not None:
            table, now = self._ahead[applicant.family], applicant.since
            until = table.until(source)
            table.put(source, (until if until > now else now) + self._interval, now)

    def figures(self, applicant: Applicant) -> str:
        source = applicant.source
        if source is None:
            return NO_SOURCE
        ahead = self._ahead[applicant.family].until(source) - applicant.since
        used = max(0, ceil((ahead - ROUNDING) / self._interval))
        wait = max(0.0, ahead - self._most_ahead + ROUNDING)
        return f"{used} of {self._rate} are used, the next may come in {wait:.1f} s"
