"""Join a connection to standard input and output: ``sockproto connect``, after ``Accept``."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IHalfCloseableProtocol, IPushProducer
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from sockproto.limits import Limits
from sockproto.transport.watch import Watch

QUIET = 2.0
"""
Seconds without a byte after which a peer over TLS is taken to have answered all that we have sent.
A packet that was lost is sent again after one (RFC 6298 section 2).
"""


@implementer(IHalfCloseableProtocol, IPushProducer)
class Relay(Protocol):
    """
    Copies standard input to the peer and the peer to standard output, until the peer has finished.

    Each side waits for the other: nothing is read that could not be written. The end of standard
    input is passed on as a half-close. Over TLS there is none, and many a server drops what it has
    yet to say when it gets a close_notify; so that is sent when nothing has moved for
    :data:`QUIET`. If nobody reads standard output any more, the connection is aborted.

    Args:
        stdin, stdout: Their descriptors. They stay open, and may be non-blocking afterwards.
        reactor: Twisted's reactor; the installed one unless given.

    Attributes:
        finished: Fires when all that the peer has sent is written: True if the peer finished, False
            if the connection broke, or if nobody took what it has sent.
        broken_by: What has ended the connection, if that was no orderly end.
    """

    broken_by: BaseException | None = None

    def __init__(self, stdin: int = 0, stdout: int = 1, reactor: Any = None) -> None:
        self.finished: Deferred[bool] = Deferred()
        self._stdin, self._stdout, self._reactor = stdin, stdout, reactor
        self._terminal: Any = None
        self._printing = True
        self._clean = True
        self._finished = False
        # Only over TLS, and only when standard input has ended.
        self._waits = self._paused = False
        self._watch: Watch | None = None
        self._call: Any = None

    def connectionMade(self) -> None:
        """Open standard input and output."""
        from twisted.internet import stdio

        transport: Any = self.transport
        # Twisted's types follow its Windows version, which has no descriptors.
        open_terminal: Any = stdio.StandardIO
        self._terminal = open_terminal(_Terminal(self), self._stdin, self._stdout, self._reactor)
        transport.registerProducer(self._terminal, True)
        self._terminal.registerProducer(self, True)

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
        if not self._clean:
            self.broken_by = reason.value
        self._waits = False
        self._stop_watching()
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
            self._waits = True
            self._watch_peer()
        else:
            transport.loseWriteConnection()

    def pauseProducing(self) -> None:
        """Standard output takes no more for now (IPushProducer); that is not the peer's silence."""
        self._paused = True
        self._stop_watching()
        transport: Any = self.transport
        transport.pauseProducing()

    def resumeProducing(self) -> None:
        """It does again."""
        self._paused = False
        self._watch_peer()
        transport: Any = self.transport
        transport.resumeProducing()

    def stopProducing(self) -> None:
        """Standard output is gone."""
        transport: Any = self.transport
        transport.stopProducing()

    def stop_printing(self) -> None:
        """Nobody reads what the peer says."""
        self._printing = False
        # Not loseConnection(): a peer that waits for us to read does not read what we have queued.
        transport: Any = self.transport
        transport.abortConnection()

    def _watch_peer(self) -> None:
        if self._waits and not self._paused:
            now = self._clock.seconds()
            self._watch = Watch(self.transport, Limits(session_idle_timeout=QUIET), now)
            self._look_at(self._watch.due, now)

    def _look_at(self, due: float, now: float) -> None:
        # A transport that cannot be watched has no due time, and is left after one round.
        self._call = self._clock.callLater(min(due - now, QUIET), self._look)

    def _stop_watching(self) -> None:
        watching, self._watch = self._watch, None
        if watching is not None:
            watching.stop()
        call, self._call = self._call, None
        if call is not None and call.active():
            call.cancel()

    def _look(self) -> None:
        watching, now = self._watch, self._clock.seconds()
        assert watching is not None
        if not watching.is_over(now):
            self._look_at(watching.due, now)
            return
        self._waits = False
        self._stop_watching()
        self._finished = True
        transport: Any = self.transport
        transport.loseConnection()
        # Or it would wait for the peer's close_notify, and that may never come.
        self._call = self._clock.callLater(QUIET, transport.abortConnection)

    @property
    def _clock(self) -> Any:
        if self._reactor is None:
            from twisted.internet import reactor

            self._reactor = reactor
        return self._reactor

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
