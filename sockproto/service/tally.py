"""
How many lines the log takes: what comes in floods is counted, and summed up once a minute.

A line is cheap to cause and dear to keep, so that without a bound strangers decide how full the
disk is, and bury what matters. Within a minute of ours so many lines are written at most, and so
many for one source and one outcome, so that a single source does not use them all up. A minute of
anybody else's has parts of two of ours, and never more than :data:`MAX_LINES`. What is not written
is counted, in a table with a bound of its own, and told when the minute is over or the service
stops. Nothing is lost by that but the detail: the lines, and what the summaries say, add up.

Accepted peers are counted apart. A flood of strangers does not cost them a line, and the bound for
them is so high that only a flood reaches it: where anybody is accepted, anybody can cause one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IReactorTime

WINDOW = 60.0
"""Seconds of a minute of ours."""

MAX_LINES = 600
"""The most lines in any minute about those who were not accepted."""

MAX_ACCEPTED = 60000
"""The same about those who were: a thousand a second, which an honest service may well have."""

MAX_ALIKE = 30
"""The most lines in a minute of ours about one source and one outcome."""

MAX_COUNTED = 1024
"""How many pairs of source and outcome are counted apart; all others are summed up together."""

MAX_SUMMARIES = 100
"""How many of these are told, those with most first; all others are, again, summed up together."""

OTHERS = "others"


class Tally:
    """
    Decides which lines are written, and sums up the others.

    Args:
        clock: Tells when a minute is over.
        tell: Is given what has been summed up: triples of a source, an outcome, and how many.
    """

    def __init__(
        self, clock: IReactorTime, tell: Callable[[list[tuple[str, str, int]]], object]
    ) -> None:
        self._clock = clock
        self._tell = tell
        self._end = 0.0
        self._left = self._accepted_left = 0
        self._written: Counter[tuple[str, str]] = Counter()
        self._summed: Counter[tuple[str, str]] = Counter()
        self._call: Any = None

    def begin(self) -> None:
        """Look what time it is. To be called before :meth:`admits`, once for all of a turn."""
        now = self._clock.seconds()
        if now >= self._end:
            self._sum_up()
            self._end = now + WINDOW
            # Parts of two of our minutes make one of somebody else's.
            self._left, self._accepted_left = MAX_LINES // 2, MAX_ACCEPTED // 2
            self._written.clear()

    def admits_accepted(self) -> bool:
        """Whether there is a line for somebody who was accepted; if not, it is to be counted."""
        left = self._accepted_left
        self._accepted_left = left - 1
        return left > 0

    def admits(self, source: str, outcome: str) -> bool:
        """Whether there is a line for this; if not, it has been counted."""
        pair = source, outcome
        if self._left > 0 and self._written[pair] < MAX_ALIKE:
            self._left -= 1
            self._written[pair] += 1
            return True
        self.count(source, outcome)
        return False

    def count(self, source: str, outcome: str) -> None:
        """There is no line for this: sum it up."""
        if self._call is None:
            delay = max(0.0, self._end - self._clock.seconds())
            self._call = self._clock.callLater(delay, self._sum_up)
        pair = source, outcome
        if pair not in self._summed and len(self._summed) >= MAX_COUNTED:
            pair = OTHERS, outcome
        self._summed[pair] += 1

    def close(self) -> None:
        """Tell what there is to tell, before the minute is over."""
        self._sum_up()

    def _sum_up(self) -> None:
        call, self._call = self._call, None
        if call is None:
            return
        if call.active():
            call.cancel()
        summed, self._summed = self._summed, Counter()
        others: Counter[str] = Counter()
        told: list[tuple[str, str, int]] = []
        for (source, outcome), times in summed.most_common():
            if source == OTHERS or len(told) >= MAX_SUMMARIES:
                others[outcome] += times
            else:
                told.append((source, outcome, times))
        self._tell([*told, *((OTHERS, outcome, times) for outcome, times in others.items())])
