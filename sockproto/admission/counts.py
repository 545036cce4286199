"""How many there are: of all connections, of the pending ones, and of those of each source."""

from __future__ import annotations

from sockproto.admission.sources import Source


class Counts:
    """
    The connections that have been admitted and are not gone yet.

    Nothing is kept about a source that has no connection, so that this is never larger than what it
    counts.

    Attributes:
        connections: All of them, and those of which nobody knows yet whose they are.
        pending: Those without a verdict: in the clear, and of TLS (which cost more, and so are
            counted apart), indexed by a bool.
        connections_of, pending_of: The same by source, for those that have one.
    """

    __slots__ = ("connections", "connections_of", "pending", "pending_of")

    def __init__(self) -> None:
        self.connections = 0
        self.pending = [0, 0]
        self.connections_of: dict[Source, int] = {}
        self.pending_of: dict[Source, int] = {}

    def enter(self, source: Source | None, tls: bool) -> None:
        """One more is here, and pending."""
        self.connections += 1
        self.pending[tls] += 1
        if source is not None:
            self.connections_of[source] = self.connections_of.get(source, 0) + 1
            self.pending_of[source] = self.pending_of.get(source, 0) + 1

    def hold(self) -> None:
        """One more is here, of which nobody knows yet whose it is, and not pending."""
        self.connections += 1

    def settle(self, source: Source | None, tls: bool) -> None:
        """One is pending no more."""
        self.pending[tls] -= 1
        if source is not None:
            self.pending_of[source] -= 1
            if not self.pending_of[source]:
                del self.pending_of[source]

    def leave(self, source: Source | None) -> None:
        """One that is not pending is gone."""
        self.connections -= 1
        if source is not None:
            _one_less(self.connections_of, source)


def _one_less(counts: dict[Source, int], source: Source) -> None:
    left = counts[source] - 1
    if left:
        counts[source] = left
    else:
        del counts[source]
