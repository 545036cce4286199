"""
Until when something counts against each of many sources.

Strangers choose their own addresses, so whatever is remembered about them needs a bound: a full
table forgets the source whose time is up first. Every step costs the same however full the table
is, and whatever order they come in, since an attacker chooses that too. So the sources are kept in
buckets of one second, and the soonest to expire is found to the second; a heap of sources would
have to be searched when a time moves, or tidied up all at once.
"""

from __future__ import annotations

from heapq import heappop, heappush

from sockproto.admission.sources import Source

MAX_SOURCES = 65_536
"""How many sources a table remembers; as many as OpenSSH (``max-sources4``, sshd_config(5))."""


class Expiries:
    """
    A time for each source, forgotten when it has passed.

    Args:
        max_sources: The most sources that are remembered.

    Attributes:
        marked: Sources that somebody has put a mark on; it goes when they are forgotten.
    """

    __slots__ = ("_buckets", "_max_sources", "_order", "_until", "marked")

    def __init__(self, max_sources: int = MAX_SOURCES) -> None:
        self.marked: set[Source] = set()
        self._max_sources = max_sources
        self._until: dict[Source, float] = {}
        self._buckets: dict[int, set[Source]] = {}
        # The seconds that have a bucket, as a heap.
        self._order: list[int] = []

    def __len__(self) -> int:
        return len(self._until)

    def until(self, source: Source) -> float:
        """The time of a source; 0, which is long ago, if nothing is known about it."""
        return self._until.get(source, 0.0)

    def put(self, source: Source, until: float, now: float) -> None:
        """Remember a source's time in the place of the one it had."""
        second = int(until)
        before = self._until.get(source)
        if before is None:
            self._make_room(now, len(self._until) >= self._max_sources)
        elif int(before) == second:
            self._until[source] = until
            return
        else:
            self._buckets[int(before)].remove(source)
            self._make_room(now, False)
        self._until[source] = until
        bucket = self._buckets.get(second)
        if bucket is None:
            self._buckets[second] = {source}
            heappush(self._order, second)
        else:
            bucket.add(source)

    def _make_room(self, now: float, needed: bool) -> None:
        """Forget what has expired; and the soonest to expire if room is needed."""
        # Two that have expired go for each that comes, or a table that once was large would stay
        # so; and no more than two, or somebody would have to wait for it.
        for _ in range(2):
            while self._order and not self._buckets[self._order[0]]:
                del self._buckets[heappop(self._order)]
            if not self._order:
                return
            first = self._order[0]
            if first + 1 > now and not needed:
                return
            needed = False
            source = self._buckets[first].pop()
            del self._until[source]
            self.marked.discard(source)


def by_family(max_sources: int) -> dict[str, Expiries]:
    """A table for each family of addresses, so that a flood in one leaves the others alone."""
    return {family: Expiries(max_sources) for family in ("inet", "inet6", "unix", "memory")}
