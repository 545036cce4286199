"""
Pass a connection on to a backend, and be nothing but a wire between the two.

- The backend is connected to only now, when the peer has been accepted, and by a deadline. Until
  then nothing is read from the client; what it has sent with its handshake goes first, and once.
- Each end is read at the pace at which the other one takes it. What waits in between is at most
  what a transport holds before it pauses its producer, and one read more: about 128 KiB each way.
- An end passes as an end: who has finished sending may go on receiving. TLS has no half-close;
  there a close_notify follows everything that was sent, and the other direction lasts only until
  the peer answers it.
- A reset, or a TLS connection that is cut off, passes as an abort. A clean goodbye waits until what
  is queued has been sent, but not for ever.

Both ends are of one kind, and each is the producer of the other one's transport.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import clientFromString
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import (
    IDelayedCall,
    IHalfCloseableProtocol,
    IHandshakeListener,
    IPushProducer,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from sockproto.core.arguments import Endpoint
from sockproto.core.errors import ConfigurationError
from sockproto.transport.descriptions import refuse_long_path
from sockproto.transport.facts import address_of, speaks_tls
from sockproto.transport.proxy import v1_header, v2_header
from sockproto.transport.reasons import in_one_line

_HEADERS = {"off": None, "v1": v1_header, "v2": v2_header}

_log = Logger()


class Forward(Factory):
    """
    Pass the connection on to a backend.

    A backend that refuses, or does not answer in time, is a line in the log, and the client's
    connection is closed.

    Args:
        endpoint: Where the backend is, as ``tcp:HOST:PORT`` or ``unix:PATH``.
        connect_timeout: Seconds until it must have answered; over TLS, until that is established.
        close_timeout: Seconds for what is still queued when the conversation is over. Enough for a
            client that takes 4 KiB a second.
        proxy: What the backend is told about the client before anything else: ``v1`` or ``v2`` for
            a PROXY header of that version, ``off`` for nothing. On a TLS endpoint it is encrypted.
        reactor: Twisted's reactor; the installed one unless given.

    Raises:
        ConfigurationError: If the endpoint is none, or another argument makes no sense.
    """

    noisy = False

    def __init__(
        self,
        endpoint: Endpoint,
        connect_timeout: float = 5.0,
        close_timeout: float = 30.0,
        proxy: str = "off",
        reactor: Any = None,
    ) -> None:
        if reactor is None:
            from twisted.internet import reactor
        for name, value in [("connect_timeout", connect_timeout), ("close_timeout", close_timeout)]:
            if not value > 0:
                raise ConfigurationError(f"{name} must be above zero, got {value:g}")
        if proxy not in _HEADERS:
            raise ConfigurationError(f"proxy must be one of {', '.join(_HEADERS)}, got {proxy!r}")
        try:
            refuse_long_path(endpoint)
            self.backend = clientFromString(reactor, endpoint)
        except Exception as error:
            raise ConfigurationError(
                f"{endpoint!r} is no endpoint ({in_one_line(error)}); "
                "write it like tcp:127.0.0.1:8001 or unix:/run/door"
            ) from error
        self.endpoint = endpoint
        self.connect_timeout = connect_timeout
        self.close_timeout = close_timeout
        self.header = _HEADERS[proxy]
        self.clock = reactor

    def buildProtocol(self, addr: Any) -> _Client:
        """Make the session of one client."""
        return _Client(self)


@implementer(IHalfCloseableProtocol, IPushProducer)
class _End(Protocol):
    """One of the two ends: what it receives, the other one sends."""

    # Transport, consumer and producer at once: Twisted has no type for that.
    transport: Any

    def __init__(self, forward: Forward) -> None:
        self._forward = forward
        self._other: _End | None = None
        self._heard_all = False
        self._said_all = False
        self._bound: IDelayedCall | None = None

    def join(self, other: _End) -> None:
        """Begin to send what the other end receives."""
        self._other = other
        self.transport.registerProducer(other, True)

    # What Twisted tells

    def dataReceived(self, data: bytes) -> None:
        """Pass it on; with nobody there any more, drop it."""
        other = self._other
        if other is not None:
            other.transport.write(data)

    def readConnectionLost(self) -> None:
        """The peer has finished sending (IHalfCloseableProtocol)."""
        self._heard_all = True
        if self._other is not None:
            self._other.finish()
        if self._said_all:
            self.close()

    def writeConnectionLost(self) -> None:
        """Our half-close has been sent."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The connection is gone: so is the other one, in the same manner."""
        if self._bound is not None and self._bound.active():
            self._bound.cancel()
        other, self._other = self._other, None
        if other is not None:
            other.stand_alone(clean=bool(reason.check(ConnectionDone)))

    def pauseProducing(self) -> None:
        """The other end has enough to send (IPushProducer)."""
        self.transport.pauseProducing()

    def resumeProducing(self) -> None:
        """It has sent everything."""
        if self._other is None:
            return
        # A transport that was told to close while its producer was paused closes only when that
        # unregisters.
        self._other.transport.unregisterProducer()
        self._other.transport.registerProducer(self, True)
        self.transport.resumeProducing()

    def stopProducing(self) -> None:
        """Its transport is gone; its ``connectionLost`` follows."""

    # What the ends tell each other

    def finish(self) -> None:
        """The other end's peer has finished sending: say so to ours."""
        self._said_all = True
        if self._heard_all or not self._can_half_close:
            self.close()
        else:
            self.transport.unregisterProducer()
            self.transport.loseWriteConnection()

    def stand_alone(self, *, clean: bool) -> None:
        """The other end is gone."""
        self._other = None
        if clean:
            self.close()
        else:
            self.abort()

    def close(self) -> None:
        """Go when what is queued has been sent, and the peer has finished; by a bound, anyway."""
        transport = self.transport
        if self._bound is None:
            forward = self._forward
            self._bound = forward.clock.callLater(forward.close_timeout, self.abort)
            transport.unregisterProducer()
        if self._heard_all or not self._can_half_close:
            transport.loseConnection()
        elif not self._said_all:
            self._said_all = True
            transport.loseWriteConnection()
        if not self._heard_all:
            # The peer's close_notify has to be read; and a socket that is closed with bytes unread
            # resets the connection, which can destroy what we have sent.
            transport.resumeProducing()

    def abort(self) -> None:
        """Go now."""
        self.transport.unregisterProducer()
        self.transport.abortConnection()

    @property
    def _can_half_close(self) -> bool:
        transport = self.transport
        return hasattr(transport, "loseWriteConnection") and not speaks_tls(transport)


class _Client(_End):
    """The end that was there first."""

    _backend: _Backend | None = None

    def connectionMade(self) -> None:
        """Connect to the backend; until it is there, nothing is read."""
        self.transport.pauseProducing()
        forward = self._forward
        timeout = forward.connect_timeout
        self._deadline: IDelayedCall = forward.clock.callLater(
            timeout, self._give_up, f"no answer within {timeout:g} s"
        )
        self._connecting: Deferred[Any] = forward.backend.connect(_BackendFactory(self))
        self._connecting.addCallbacks(
            self._connected, lambda failure: self.backend_failed(failure.value)
        )

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The connection is gone, perhaps before the backend was there."""
        self._stop_connecting()
        super().connectionLost(reason)

    def backend_ready(self, backend: _Backend) -> None:
        """The backend takes bytes."""
        self._deadline.cancel()
        self._backend = None
        transport = self.transport
        header = self._forward.header
        if header is not None:
            ends = address_of(transport.getPeer()), address_of(transport.getHost())
            backend.transport.write(header(*ends))
        self.join(backend)
        backend.join(self)
        transport.resumeProducing()

    def backend_failed(self, error: BaseException | None) -> None:
        """The backend refuses, or is lost before it takes bytes."""
        self._backend = None
        # Without a deadline it is we who have given up.
        if self._deadline.active():
            self._give_up(in_one_line(error))

    def _connected(self, backend: _Backend) -> None:
        if speaks_tls(backend.transport):
            self._backend = backend
        else:
            self.backend_ready(backend)

    def _give_up(self, why: str) -> None:
        self._stop_connecting()
        # A unix socket's address is a path that the peer has chosen.
        client = str(address_of(self.transport.getPeer())).encode("unicode_escape").decode()
        _log.warn(
            "cannot forward {client} to {endpoint}: {why}",
            client=client,
            endpoint=self._forward.endpoint,
            why=why,
        )
        self.close()

    def _stop_connecting(self) -> None:
        if self._deadline.active():
            self._deadline.cancel()
        self._connecting.cancel()
        backend, self._backend = self._backend, None
        if backend is not None:
            backend.abort()


@implementer(IHandshakeListener)
class _Backend(_End):
    """The end that we have connected to, for one client."""

    def __init__(self, client: _Client) -> None:
        super().__init__(client._forward)
        self._client = client

    def connectionMade(self) -> None:
        """Step in front of what an endpoint wraps around its protocols."""
        # It would announce only one of the interfaces we have, so that over a plain connection we
        # should not hear of a half-close; and nothing has to stand in the data path.
        if not speaks_tls(self.transport):
            self.transport.protocol = self

    def handshakeCompleted(self) -> None:
        """TLS is established (IHandshakeListener)."""
        self._client.backend_ready(self)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The connection is gone, perhaps before it was of use."""
        self._client.backend_failed(reason.value)
        super().connectionLost(reason)


class _BackendFactory(Factory):
    noisy = False

    def __init__(self, client: _Client) -> None:
        self._client = client

    def buildProtocol(self, addr: Any) -> _Backend:
        return _Backend(self._client)
