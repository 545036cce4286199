"""Chance that is the same everywhere."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


class Dice:
    """
    Draws from a seed.

    Made of :meth:`random.Random.random` alone, which is the one method whose results Python keeps
    from version to version (the :mod:`random` module, "Notes on Reproducibility").

    Args:
        seed: Makes all draws.
    """

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed).random

    def below(self, bound: int) -> int:
        """A whole number from 0 up to ``bound``, which is not reached."""
        return int(self.random() * bound)

    def pick(self, options: Sequence[T]) -> T:
        """One of them."""
        return options[int(self.random() * len(options))]

    def chance(self, odds: float) -> bool:
        """True with these odds."""
        return self.random() < odds

    def cut(self, data: bytes) -> list[bytes]:
        """The same bytes, in pieces."""
        pieces = []
        while data:
            size = 1 + self.below(self.pick((1, 3, 20, 70_000)))
            pieces.append(data[:size])
            data = data[size:]
        return pieces
