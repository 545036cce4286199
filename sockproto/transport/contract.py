"""What a gate needs of the thing that holds the socket, be it Twisted's transport or our own."""

from __future__ import annotations

from typing import Any, Protocol

from sockproto.core.outcomes import Accept
from sockproto.transport.closing import Leaving


class Wire(Leaving, Protocol):
    """One socket, as a gate sees it: it says what is to be done, and is told what has happened."""

    def leave(self) -> None:
        """Be gone at once: with a plain close if nothing is owed, else with an abort."""
        ...

    def start_tls(self, early: bytes) -> None:
        """
        Speak TLS from here on, and call its gate's ``tls_established()`` when it is.

        Args:
            early: The first bytes of it, which have been read already.
        """
        ...

    def pause_reading(self) -> None:
        """Take no more bytes from the network for now."""
        ...

    def resume_reading(self) -> None:
        """Take bytes again."""
        ...

    def build_session(self, factory: Any) -> Any:
        """Have the factory build a session for this peer; None if it declines."""
        ...

    def hand_over(
        self, gate: Any, session: Any, accept: Accept, early: bytes, *, ended: bool
    ) -> None:
        """
        Make ``session`` the one that the transport talks to, under ``gate.lease(…)``.

        Calls :meth:`concluded` when the session has begun, before it is given a byte; whoever
        waits for the session then sees all that it receives.
        """
        ...

    def concluded(self, verdict: Accept | BaseException, session: Any) -> None:
        """What has come of the handshake; ``session`` has begun, or is None."""
        ...
