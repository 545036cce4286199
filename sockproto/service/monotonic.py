"""
Have the reactor follow time as it passes, not as it is told.

Twisted's timers compare against the wall clock: when that is set back by an hour, a timer of one
second stands still for an hour, and when it is set forward, every deadline is over at once. So the
service gives the reactor a clock that only ever runs on. It starts at the time of day, because
others print what it reads: twisted.web dates its log by it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any


def follow_monotonic_time(reactor: Any) -> None:
    """Replace ``reactor.seconds``; what was scheduled before keeps its time. Once is enough."""
    if getattr(reactor.seconds, "__module__", None) != __name__:
        reactor.seconds = _from_now_on()


def _from_now_on() -> Callable[[], float]:
    """Seconds since the epoch, as they were when this was made, and counted on from there."""
    monotonic = time.monotonic
    start = time.time() - monotonic()
    # Not an object that can be called: it is asked several times for each connection.
    return lambda: start + monotonic()
