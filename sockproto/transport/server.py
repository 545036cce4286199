"""The server's side: a protocol and a factory for any of Twisted's stream endpoints."""

from __future__ import annotations

from typing import Any

from twisted.internet import protocol

from sockproto.transport.factory import EntranceFactory
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
    :class:`~sockproto.transport.factory.EntranceFactory`.
    """

    side_name = "serve"

    def buildProtocol(self, addr: Any) -> ServerProtocol:
        """Make the protocol for a connection that has come in."""
        built = ServerProtocol(self.terms)
        built.factory = self
        return built
