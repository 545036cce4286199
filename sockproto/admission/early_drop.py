"""
What happens as the pending handshakes become too many: some are refused early, and all must hurry.

A fixed cap lets whoever fills it keep everybody else out. So from a start on newcomers are dropped
at random, the more the fuller it is: a flood, which tries the most, loses the most, and an honest
peer that tries again comes in. These are the three numbers of ``MaxStartups``, sshd_config(5),
which has ``10:30:100``. We do not round the chance to whole percents.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from sockproto.core.errors import ConfigurationError

PRESSURE = 0.75
"""The part of the cap from which on peers have to hurry."""

LEAST_PATIENCE = 0.2
"""What is left of a handshake timeout at the cap: 2 of 10 seconds."""


@dataclass(frozen=True, slots=True)
class EarlyDrop:
    """
    The cap on pending handshakes.

    Attributes:
        start: Nobody is dropped while fewer than this are pending.
        rate: With ``start`` pending, the percentage of newcomers that is dropped; from there it
            rises in a straight line.
        full: Everybody is dropped while this many are pending.

    Raises:
        ConfigurationError: If these cannot be: ``1 <= start <= full``, and ``rate`` is 1 to 100.
    """

    start: int
    rate: int
    full: int

    def __post_init__(self) -> None:
        if not 1 <= self.start <= self.full:
            raise ConfigurationError(
                f"'{self}' starts to drop at {self.start} and is full at {self.full}; "
                "start at 1 or more, and not above what is full"
            )
        if not 1 <= self.rate <= 100:
            raise ConfigurationError(
                f"'{self}' drops {self.rate} percent at first; give from 1 to 100"
            )

    @classmethod
    def parse(cls, text: str) -> EarlyDrop:
        """
        Read a cap as operators write it: ``256:30:1024``, or ``1024`` for nothing random.

        Raises:
            ConfigurationError: If it is none.
        """
        match = re.fullmatch(r"([0-9]{1,9})(?::([0-9]{1,9}):([0-9]{1,9}))?", text)
        if match is None:
            raise ConfigurationError(
                f"{text!r} is not a cap on pending handshakes; "
                "write START:RATE:FULL like 256:30:1024, or one number"
            )
        start, rate, full = match.groups()
        if full is None:
            return cls(int(start), 100, int(start))
        return cls(int(start), int(rate), int(full))

    def odds(self, pending: int) -> float:
        """With which probability a newcomer is dropped while so many are pending."""
        if pending < self.start:
            return 0.0
        if pending >= self.full:
            return 1.0
        rate = self.rate / 100
        return rate + (1 - rate) * (pending - self.start) / (self.full - self.start)

    def patience(self, pending: int) -> float:
        """The part of its handshake timeout that the last of so many pending peers is given."""
        pressed = PRESSURE * self.full
        if pending <= pressed:
            return 1.0
        # No more than the cap are ever pending.
        return 1.0 - (1.0 - LEAST_PATIENCE) * (pending - pressed) / (self.full - pressed)

    def __str__(self) -> str:
        return f"{self.start}:{self.rate}:{self.full}"
