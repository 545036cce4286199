"""What the attackers have done and seen, in numbers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Tally:
    """
    What the attackers have done and seen.

    Attributes:
        attempts: How often one began to connect.
        connected: How often the kernel said that it is; the server need not have accepted.
        failed: How often it said that it cannot be.
        closed: How often the server was the first to finish.
        reset: How often it reset the connection, or was found to be gone.
        answered: How often a flooding one got its answer.
        sent, heard: Bytes.
        most: The most that were connected at once.
    """

    attempts: int = 0
    connected: int = 0
    failed: int = 0
    closed: int = 0
    reset: int = 0
    answered: int = 0
    sent: int = 0
    heard: int = 0
    most: int = 0
