"""Transports in memory, in virtual time: what the shell stands on where there is no network."""

from __future__ import annotations

from typing import Any

from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure


class MemoryTransport(StringTransport):
    """
    A transport that half-closes, and has a write buffer that can be full, as TCP has.

    Attributes:
        half_closed: Whether we have said that nothing more will come.
        aborted: Whether we have gone without waiting for the peer.
        unread: How many bytes the peer has not read.
    """

    BUFFER = 65536

    half_closed = aborted = False
    unread = 0

    def write(self, data: bytes) -> None:
        """Queue bytes; a producer is told when the peer does not take them."""
        super().write(data)
        self.unread += len(data)
        if self.producer is not None and self.unread > self.BUFFER:
            self.producer.pauseProducing()

    def loseWriteConnection(self) -> None:
        """Send a FIN."""
        self.half_closed = True

    def abortConnection(self) -> None:
        """Go at once."""
        self.aborted = True
        super().abortConnection()


class MemoryConnection:
    """
    A protocol on a transport in memory; its user is the peer, and the reactor.

    Args:
        protocol: What is connected.
        transport: What it is connected to; one of its own unless given.
    """

    def __init__(self, protocol: Any, transport: Any = None) -> None:
        here: Any = MemoryTransport() if transport is None else transport
        self.transport = here
        self.lost = False
        # A session takes the protocol's place there, as on a real transport.
        here.protocol = protocol
        protocol.makeConnection(here)

    def send(self, data: bytes) -> None:
        """The peer says something; nobody hears it on a connection that is lost."""
        if not self.lost:
            self.transport.protocol.dataReceived(data)

    def send_eof(self) -> None:
        """The peer finishes sending."""
        if self.lost:
            return
        protocol = self.transport.protocol
        if IHalfCloseableProtocol.providedBy(protocol):
            protocol.readConnectionLost()
        else:
            self.lose()

    def lose(self, why: BaseException | None = None) -> None:
        """The connection is gone."""
        if not self.lost:
            self.lost = True
            self.transport.protocol.connectionLost(Failure(why or ConnectionDone()))

    def settle(self) -> None:
        """Do what the reactor does with a transport that was told to go."""
        if self.transport.disconnecting:
            self.lose(ConnectionAborted() if self.transport.aborted else None)

    @property
    def received(self) -> bytes:
        """All that the peer has got."""
        return bytes(self.transport.value())

    @property
    def goodbye(self) -> str:
        """How far we are from being gone: ``aborted``, ``closed``, ``half-closed`` or ``open``."""
        if self.transport.aborted:
            return "aborted"
        if self.transport.disconnecting:
            return "closed"
        return "half-closed" if self.transport.half_closed else "open"
