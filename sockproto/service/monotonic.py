"""
Have the reactor follow time as it passes, not as it is told.

Twisted's timers compare against the wall clock: when that is set back by an hour, a timer of one
second stands still for an hour, and when it is set forward, every deadline is over at once. So the
service gives the reactor a clock that only ever runs on. It starts at the time of day, because
others print what it reads: twisted.web makes its ``Date`` header from it.
"""

from __future__ import annotations

import time
from typing import Any


def follow_monotonic_time(reactor: Any) -> None:
    """Replace ``reactor.seconds``; what was scheduled before keeps its time. Once is enough."""
    if isinstance(reactor.seconds, _Monotonic):
        return
    reactor.seconds = _Monotonic()


class _Monotonic:
    """Seconds since the epoch, as they were when this was made, and counted on from there."""

    def __init__(self) -> None:
        self._start = time.time() - time.monotonic()

    def __call__(self) -> float:
        return self._start + time.monotonic()
