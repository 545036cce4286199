"""
Say goodbye so that it is heard, and be gone by a bound.

Closing is a procedure, not a call. ``close()`` on a socket that has unread bytes resets the
connection, and the reset can overtake the reply and destroy it (RFC 1122 section 4.2.2.13). So a
peer that may still be talking is lingered for: reply, half-close, read and discard until it has
finished too. And a close that waits for the peer waits for ever if the peer wishes it so, which is
why the gate, which keeps the bound, ends in an abort.
"""

from __future__ import annotations

from typing import Protocol


class Leaving(Protocol):
    """What a goodbye asks of the wire."""

    def write(self, data: bytes) -> None:
        """Queue bytes."""
        ...

    def half_close(self) -> None:
        """Say that nothing more will come, and go on reading. Over TLS, a close_notify."""
        ...

    def close(self) -> None:
        """Go as soon as what is queued has been sent."""
        ...

    def abort(self) -> None:
        """Go now, whatever is queued."""
        ...


def say_goodbye(wire: Leaving, reply: bytes, linger: bool) -> None:
    """
    Begin to go.

    Args:
        wire: Whom it is said to.
        reply: The last words.
        linger: Whether the peer may still be talking. Whoever owns the wire then waits until it has
            finished, and in either case no longer than a bound.
    """
    if reply:
        wire.write(reply)
    if linger:
        wire.half_close()
    else:
        wire.close()
