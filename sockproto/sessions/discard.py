"""
Read everything, keep nothing and say nothing (RFC 863).

What is still queued when the peer half-closes, such as the handshake's reply, reaches it first.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Protocol
from zope.interface import implementer


@implementer(IHalfCloseableProtocol)
class Discard(Protocol):
    """Read and drop whatever arrives, until the peer has said everything."""

    transport: Any

    def dataReceived(self, data: bytes) -> None:
        """Drop it."""

    def readConnectionLost(self) -> None:
        """Close, once everything that is queued is written."""
        # Left to Twisted, the end of the peer's bytes would drop our unsent ones.
        self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        """Never happens by itself: we close both directions at once."""
