"""
Many deadlines behind one reactor call.

A deadline that is moved by every byte must not cost a timer per byte, and ten thousand of them must
not cost ten thousand timers. So deadlines are filed in buckets of 100 ms, and one reactor call
waits for the next bucket. A deadline that moves later is left where it is: when its bucket is
emptied it is asked again, and filed anew. Only one that moves *earlier* changes its bucket at once.

A deadline is therefore kept up to 100 ms late, and never early.
"""

from __future__ import annotations

from heapq import heappop, heappush
from math import inf
from typing import Protocol

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

GRANULARITY = 0.1
"""Seconds between buckets: fine enough for timeouts of seconds, at ten wake-ups a second."""

ROUNDING = 1e-5
"""Seconds that are nothing. Clocks that read as the time of day round to a microsecond or so."""

NOT_FILED = -1.0

_log = Logger()


class Expiring(Protocol):
    """Something that has a deadline."""

    bucket: float
    """Where it is filed. Starts as :data:`NOT_FILED`; only :class:`Deadlines` changes it."""

    due: float
    """When it wants to be told, on the clock's time; ``inf`` for never."""

    def deadline_passed(self) -> None:
        """That time has come; it is not filed any more."""
        ...


class Deadlines:
    """
    Tells things that their time has come.

    Args:
        clock: Whose time counts.

    Attributes:
        busy: While this is true, the timer of an empty table is kept, since the next connection
            will want it. A table that is not busy leaves no timer behind.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self.busy = False
        self._clock = clock
        # The entries of a bucket are keys; a set takes three times the memory for thousands.
        self._buckets: dict[float, dict[Expiring, None]] = {}
        self._order: list[float] = []
        self._filed = 0
        self._call: IDelayedCall | None = None
        self._called_for = NOT_FILED

    def __len__(self) -> int:
        return self._filed

    def file(self, entry: Expiring) -> None:
        """See to it that ``entry`` is told at its next deadline. Call again if that came closer."""
        when = entry.due
        if when == inf:
            return
        # Rounded up, with nothing to call.
        bucket = -(-when // GRANULARITY)
        filed_in = entry.bucket
        if filed_in == NOT_FILED:
            self._filed += 1
        elif filed_in <= bucket:
            return
        else:
            self._buckets.get(filed_in, _NOBODY).pop(entry, None)
        entry.bucket = bucket
        entries = self._buckets.get(bucket)
        if entries is None:
            self._buckets[bucket] = {entry: None}
            heappush(self._order, bucket)
            self._wait_for(self._order[0])
        else:
            entries[entry] = None

    def withdraw(self, entry: Expiring) -> None:
        """Forget ``entry``."""
        if entry.bucket == NOT_FILED:
            return
        # Its bucket may be one that is being emptied right now.
        self._buckets.get(entry.bucket, _NOBODY).pop(entry, None)
        entry.bucket = NOT_FILED
        self._filed -= 1
        if not self._filed and not self.busy:
            self.settle()

    def settle(self) -> None:
        """Leave no timer behind, if nothing is filed."""
        if not self._filed:
            self._buckets.clear()
            self._order.clear()
            self._wait_for(NOT_FILED)

    def _wait_for(self, bucket: float) -> None:
        if bucket == self._called_for:
            return
        # Not reset(): to an earlier time it searches all the reactor's calls.
        if self._call is not None:
            self._call.cancel()
            self._call = None
        self._called_for = bucket
        if bucket != NOT_FILED:
            delay = max(0.0, bucket * GRANULARITY - self._clock.seconds())
            self._call = self._clock.callLater(delay, self._empty_buckets)

    def _empty_buckets(self) -> None:
        self._call = None
        self._called_for = NOT_FILED
        now = self._clock.seconds() + ROUNDING
        # Taken out before anybody is told: what is filed meanwhile waits for
        # the next turn, so that a deadline which never moves cannot keep us.
        due = []
        while self._order and self._order[0] * GRANULARITY <= now:
            bucket = heappop(self._order)
            due.append((bucket, self._buckets.pop(bucket)))
        for bucket, entries in due:
            for entry in entries:
                if entry.bucket == bucket:
                    self._tell(entry, now)
        if not self._filed and not self.busy:
            self.settle()
        elif self._order:
            self._wait_for(self._order[0])

    def _tell(self, entry: Expiring, now: float) -> None:
        entry.bucket = NOT_FILED
        self._filed -= 1
        try:
            if entry.due > now:
                self.file(entry)
            else:
                entry.deadline_passed()
        except Exception:
            _log.failure("a deadline could not be kept: {entry!r}", entry=entry)


_NOBODY: dict[Expiring, None] = {}
