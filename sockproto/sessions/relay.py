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
    input is passed on as a half-close; over TLS, which has none, as a close_notify. If nobody reads
    standard output any more, the connection is aborted.

    Args:
        stdin, stdout: Their descriptors. They stay open, and may be non-blocking afterwards.
        reactor: Twisted's reactor; the installed one unless given.

    Attributes:
        finished: Fires when all that the peer has sent is written: True if the peer finished, False
            if the connection broke, or if nobody took what it has sent.
    """

    def __init__(self, stdin: int = 0, stdout: int = 1, reactor: Any = None) -> None:
        self.finished: Deferred[bool] = Deferred()
        self._stdin, self._stdout, self._reactor = stdin, stdout, reactor
        self._terminal: Any = None
        self._printing = True
        self._clean = True
        self._finished = False

    def connectionMade(self) -> None:
        """Open standard input and output."""
        from twisted.internet import stdio

        transport: Any = self.transport
        # Twisted's types follow its Windows version, which has no descriptors.
        open_terminal: Any = stdio.StandardIO
        self._terminal = open_terminal(_Terminal(self), self._stdin, self._stdout, self._reactor)
        transport.registerProducer(self._terminal, True)
        self._terminal.registerProducer(transport, True)

    def dataReceived(self, data: bytes) -> None:
        """The peer has said something: print it."""
        self._terminal.write(data)

    def readConnectionLost(self) -> None:
        """The peer has finished: so have we, once everything that is queued is sent."""
        self._finished = True
        transport: Any = self.transport
        transport.unregisterProducer()
        transport.loseConnection()

    def writeConnectionLost(self) -> None:
        """Our half-close has been sent."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The connection is gone: finish when everything is printed."""
        # A unix socket of which both ends are closed looks like one that broke (epoll(7)).
        self._clean = self._finished or bool(reason.check(ConnectionDone))
        if self._printing:
            self._terminal.unregisterProducer()
            self._terminal.loseConnection()
        else:
            # loseConnection() would wait for the writer, which is gone.
            self._terminal.connectionLost(reason)

    def finish_sending(self) -> None:
        """Standard input has ended."""
        transport: Any = self.transport
        transport.unregisterProducer()
        if hasattr(transport, "negotiatedProtocol"):
            transport.loseConnection()
        else:
            transport.loseWriteConnection()

    def stop_printing(self) -> None:
        """Nobody reads what the peer says."""
        self._printing = False
        # Not loseConnection(): a peer that waits for us to read does not read what we have queued.
        transport: Any = self.transport
        transport.abortConnection()

    def terminal_lost(self, reason: Failure) -> None:
        """Everything is printed, or cannot be: a disk may be full."""
        printed = self._printing and reason.check(ConnectionDone)
        self.finished.callback(self._clean and bool(printed))


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
        self._relay.stop_printing()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._relay.terminal_lost(reason)
