"""The client's side: the same gate, from the other end."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from twisted.internet import protocol
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IProtocol,
    IProtocolFactory,
    IReactorTime,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from sockproto.admission.contract import Admission
from sockproto.core.errors import PeerDisconnected
from sockproto.core.handshake import ClientHandshake
from sockproto.core.outcomes import Accept
from sockproto.events import Observer
from sockproto.limits import DEFAULT_LIMITS, Limits
from sockproto.transport.factory import EntranceFactory, side_of
from sockproto.transport.terms import Sessions
from sockproto.transport.wire import TransportWire


class ClientProtocol(TransportWire):
    """
    Our connection to a server, until the session has taken over.

    Attributes:
        finished: Fires with the session once it has begun, or with the ``Accept`` if there is none,
            or fails with what ended the handshake; without a session not before the connection is
            gone, so that nothing is left behind.
    """

    def __init__(self, factory: ClientFactory) -> None:
        super().__init__(factory.terms)
        self.factory = factory
        self.finished: Deferred[Any] = Deferred()
        self._verdict: Accept | BaseException | None = None

    def connectionMade(self) -> None:
        """The connection is there."""
        transport: Any = self.transport
        # What an endpoint of Twisted's has put around us looks at what we provide too
        # early to pass on the end of the stream; and it would stay in the data path.
        wrapper = getattr(transport, "protocol", None)
        if getattr(wrapper, "_wrappedProtocol", None) is self:
            transport.protocol = self
        super().connectionMade()

    def concluded(self, verdict: Accept | BaseException, session: Any) -> None:
        """Fire ``finished`` with a session; keep anything else until the connection is gone."""
        if session is None:
            self._verdict = verdict
        else:
            self.finished.callback(session)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The connection is gone."""
        super().connectionLost(reason)
        verdict, self._verdict = self._verdict, None
        if isinstance(verdict, Accept):
            self.finished.callback(verdict)
        elif verdict is not None:
            if isinstance(verdict, PeerDisconnected):
                # With TLS 1.3 that may be an alert: a server looks at our certificate when
                # for us TLS is established (RFC 8446 section 4.4.2.4).
                verdict.__cause__ = reason.value
            factory = self.factory
            assert isinstance(factory, ClientFactory)
            factory.handshake_failed(verdict)
            self.finished.errback(Failure(verdict))

    def give_up(self) -> None:
        """Nobody waits for the handshake any more."""
        if self._gate is not None:
            self._gate.shut_down()
        self.abort()


class ClientFactory(EntranceFactory, protocol.ClientFactory):
    """
    Connects with a handshake in front, for ``reactor.connectTCP`` and its kin.

    A session factory that is a ``twisted.internet.protocol.ClientFactory`` itself hears of the
    connector, too. The arguments are those of
    :class:`~sockproto.transport.factory.EntranceFactory`.
    """

    side_name = "connect"

    def buildProtocol(self, addr: Any) -> ClientProtocol:
        """Make the protocol for a connection that we have made."""
        built = ClientProtocol(self)
        # Only an endpoint listens to it; a factory has handshake_failed().
        built.finished.addErrback(lambda _: None)
        return built

    def handshake_failed(self, error: BaseException) -> None:
        """The server was reached, but no session came of it. Does nothing; override it."""

    def startedConnecting(self, connector: Any) -> None:
        """An attempt begins."""
        self._tell("startedConnecting", connector)

    def clientConnectionFailed(self, connector: Any, reason: Failure) -> None:
        """The server could not be reached."""
        self._tell("clientConnectionFailed", connector, reason)

    def clientConnectionLost(self, connector: Any, reason: Failure) -> None:
        """The connection is gone."""
        self._tell("clientConnectionLost", connector, reason)

    def _tell(self, name: str, *arguments: Any) -> None:
        for factory in self._session_factories():
            if isinstance(factory, protocol.ClientFactory):
                getattr(factory, name)(*arguments)


@implementer(IStreamClientEndpoint)
class HandshakeEndpoint:
    """
    An endpoint whose connections have shaken hands.

    ``connect()`` succeeds only after ``Accept``, with the *session*, and fails with
    :class:`~sockproto.core.errors.Rejected` after ``Reject``, or with what else ended the
    handshake. So whatever works with endpoints (``ClientService`` with its back-off,
    ``connectProtocol``) works with handshakes.

    Args:
        endpoint: How to reach the server.
        handshake: The rules.
        limits, admission, observers, clock, tls: As at every entrance.

    Raises:
        TypeError: If ``handshake`` lacks ``connect``.
    """

    def __init__(
        self,
        endpoint: IStreamClientEndpoint,
        handshake: ClientHandshake,
        *,
        limits: Limits = DEFAULT_LIMITS,
        admission: Admission | None = None,
        observers: Iterable[Observer] = (),
        clock: IReactorTime | None = None,
        tls: Any = None,
    ) -> None:
        side_of(handshake, ClientFactory.side_name)
        self._endpoint = endpoint
        self._handshake = handshake
        self._terms: dict[str, Any] = {
            "limits": limits,
            "admission": admission,
            "observers": tuple(observers),
            "clock": clock,
            "tls": tls,
        }

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """Connect and shake hands; fires with what ``protocolFactory`` has built."""
        return self.connect_into(protocolFactory)

    def connect_into(self, session: Sessions) -> Deferred[Any]:
        """As :meth:`connect`, with several sessions by name or none; none fires with ``Accept``."""
        factory = _Tracked(self._handshake, session, **self._terms)

        def give_up(_: object) -> None:
            if factory.made is None:
                attempt.cancel()
            else:
                factory.made.give_up()

        def settle(outcome: Any) -> None:
            # A caller who has given up has been answered already.
            if not result.called:
                result.callback(outcome)

        def connected(_: object) -> None:
            assert factory.made is not None
            factory.made.finished.addBoth(settle)

        result: Deferred[Any] = Deferred(give_up)
        attempt = self._endpoint.connect(factory)
        attempt.addCallbacks(connected, settle)
        return result


class _Tracked(ClientFactory):
    """Makes one connection, and knows it, whatever the endpoint has wrapped around it."""

    made: ClientProtocol | None = None

    def buildProtocol(self, addr: Any) -> ClientProtocol:
        self.made = ClientProtocol(self)
        return self.made


def connect(
    endpoint: IStreamClientEndpoint,
    handshake: ClientHandshake,
    session: Sessions = None,
    *,
    limits: Limits = DEFAULT_LIMITS,
    admission: Admission | None = None,
    observers: Iterable[Observer] = (),
    clock: IReactorTime | None = None,
    tls: Any = None,
) -> Deferred[Any]:
    """
    Connect, and shake hands.

    Args:
        endpoint: How to reach the server, for example ``clientFromString(reactor, "tcp:…")``.
        handshake: The rules.
        session: What follows an ``Accept``; None closes the connection then.
        limits, admission, observers, clock, tls: As at every entrance.

    Returns:
        A Deferred that fires with the session, or without one with the ``Accept``, once the
        connection is gone. It fails with :class:`~sockproto.core.errors.Rejected` after a
        ``Reject``, or with what else went wrong; cancel it to give up.
    """
    shaking = HandshakeEndpoint(
        endpoint,
        handshake,
        limits=limits,
        admission=admission,
        observers=observers,
        clock=clock,
        tls=tls,
    )
    return shaking.connect_into(session)
