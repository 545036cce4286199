"""
Sockets and time, for thousands of clients in one process.

Not Twisted's reactor: what judges a server, or attacks it, shares no code with it. And not asyncio:
a connection here is one object that is told of its own readiness, which costs a tenth.
"""

from __future__ import annotations

import select
import time
from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count

IN, OUT, ENDED = select.EPOLLIN, select.EPOLLOUT, select.EPOLLHUP | select.EPOLLERR
"""What a descriptor can be ready for. Its end is told whether or not one waits for it."""

LONGEST_WAIT = 0.5
MAX_EVENTS = 512


class Loop:
    """
    Tells those who watch a descriptor that it is ready, and calls what is due.

    New descriptors are to be opened in what is called when it is due, and not by a watcher: one
    that another watcher has just closed would get the same number, and be told of its events.
    """

    def __init__(self) -> None:
        self.now = time.monotonic()
        self._poll = select.epoll()
        self._watchers: dict[int, Callable[[int], object]] = {}
        self._due: list[tuple[float, int, Callable[[], object]]] = []
        self._numbers = count()
        self._stopped = False

    def watch(self, descriptor: int, events: int, watcher: Callable[[int], object]) -> None:
        """Have somebody told of these events, from now on."""
        self._poll.register(descriptor, events)
        self._watchers[descriptor] = watcher

    def change(self, descriptor: int, events: int) -> None:
        """Have it told of these instead."""
        self._poll.modify(descriptor, events)

    def forget(self, descriptor: int) -> None:
        """Tell it nothing more; to be called before the descriptor is closed."""
        if self._watchers.pop(descriptor, None) is not None:
            self._poll.unregister(descriptor)

    def call_at(self, when: float, callback: Callable[[], object]) -> None:
        """Call something, once it is so late. It cannot be taken back."""
        heappush(self._due, (when, next(self._numbers), callback))

    def stop(self) -> None:
        """End :meth:`run`, after this turn."""
        self._stopped = True

    def run(self) -> None:
        """Turn, until somebody says stop."""
        while not self._stopped:
            self.turn()

    def turn(self) -> None:
        """Wait for what comes next, and pass it on."""
        wait = LONGEST_WAIT
        if self._due:
            wait = min(wait, max(0.0, self._due[0][0] - time.monotonic()))
        ready = self._poll.poll(wait, MAX_EVENTS)
        self.now = time.monotonic()
        for descriptor, events in ready:
            # Somebody earlier in this turn may have closed it.
            watcher = self._watchers.get(descriptor)
            if watcher is not None:
                watcher(events)
        # Only what is due already: what it asks for in turn has to wait for the next.
        due = []
        while self._due and self._due[0][0] <= self.now:
            due.append(heappop(self._due)[2])
        for callback in due:
            callback()
