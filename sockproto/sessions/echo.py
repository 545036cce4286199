"""
Send back whatever arrives (RFC 862).

A peer that sends without reading cannot fill our memory: while the transport has more to write than
its buffer should hold, nothing more is read, and TCP makes the peer wait. A peer that half-closes
gets the rest of its echo, and then the end.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IHalfCloseableProtocol, IPushProducer
from twisted.internet.protocol import Protocol
from zope.interface import implementer


@implementer(IHalfCloseableProtocol, IPushProducer)
class Echo(Protocol):
    """Send back whatever arrives, at the pace at which the peer reads it."""

    # Transport, consumer and producer at once: Twisted has no type for that.
    transport: Any

    def connectionMade(self) -> None:
        """Ask to be told when the write buffer is full."""
        self.transport.registerProducer(self, True)

    def dataReceived(self, data: bytes) -> None:
        """Send it back."""
        self.transport.write(data)

    def pauseProducing(self) -> None:
        """The write buffer is full: read nothing more."""
        self.transport.pauseProducing()

    def resumeProducing(self) -> None:
        """The write buffer is empty: read on, or let a close that waited for that go ahead."""
        # A transport that was told to close while its producer was paused resumes it once all is
        # written, and closes when it unregisters. With registerProducer(self.transport, True), the
        # usual recipe, that never happens, and the connection stays for ever.
        self.transport.unregisterProducer()
        self.transport.registerProducer(self, True)
        self.transport.resumeProducing()

    def stopProducing(self) -> None:
        """The transport is gone, and so is whatever was still to be sent."""

    def readConnectionLost(self) -> None:
        """The peer has said everything: send the rest of the echo, then close."""
        self.transport.unregisterProducer()
        self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        """Never happens by itself: we close both directions at once."""
