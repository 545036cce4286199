"""A real server on a free port of loopback, for a test."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sockproto.events import ConnectionEnded, Event, HandshakeEnded

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred
    from twisted.internet.interfaces import IListeningPort, IStreamClientEndpoint

    from sockproto.transport.server import ServerFactory


class RunningServer:
    """
    A server that is listening.

    Attributes:
        factory: The :class:`~sockproto.transport.server.ServerFactory` behind it.
        events: Every event so far, oldest first.
        port: Its port number; 0 for a unix socket.
    """

    def __init__(
        self, factory: ServerFactory, listening: IListeningPort, events: list[Event], reactor: Any
    ) -> None:
        self.factory = factory
        self.events = events
        self._listening = listening
        self._reactor = reactor
        # Asked now: a port that is closed does not know where it was.
        self._address: Any = listening.getHost()
        self.port: int = getattr(self._address, "port", 0)

    @property
    def endpoint(self) -> IStreamClientEndpoint:
        """What to connect to; for a server that speaks TLS, wrap it."""
        from twisted.internet.endpoints import HostnameEndpoint, UNIXClientEndpoint

        address = self._address
        if hasattr(address, "host"):
            return HostnameEndpoint(self._reactor, address.host, address.port)
        return UNIXClientEndpoint(self._reactor, address.name)

    @property
    def verdicts(self) -> list[HandshakeEnded]:
        """The verdicts so far, oldest first."""
        return [event for event in self.events if isinstance(event, HandshakeEnded)]

    @property
    def endings(self) -> list[ConnectionEnded]:
        """The connections that are over, oldest first."""
        return [event for event in self.events if isinstance(event, ConnectionEnded)]

    def say(self, data: bytes, *, finish: bool = False) -> Deferred[bytes]:
        """
        Connect, send bytes, and read to the end, as a client without any framework would.

        Args:
            data: What to send.
            finish: Whether to half-close afterwards.

        Returns:
            A Deferred of everything the server has sent.
        """
        from twisted.internet.endpoints import connectProtocol

        protocol = _raw_client()(data, finish)
        connecting = connectProtocol(self.endpoint, protocol)
        received: Deferred[bytes] = connecting.addCallback(lambda _: protocol.received)
        return received

    def stop(self) -> Deferred[None]:
        """Close the port and end every connection; fires when nothing is left."""
        from twisted.internet.defer import maybeDeferred

        closed = maybeDeferred(self._listening.stopListening)
        return closed.addCallback(lambda _: self.factory.shut_down())


def serve(
    handshake: object,
    session: Any = None,
    *,
    listen: str = "tcp:0:interface=127.0.0.1",
    reactor: Any = None,
    **terms: Any,
) -> Deferred[RunningServer]:
    """
    Start a real server for a test.

    Under pytest the fixture ``sockproto_server`` does this and stops it; under trial write
    ``server = yield serve(…)`` and ``self.addCleanup(server.stop)``.

    Args:
        handshake: The rules.
        session: What follows an ``Accept``.
        listen: Where, as an endpoint string.
        reactor: Twisted's reactor; the installed one unless given.
        terms: ``limits``, ``admission``, ``observers`` and ``clock``, as at every entrance.

    Returns:
        A Deferred of the :class:`RunningServer`.
    """
    from twisted.internet.endpoints import serverFromString

    from sockproto.transport.server import ServerFactory

    if reactor is None:
        from twisted.internet import reactor
    events: list[Event] = []
    observers = [events.append, *terms.pop("observers", ())]
    factory = ServerFactory(handshake, session, observers=observers, **terms)
    listening = serverFromString(reactor, listen).listen(factory)
    running: Deferred[RunningServer] = listening.addCallback(
        lambda port: RunningServer(factory, port, events, reactor)
    )
    return running


def _raw_client() -> Any:
    from twisted.internet.defer import Deferred
    from twisted.internet.protocol import Protocol

    class RawClient(Protocol):
        def __init__(self, data: bytes, finish: bool) -> None:
            self._data, self._finish = data, finish
            self._parts: list[bytes] = []
            self.received: Deferred[bytes] = Deferred()

        def connectionMade(self) -> None:
            transport: Any = self.transport
            transport.write(self._data)
            if self._finish:
                transport.loseWriteConnection()

        def dataReceived(self, data: bytes) -> None:
            self._parts.append(data)

        def connectionLost(self, reason: Any = None) -> None:
            self.received.callback(b"".join(self._parts))

    return RawClient
