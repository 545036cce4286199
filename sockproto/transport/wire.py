"""The gate on any Twisted transport: the portable path, under server and client alike."""

from __future__ import annotations

import sys
from typing import Any

from twisted.internet.interfaces import (
    IHalfCloseableProtocol,
    IHandshakeListener,
    IPushProducer,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import directlyProvides, implementer

from sockproto.core.outcomes import Accept
from sockproto.transport.facts import answer_as, facts_of, speaks_tls, tls_facts_of
from sockproto.transport.gate import Gate
from sockproto.transport.handover import hand_over
from sockproto.transport.lease import Lease
from sockproto.transport.terms import Terms


def over_tls(protocol: Any, tls: Any, terms: Terms) -> Any:
    """Put TLS between a protocol and the transport that is to come."""
    from twisted.protocols.tls import TLSMemoryBIOFactory

    factory = TLSMemoryBIOFactory(tls, not terms.serving, Factory(), terms.clock)
    return factory.protocol(factory, protocol)


class _Establishing:
    """
    Stands before TLS until it is established, and gives it no more than that may take.

    OpenSSL keeps what is not a whole message yet, and takes one of 128 KiB; that would be memory
    for strangers. We cut what has come, and do not just count it: with the end of a handshake may
    come as much of the session as fits into one read.

    Args:
        tls: Twisted's TLS on a transport.
        gate: Who is told of bytes, and of too many.
        max_bytes: How many there may be.
    """

    def __init__(self, tls: Any, gate: Gate, max_bytes: int) -> None:
        self._tls = tls
        self._gate = gate
        self._left = max_bytes
        self._established = False
        tls.dataReceived = self.receive

    def receive(self, data: bytes) -> None:
        self._gate.tls_received()
        tls, left = self._tls, self._left
        now, later = data[:left], data[left:]
        if now:
            self._left -= len(now)
            type(tls).dataReceived(tls, now)
        # If it is going, TLS has found fault with what there was; or the session is done.
        if not later or tls.transport.disconnecting:
            return
        if self._established:
            tls.dataReceived(later)
        else:
            self._gate.tls_overflowed()

    def step_aside(self, *, established: bool) -> None:
        self._established = established
        del self._tls.dataReceived


@implementer(IHandshakeListener, IPushProducer)
class TransportWire(Protocol):
    """
    Twisted's protocol on a connection until a session has taken over, and the gate's wire.

    While a handshake is under way it is also registered as the transport's producer, as soon as
    there is something to write. Not to produce: a transport tells a streaming producer when more
    than 64 KiB wait to be sent, and there is no other way to learn that a peer does not read.

    Args:
        terms: The entrance that the connection comes through.
        gate: The connection's gate, if it has come some way without a transport.
    """

    def __init__(self, terms: Terms, gate: Gate | None = None) -> None:
        self._terms = terms
        self._gate = gate
        self._lease: Lease | None = None
        self._tls = self._half_closed = False
        self._establishing: _Establishing | None = None
        self._wrote = False
        self._producing = False

    # What Twisted tells

    def connectionMade(self) -> None:
        """Open the gate."""
        transport: Any = self.transport
        self._tls = speaks_tls(transport)
        if not self._tls:
            # Per instance, because what a class provides an instance cannot
            # drop, and over TLS there is no half-close.
            directlyProvides(self, IHalfCloseableProtocol)
        terms, gate = self._terms, self._gate
        is_new = gate is None
        if gate is None:
            gate = self._gate = Gate(terms, self, facts_of(transport, terms.names, tls=False))
        self.dataReceived = gate.data_received  # type: ignore[method-assign]
        if self._tls:
            # A server is one that we have chosen, and may have much to show.
            most = terms.limits.max_tls_bytes if terms.serving else sys.maxsize
            self._establishing = _Establishing(transport, gate, most)
        if is_new:
            gate.open(tls=self._tls)

    def handshakeCompleted(self) -> None:
        """TLS is established (IHandshakeListener)."""
        self._let_tls_go(established=True)
        if self._gate is not None:
            facts = tls_facts_of(self.transport, serving=self._terms.serving)
            self._gate.tls_established(facts)

    def readConnectionLost(self) -> None:
        """The peer has finished sending (IHalfCloseableProtocol)."""
        if self._gate is not None:
            self._gate.eof_received()

    def writeConnectionLost(self) -> None:
        """Our half-close has been sent."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The connection is gone, whoever had it."""
        gate, self._gate = self._gate, None
        lease, self._lease = self._lease, None
        self._let_tls_go(established=False)
        # Methods of gate and session that stand in for ours would keep them alive.
        for name in ("dataReceived", "readConnectionLost", "writeConnectionLost"):
            self.__dict__.pop(name, None)
        if lease is not None:
            lease.connection_lost(reason)
        elif gate is not None:
            gate.wire_lost(reason)

    def pauseProducing(self) -> None:
        """More than 64 KiB wait to be sent (IPushProducer)."""
        if self._producing and self._gate is not None:
            self._gate.write_stalled()

    def resumeProducing(self) -> None:
        """They have been sent."""

    def stopProducing(self) -> None:
        """The connection is going; :meth:`connectionLost` follows."""

    # What the gate tells

    def write(self, data: bytes) -> None:
        """Queue bytes, and begin to watch whether the peer takes them."""
        transport: Any = self.transport
        if not self._wrote:
            self._wrote = True
            self._producing = True
            transport.registerProducer(self, True)
        transport.write(data)

    def half_close(self) -> None:
        """Send a FIN and go on reading; over TLS, which has no half-close, a close_notify."""
        self._stop_producing()
        self._half_closed = True
        transport: Any = self.transport
        if self._tls or not hasattr(transport, "loseWriteConnection"):
            transport.loseConnection()
        else:
            transport.loseWriteConnection()

    def close(self) -> None:
        """Close when everything has been sent, and do not wait for the peer."""
        self._stop_producing()
        transport: Any = self.transport
        transport.loseConnection()
        if self._tls and self._half_closed:
            # It would wait for the peer's close_notify.
            transport.transport.loseConnection()

    def abort(self) -> None:
        """Close now."""
        self._stop_producing()
        transport: Any = self.transport
        transport.abortConnection()

    def leave(self) -> None:
        """Close now; without a reset if there is nothing that a close could wait for."""
        if self._tls or self._wrote:
            self.abort()
        else:
            self.close()

    def pause_reading(self) -> None:
        """Stop reading from the transport."""
        transport: Any = self.transport
        transport.pauseProducing()

    def resume_reading(self) -> None:
        """Read from it again."""
        transport: Any = self.transport
        transport.resumeProducing()

    def start_tls(self, early: bytes) -> None:
        """Speak TLS from here on."""
        self._stop_producing()
        self._wrote = False
        directlyProvides(self)
        transport: Any = self.transport
        terms = self._terms
        transport.protocol = top = over_tls(self, terms.tls, terms)
        # It becomes our transport, by way of connectionMade().
        top.makeConnection(transport)
        if early:
            top.dataReceived(early)

    def build_session(self, factory: Any) -> Any:
        """Have the factory build a session for the peer."""
        transport: Any = self.transport
        gate = self._gate
        if self._terms.proxy is not None and gate is not None:
            answer_as(transport, gate.facts)
        return factory.buildProtocol(transport.getPeer())

    def hand_over(
        self, gate: Gate, session: Any, accept: Accept, early: bytes, *, ended: bool
    ) -> None:
        """Make ``session`` the one that the transport talks to; :meth:`concluded` says when."""
        self._stop_producing()
        self._gate = None
        self._lease = gate.lease(self.transport, session)
        hand_over(self._lease, self, accept, early, ended=ended)

    def concluded(self, verdict: Accept | BaseException, session: Any) -> None:
        """The verdict has fallen. A server has no further use for it."""

    def _let_tls_go(self, *, established: bool) -> None:
        establishing, self._establishing = self._establishing, None
        if establishing is not None:
            establishing.step_aside(established=established)

    def _stop_producing(self) -> None:
        if self._producing:
            self._producing = False
            transport: Any = self.transport
            transport.unregisterProducer()
