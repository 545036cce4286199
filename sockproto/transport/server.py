"""The server's side: a protocol and a factory for any of Twisted's stream endpoints."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from twisted.internet import protocol
from twisted.internet.interfaces import IReactorTime

from sockproto.admission.contract import Admission
from sockproto.events import Observer
from sockproto.limits import DEFAULT_LIMITS, Limits
from sockproto.transport.factory import EntranceFactory
from sockproto.transport.proxy import ProxyPolicy
from sockproto.transport.terms import Sessions
from sockproto.transport.wire import TransportWire


class ServerProtocol(TransportWire):
    """A client's connection to us, until its session has taken over."""


class ServerFactory(EntranceFactory, protocol.ServerFactory):
    """
    Listens with a handshake in front::

        factory = ServerFactory(Passphrase(b"sesame"), Factory.forProtocol(Echo))
        serverFromString(reactor, "tcp:8471").listen(factory)

    A peer is handed to a session only after the handshake's ``Accept``; without a session the reply
    is the whole conversation. The arguments are those of
    :class:`~sockproto.transport.factory.EntranceFactory`, and one more.

    Args:
        proxy: Whom we believe when they say, in a PROXY header, whose connection it is. Everybody
            has to begin with one then, and anybody else is refused.
    """

    side_name = "serve"

    def __init__(
        self,
        handshake: object,
        session: Sessions = None,
        *,
        limits: Limits = DEFAULT_LIMITS,
        admission: Admission | None = None,
        observers: Iterable[Observer] = (),
        clock: IReactorTime | None = None,
        tls: Any = None,
        proxy: ProxyPolicy | None = None,
    ) -> None:
        super().__init__(
            handshake,
            session,
            limits=limits,
            admission=admission,
            observers=observers,
            clock=clock,
            tls=tls,
        )
        if proxy is not None and not isinstance(proxy, ProxyPolicy):
            raise TypeError(f"proxy must be a ProxyPolicy(…), got a {type(proxy).__name__}")
        self._proxy = proxy

    def buildProtocol(self, addr: Any) -> ServerProtocol:
        """Make the protocol for a connection that has come in."""
        built = ServerProtocol(self.terms)
        built.factory = self
        return built
