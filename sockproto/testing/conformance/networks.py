"""
What may happen to the words of a peer on their way.

A network stands between a peer and the side that is looked at. It is told of each message and gives
the pieces in which it arrives; an end among them is :data:`END`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Final

END: Final = None
"""A piece that says: the peer has finished sending."""

Piece = bytes | None


class Network:
    """Brings everything as it was said."""

    def begin(self) -> Iterable[Piece]:
        """What arrives before the peer has said a word."""
        return ()

    def carry(self, message: bytes) -> Iterable[Piece]:
        """How a message arrives."""
        return (message,)

    def end(self) -> Iterable[Piece]:
        """How the end arrives."""
        return (END,)


class Staying(Network):
    """Keeps the peer there when it has said everything."""

    def end(self) -> Iterable[Piece]:
        return ()


class Cut(Network):
    """Cuts the stream at some places, counted in bytes from its beginning; without any, at all."""

    def __init__(self, places: Sequence[int] = ()) -> None:
        self._places = sorted(places)
        self._offset = 0

    def carry(self, message: bytes) -> Iterator[Piece]:
        if not self._places:
            yield from (message[at : at + 1] for at in range(len(message)))
            return
        start, end = self._offset, self._offset + len(message)
        edges = [start, *(place for place in self._places if start < place < end), end]
        for first, last in pairwise(edges):
            yield message[first - start : last - start]
        self._offset = end


class Edited(Network):
    """Changes the stream in one place: drops some bytes there, and puts others in."""

    def __init__(self, place: int, drop: int = 0, insert: bytes = b"", flip: int = 0) -> None:
        self._place, self._drop, self._insert, self._flip = place, drop, insert, flip
        self._offset = 0

    def carry(self, message: bytes) -> Iterator[Piece]:
        at = self._place - self._offset
        self._offset += len(message)
        if not 0 <= at < len(message):
            yield message
            return
        there = bytes([message[at] ^ self._flip])
        changed = message[:at] + self._insert + (there + message[at + 1 :])[self._drop :]
        if changed:
            yield changed


class Stopped(Network):
    """Loses everything after so many bytes, and says that it was the end."""

    def __init__(self, after: int) -> None:
        self._left = after
        self._over = False

    def begin(self) -> Iterator[Piece]:
        yield from self._stop()

    def carry(self, message: bytes) -> Iterator[Piece]:
        if self._left and message:
            yield message[: self._left]
            self._left = max(0, self._left - len(message))
            yield from self._stop()

    def end(self) -> Iterator[Piece]:
        self._left = 0
        yield from self._stop()

    def _stop(self) -> Iterator[Piece]:
        if not self._left and not self._over:
            self._over = True
            yield END


class Interrupted(Network):
    """After so many messages, brings something else; then nothing any more."""

    def __init__(self, after: int, *instead: Piece) -> None:
        self._left = after
        self._instead = instead

    def begin(self) -> Iterable[Piece]:
        return () if self._left else self._instead

    def carry(self, message: bytes) -> Iterator[Piece]:
        if self._left:
            yield message
            self._left -= 1
            if not self._left:
                yield from self._instead

    def end(self) -> Iterable[Piece]:
        return (END,) if self._left else ()


class Appended(Network):
    """Brings more bytes together with one of the messages, in one piece."""

    def __init__(self, message: int, more: bytes, *, ended: bool = False) -> None:
        self._message, self._more, self._ended = message, more, ended
        self._count = 0

    def carry(self, message: bytes) -> Iterator[Piece]:
        here = self._count == self._message
        self._count += 1
        yield message + self._more if here else message
        if here and self._ended:
            yield END

    def end(self) -> Iterable[Piece]:
        # A client that has hung up may be the one that the bytes are put behind.
        return () if self._ended and self._count > self._message else (END,)


class Again(Network):
    """Brings one of the messages twice."""

    def __init__(self, message: int) -> None:
        self._message = message
        self._count = 0

    def carry(self, message: bytes) -> Iterator[Piece]:
        yield message
        if self._count == self._message:
            yield message
        self._count += 1


class Padded(Network):
    """Brings pieces without a byte between the messages, as a careless transport would."""

    def carry(self, message: bytes) -> Iterator[Piece]:
        yield from (b"", message, b"")
