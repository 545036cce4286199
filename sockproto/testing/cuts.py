"""Every way in which a network may cut a stream of bytes, as far as that can be tried."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from random import Random


def every_cut(data: bytes, *, random_cuts: int = 0, seed: int = 0) -> Iterator[tuple[bytes, ...]]:
    """
    Cut bytes in every way that usually finds a mistake.

    First whole, then byte by byte, then in two at every place, then at random places. No chunk is
    ever empty, and the chunks of a cut, joined, are the data again; no bytes at all are one cut
    without a chunk. Their number grows with the length of the data, and their size too: keep it to
    a few kilobytes.

    Args:
        data: What to cut.
        random_cuts: How many random cuts, into three chunks or more, come last; none if the data
            is so short (up to three bytes) that all the cuts there are have been given.
        seed: Decides where the random cuts are; the same seed gives the same cuts.
    """
    size = len(data)
    yield (data,) if data else ()
    if size > 1:
        yield tuple(data[at : at + 1] for at in range(size))
    if size > 2:
        for at in range(1, size):
            yield data[:at], data[at:]
    if size > 3:
        random = Random(seed)
        for _ in range(random_cuts):
            places = sorted(random.sample(range(1, size), random.randint(2, size - 2)))
            edges = [0, *places, size]
            yield tuple(data[start:end] for start, end in pairwise(edges))
