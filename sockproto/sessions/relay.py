"""Join a connection to standard input and output: ``sockproto connect``, after ``Accept``."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer


@implementer(IHalfCloseableProtocol)
class Relay(Protocol):
    """
    Copies standard input to the peer and the peer to standard output, until the peer has finished.

    Each side waits for the other: nothing is read that could not be written. The end of standard
    input is passed on as a half-close; over TLS, which has none, as a close_notify.

    Attributes:
        finished: Fires when all that the peer has sent is written: True if the peer finished, False
            if the connection broke.
    """

    def __init__(self) -> None:
        self.finished: Deferred[bool] = Deferred()
        self._terminal: Any = None
        self._clean = True

    def connectionMade(self) -> None:
        """Open standard input and output."""
        from twisted.internet.stdio import StandardIO

        transport: Any = self.transport
        # What arrives before there is a place for it waits: the terminal may
        # call back at once.
        self._terminal = StandardIO(_Terminal(self))
        transport.registerProducer(self._terminal, True)
        self._terminal.registerProducer(transport, True)

    def dataReceived(self, data: bytes) -> None:
        """The peer has said something: print it."""
        self._terminal.write(data)

    def readConnectionLost(self) -> None:
        """The peer has finished."""
        self.close()

    def writeConnectionLost(self) -> None:
        """Our half-close has been sent."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The connection is gone: finish when everything is printed."""
        self._clean = bool(reason.check(ConnectionDone))
        self._terminal.unregisterProducer()
        self._terminal.loseConnection()

    def finish_sending(self) -> None:
        """Standard input has ended."""
        transport: Any = self.transport
        transport.unregisterProducer()
        if hasattr(transport, "negotiatedProtocol"):
            transport.loseConnection()
        else:
            transport.loseWriteConnection()

    def close(self) -> None:
        """There is no more to do: the peer has finished, or nobody reads what it says."""
        transport: Any = self.transport
        transport.unregisterProducer()
        transport.loseConnection()

    def terminal_lost(self) -> None:
        """Everything is printed."""
        self.finished.callback(self._clean)


@implementer(IHalfCloseableProtocol)
class _Terminal(Protocol):
    """Standard input and output, as the relay sees them."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay

    def dataReceived(self, data: bytes) -> None:
        transport: Any = self._relay.transport
        transport.write(data)

    def readConnectionLost(self) -> None:
        self._relay.finish_sending()

    def writeConnectionLost(self) -> None:
        self._relay.close()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._relay.terminal_lost()
