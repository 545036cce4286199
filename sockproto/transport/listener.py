"""
Our own listening port: a handshake needs no transport.

A Twisted transport costs more than most handshakes: its buffers, its producers, its place in the
reactor. So a connection stays a bare socket here for as long as it can. It is accepted, read, asked
by its gate what to say, written to and closed, all with plain system calls. It becomes a Twisted
transport only when it needs what a transport is good for: a session, a peer that does not read at
once, or TLS.

The listener and every connection that waits share an epoll of their own, and the reactor sees that
one descriptor. That saves the reactor's bookkeeping for each of them, and works under any reactor
that can watch a descriptor. A turn asks this epoll again until nobody is ready, or until it has
given so many connections a turn that the reactor's other sockets should have theirs.

Nothing is read in the moment of the accept: what a client sends comes after its connection, if only
by microseconds, and an attempt that fails costs as much as asking epoll. Who has spoken already is
found in the same turn.
"""

from __future__ import annotations

from _socket import socket as BareSocket
from errno import EBADF, EINVAL, EMFILE, ENFILE, ENOBUFS, ENOMEM, ENOTSOCK
from math import inf
from select import EPOLLIN, epoll
from socket import AF_INET, AF_UNIX, socket
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.interfaces import IListeningPort, IReadDescriptor
from twisted.internet.protocol import Protocol
from twisted.internet.tcp import Server as TcpTransport
from twisted.internet.unix import Server as UnixTransport
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from sockproto.core.facts import Address
from sockproto.events import AcceptingPaused, CapReached
from sockproto.transport.bare import SocketWire, address_from
from sockproto.transport.facts import answer_as, twisted_address
from sockproto.transport.gate import Gate
from sockproto.transport.server import ServerFactory, ServerProtocol
from sockproto.transport.sockets import Door
from sockproto.transport.wire import TransportWire, over_tls

MAX_ACCEPTS = 64
"""How many are accepted in one turn of the reactor."""

MAX_TURNS = 256
"""How many connections are looked after in one turn of the reactor, about."""

SHORTEST_REST, LONGEST_REST = 0.05, 1.0
"""Seconds for which accepting rests when there is no room for more descriptors; they double."""

QUIET = 60.0
"""Seconds for which it is not said again that newcomers have to wait for room."""

MAX_QUEUE = 65536
"""How many are let in when we stop. More come only through a door that stays open for others."""

_NO_ROOM = (EMFILE, ENFILE, ENOBUFS, ENOMEM)
_NO_DOOR = (EINVAL, EBADF, ENOTSOCK)
"""Somebody has shut it: another holder of an inherited socket, say (shutdown(2))."""

_log = Logger()


@implementer(IListeningPort, IReadDescriptor)
class Listener:
    """
    Listens at a door, with a handshake in front.

    Args:
        reactor: Twisted's reactor, of any kind that can watch descriptors.
        door: What to listen on; ours from now on.
        factory: What serves the connections.
        tls: What makes the OpenSSL connections (``IOpenSSLServerConnectionCreator``), if TLS is
            spoken here from the first byte.

    Attributes:
        address: Where it listens; of a unix socket the path as the operator knows it.
        sessions: The names of the sessions on offer.
    """

    def __init__(self, reactor: Any, door: Door, factory: ServerFactory, tls: Any = None) -> None:
        self.address = door.address
        self._place = str(door.address)
        self._reactor = reactor
        self._door = door
        self._factory = factory
        self._terms = factory.terms
        self.sessions = factory.terms.names
        self._tls = tls
        self._capped = factory.terms.capped
        self._listening = self._paused = self._full = False
        self._quiet_until = -inf
        # How deep we are in what must not find its epoll closed.
        self._turning = 0
        self._rest = SHORTEST_REST
        self._rested = -inf
        self._rest_call: Any = None
        listening = door.socket
        self._handle = listening.fileno()
        # As numbers: the properties look them up in an enumeration at each access, and so does
        # accept(), which is a wrapper of this.
        self._family, self._type = int(listening.family), int(listening.type)
        self._proto = listening.proto
        self._accept_next = listening._accept  # type: ignore[attr-defined]
        self._waiting: dict[int, SocketWire] = {}
        self._epoll = epoll()

    # As a port

    def startListening(self) -> None:
        """Begin to accept."""
        self._factory.doStart()
        self._listening = True
        if self._accepting:
            self._epoll.register(self._handle, EPOLLIN)
        self._reactor.addReader(self)

    def stopListening(self) -> Deferred[None]:
        """
        Stop accepting, after everybody who is in the queue has been let in.

        A client whose ``connect()`` has returned is in that queue, and to close it would reset the
        client. Those who have spoken already are served before this returns; for those who have
        not see :meth:`~sockproto.transport.factory.EntranceFactory.shut_down`. Those for whom the
        admission has no room are refused, or left to whoever else has the socket.
        """
        if not self._listening:
            return succeed(None)
        if self._accepting:
            self._epoll.unregister(self._handle)
        self._listening = False
        if self._rest_call is not None:
            self._rest_call.cancel()
            self._rest_call = None
        self._door.shut()
        self._turning += 1
        for count in range(MAX_QUEUE):
            if count % MAX_ACCEPTS == MAX_ACCEPTS - 1:
                # Those who have spoken make room for others.
                self._look_after(2 * len(self._waiting))
            # Here they would be refused; somebody else may have room for them.
            leave_it = self._door.inherited and not self._has_room
            if leave_it or not self._accept():
                break
        self._door.close()
        self._look_after(2 * len(self._waiting))
        self._turning -= 1
        self._leave_if_done()
        # Last: it is other people's code.
        return maybeDeferred(self._factory.doStop)

    def getHost(self) -> Any:
        """Where it listens, as Twisted's address."""
        return twisted_address(self.address)

    def pause(self) -> None:
        """Accept nobody for now. Whoever comes waits in the kernel's queue."""
        if self._accepting:
            self._epoll.unregister(self._handle)
        self._paused = True

    def resume(self) -> None:
        """Accept again."""
        if self._paused:
            self._paused = False
            if self._accepting:
                self._epoll.register(self._handle, EPOLLIN)

    # As a reader

    def fileno(self) -> int:
        """What the reactor watches."""
        return -1 if self._epoll.closed else self._epoll.fileno()

    def logPrefix(self) -> str:
        """What Twisted's log calls it."""
        return f"sockproto at {self._place}"

    def doRead(self) -> None:
        """Somebody is ready."""
        self._turning += 1
        try:
            self._look_after(MAX_TURNS)
        finally:
            self._turning -= 1
            self._leave_if_done()

    def connectionLost(self, reason: Failure) -> None:
        """The reactor is done with us, at its end: so are we with everybody."""
        self.stopListening()
        for wire in list(self._waiting.values()):
            wire.abort()

    def _look_after(self, turns: int) -> None:
        """Give everybody who is ready a turn, until nobody is or there have been enough."""
        waiting, handle = self._waiting, self._handle
        accepts = MAX_ACCEPTS
        while turns > 0:
            ready = self._epoll.poll(0, MAX_TURNS)
            if not ready:
                return
            turns -= len(ready)
            for fileno, _ in ready:
                if fileno == handle:
                    # One at a time: one attempt too many costs more than to ask epoll again.
                    if not accepts or self._paused:
                        return
                    accepts -= 1
                    if self._has_room:
                        self._accept()
                    else:
                        self._wait_for_room()
                    continue
                # Whoever came before it in this round may have seen to its end.
                wire = waiting.get(fileno)
                if wire is not None:
                    try:
                        wire.readable()
                    except BaseException:
                        # The reactor would disconnect the one that raises: the port.
                        _log.failure("a connection broke")
                        wire.abort()
                elif fileno == ready[0][0]:
                    # Nobody came before it in this round, so it was closed long ago.
                    self._make_anew()
                    break

    def _make_anew(self) -> None:
        """
        Make another epoll.

        A socket that we close leaves it by itself, unless somebody else holds it as well: a child
        that was forked meanwhile, and runs no other program. Then epoll would report it for ever,
        and cannot be told not to (epoll(7), "Questions and answers", 6).
        """
        self._reactor.removeReader(self)
        self._epoll.close()
        self._epoll = epoll()
        for fileno, wire in self._waiting.items():
            self._epoll.register(fileno, wire.interest)
        if self._accepting:
            self._epoll.register(self._handle, EPOLLIN)
        self._reactor.addReader(self)

    # Accepting

    @property
    def _accepting(self) -> bool:
        """Whether the door is watched."""
        resting = self._paused or self._full or self._rest_call is not None
        return self._listening and not resting

    def _accept(self) -> bool:
        """Let the next one in; False if there is none, or no room for it."""
        try:
            fileno, remote = self._accept_next()
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno in _NO_ROOM or error.errno in _NO_DOOR:
                self._take_a_rest(error)
                return False
            # It has gone already, or a firewall forbids it (accept(2)).
            return True
        terms = self._terms
        bare = BareSocket(self._family, self._type, self._proto, fileno)
        wire = SocketWire(self, bare, fileno, remote)
        wire.gate = gate = Gate(terms, wire, wire)
        try:
            gate.open(self._tls is not None)
        except BaseException:
            _log.failure("a connection broke")
            wire.abort()
        if wire.bare is not None:
            self._waiting[fileno] = wire
            try:
                self._epoll.register(fileno, wire.interest)
            except OSError:
                # There is no room for another one to be watched (epoll_ctl(2)).
                wire.abort()
        self._rest = SHORTEST_REST
        return True

    @property
    def _has_room(self) -> bool:
        """Whether the admission, if there is one, could take another connection."""
        return self._capped is None or self._capped.has_room

    def _wait_for_room(self) -> None:
        """Let newcomers wait in the kernel's queue until somebody has gone."""
        if not self._accepting:
            # Whoever came before it in this round has had us stopped.
            return
        self._epoll.unregister(self._handle)
        self._full = True
        terms = self._terms
        assert terms.capped is not None
        terms.capped.when_room(self._go_on)
        now = terms.clock.seconds()
        # Last: an observer may pause or stop us.
        if now >= self._quiet_until and terms.told[CapReached]:
            self._quiet_until = now + QUIET
            terms.emit(CapReached(self.address))

    def _go_on(self) -> None:
        """There is room; or there was a moment ago."""
        self._full = False
        if self._accepting:
            self._epoll.register(self._handle, EPOLLIN)

    def _take_a_rest(self, error: OSError) -> None:
        """Look again in a while whether there is room."""
        terms = self._terms
        now = terms.clock.seconds()
        # One that finds room now and then has not found enough yet.
        again = now - self._rested <= LONGEST_REST
        self._rested = now + self._rest
        if self._accepting:
            self._epoll.unregister(self._handle)
            self._rest_call = self._reactor.callLater(self._rest, self._end_rest)
            self._rest = min(2 * self._rest, LONGEST_REST)
        # Last: an observer may pause or stop us. A door that we have closed ourselves is no news.
        if not again and (self._listening or error.errno in _NO_ROOM):
            terms.emit(AcceptingPaused(self.address, error))

    def _end_rest(self) -> None:
        self._rest_call = None
        if self._accepting:
            self._epoll.register(self._handle, EPOLLIN)

    # What the wires ask for

    def local_of(self, bare: BareSocket | None) -> Address:
        """Our end of a connection that has come in."""
        local = self._door.local
        if local is None and bare is not None:
            # Behind a wildcard address each has its own.
            local = address_from(bare.getsockname())
        return local or self.address

    def watch(self, fileno: int, events: int) -> None:
        """Wait for other events on a socket that is watched."""
        if fileno in self._waiting:
            self._epoll.modify(fileno, events)

    def forget(self, fileno: int) -> None:
        """Do not look after a socket any more; closing it has taken it out of the epoll."""
        self._waiting.pop(fileno, None)
        if not self._listening:
            self._leave_if_done()

    def adopt(
        self, fileno: int, bare: BareSocket, gate: Gate, early: bytes | None
    ) -> TransportWire | None:
        """Make a transport of a socket, and its protocol the gate's wire."""
        # Not left to close(): the socket stays open.
        if self._waiting.pop(fileno, None) is not None:
            self._epoll.unregister(fileno)
        outer = ServerProtocol(self._terms, gate)
        outer.factory = self._factory
        gate.move_to(outer)
        # A handshake that asks for TLS has the factory's; a door that speaks it, its own.
        tls = self._tls or self._terms.tls
        transport = None
        try:
            top = outer if early is None else over_tls(outer, tls, self._terms)
            transport = self._transport(bare, top)
            if self._family != AF_INET or self._terms.proxy is not None:
                answer_as(transport, gate.facts)
            top.makeConnection(transport)
        except BaseException as error:
            # It was reset a moment ago, or there is no room to watch another one (epoll_ctl(2)).
            if not isinstance(error, OSError):
                _log.failure("a connection could not become a transport")
            if transport is not None:
                # Twisted would leave it open, with nobody to manage it; and tell one that was not
                # there yet that it is lost.
                transport.protocol = Protocol()
                transport.abortConnection()
            return None
        finally:
            # Unless the transport has taken the descriptor over.
            bare.close()
            if not self._listening:
                self._leave_if_done()
        if early:
            top.dataReceived(early)
        return outer

    def _transport(self, bare: BareSocket, top: Any) -> Any:
        """
        Make Twisted's transport of a socket, as its own ports do when they have accepted.

        ``reactor.adoptStreamConnection`` would make a duplicate of the socket first, and need a
        descriptor for it.
        """
        handle = socket(self._family, self._type, self._proto, bare.detach())
        transport: Any
        # Twisted has a port of its own here, or None for a socket that it has adopted.
        port: Any = None
        try:
            client = handle.getpeername()
            if self._family == AF_UNIX:
                transport = UnixTransport(handle, top, client, port, 0, self._reactor)
            else:
                transport = TcpTransport(handle, top, client, port, client[1], self._reactor)
        except BaseException:
            handle.close()
            raise
        # What __repr__() says, and would take from the port.
        transport.repstr = f"<{transport.logstr} on {self._place}>"
        return transport

    # The end

    def _leave_if_done(self) -> None:
        if not (self._listening or self._waiting or self._turning or self._epoll.closed):
            self._reactor.removeReader(self)
            self._epoll.close()
