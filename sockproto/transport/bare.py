"""
The gate on a bare socket: the fast path, under the server only.

A connection is a descriptor, a gate and two small objects here, until it needs what a Twisted
transport is good for: a session, a write buffer, or TLS. Then it becomes one, which the gate talks
to from there on, and this wire passes on what its gate was in the middle of telling it.

Nothing blocks, though the socket is in blocking mode: each call says for itself that it does not
want to wait (MSG_DONTWAIT, recv(2)), which saves the call that would say it once.
"""

from __future__ import annotations

import os
import socket
import struct
from _socket import socket as BareSocket
from contextlib import suppress
from errno import ENOBUFS
from select import EPOLLIN
from typing import Any, Protocol

from twisted.internet.error import ConnectionAborted
from twisted.python.failure import Failure

from sockproto.core.facts import Address, TlsFacts
from sockproto.core.outcomes import Accept
from sockproto.credentials import uid_of
from sockproto.transport.facts import twisted_address
from sockproto.transport.gate import Gate
from sockproto.transport.lease import DONE, LOST, AtOnce
from sockproto.transport.wire import TransportWire

READ_SIZE = 4096
"""How much is read at once: what a handshake may take by default."""

DISCARD_SIZE = 65536
"""How much is read at once where nobody looks at it any more."""

MAX_DISCARDS = 16
"""How often is read from a peer that we are leaving."""

_SEND_FLAGS = socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
"""``struct linger`` of socket(7): on, and no time to linger."""

_ABORTED = Failure(ConnectionAborted())


class Host(Protocol):
    """What a wire needs of the listener that it has come through."""

    sessions: tuple[str, ...]
    """The names of the sessions on offer."""

    def local_of(self, bare: BareSocket | None) -> Address:
        """Our end of a connection that has come in."""
        ...

    def watch(self, fileno: int, events: int) -> None:
        """Wait for other events on a socket that is watched."""
        ...

    def forget(self, fileno: int) -> None:
        """Do not look after a socket any more; it is about to be closed."""
        ...

    def adopt(
        self, fileno: int, bare: BareSocket, gate: Gate, early: bytes | None
    ) -> TransportWire | None:
        """
        Make a transport of a socket, and its protocol the gate's wire.

        Args:
            fileno: The socket's descriptor, which is not looked after any more.
            bare: The socket; the transport's when this returns, or closed.
            gate: Its gate.
            early: The first bytes of TLS, which is to be spoken from here on; None if it is not.

        Returns:
            The protocol; None if the connection is gone.
        """
        ...


class SocketWire:
    """
    A socket that somebody waits for, as its gate's wire; and what is known about the other end.

    Both in one, since there is one for each connection. The facts are found out when they are
    asked for (:class:`~sockproto.core.facts.Facts`).

    Args:
        host: The listener that it has come through.
        bare: The socket.
        fileno: Its descriptor.
        remote: The peer's address, as ``accept()`` has it.

    Attributes:
        bare: The socket; None once it is closed, or a transport's.
        gate: The gate; to be set before anything else happens.
        interest: The events to wait for.
    """

    __slots__ = (
        "_address",
        "_ended",
        "_fileno",
        "_half_closed",
        "_host",
        "_local",
        "_outer",
        "_reply",
        "_uid",
        "_wrote",
        "bare",
        "gate",
        "interest",
    )

    gate: Gate
    tls: TlsFacts | None = None

    def __init__(self, host: Host, bare: BareSocket, fileno: int, remote: Any) -> None:
        self.bare: BareSocket | None = bare
        self.interest = EPOLLIN
        self._host = host
        self._fileno = fileno
        self._address = remote
        self._local: Address | None = None
        self._uid: int | None = None
        self._outer: TransportWire | None = None
        # Why it is gone when there is nothing more to read; None while there may be.
        self._ended: Failure | None = None
        # The last word of a handshake that has been accepted into a session; None while none has.
        self._reply: bytes | None = None
        self._wrote = self._half_closed = False

    # What is known about the peer

    @property
    def address(self) -> Address:
        """Where it is."""
        address = self._address
        if not isinstance(address, Address):
            self._address = address = address_from(address)
        return address

    @property
    def local(self) -> Address:
        """Where we are, as it sees us."""
        if self._local is None:
            self._local = self._host.local_of(self.bare)
        return self._local

    @property
    def uid(self) -> int | None:
        """The user id on the other end of a unix socket."""
        if self._uid is None and self.address.family == "unix":
            self._uid = uid_of(self.bare)
        return self._uid

    @property
    def sessions(self) -> tuple[str, ...]:
        """The names of the sessions on offer."""
        return self._host.sessions

    # What epoll tells

    def readable(self) -> None:
        """There are bytes, or an end, or an error."""
        gate, bare = self.gate, self.bare
        assert bare is not None
        phase = gate.phase
        try:
            data = bare.recv(DISCARD_SIZE if phase == "closing" else READ_SIZE, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        except OSError:
            self._go(LOST)
            return
        if data:
            if phase == "tls":
                self.start_tls(data)
            else:
                gate.data_received(data)
        elif self._ended is not None:
            # Nothing else can be new: it does not read any more, either.
            self._go(self._ended)
        else:
            self._ended = DONE
            gate.eof_received()
            # Or epoll would report the end over and over.
            self._watch(0)

    # What the gate tells

    def write(self, data: bytes) -> None:
        """Send. What cannot be sent at once needs a transport."""
        if self.bare is None:
            if self._outer is not None:
                self._outer.write(data)
            return
        if self._reply is not None:
            self._reply += data
            return
        self._wrote = True
        try:
            sent = self.bare.send(data, _SEND_FLAGS)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            if error.errno != ENOBUFS:
                # It has gone. Whoever reads will hear of it, after what it has said; but the
                # error is told only once, and what comes after that looks like an orderly end.
                self._ended = LOST
                return
            # The kernel has no room for it just now (send(2)).
            sent = 0
        if sent < len(data):
            self._become_transport()
            if self._outer is not None:
                self._outer.write(data[sent:])

    def half_close(self) -> None:
        """Send a FIN, and go on reading."""
        if self.bare is None:
            if self._outer is not None:
                self._outer.half_close()
            return
        self._half_closed = True
        with suppress(OSError):
            self.bare.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Close; the kernel sends what it has been given."""
        if self._outer is not None:
            self._outer.close()
            return
        if self._half_closed:
            self._drain()
        self._go(DONE)

    def abort(self) -> None:
        """Close now, with a reset."""
        if self._outer is not None:
            self._outer.abort()
            return
        if self.bare is not None:
            self.bare.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self._go(_ABORTED)

    def leave(self) -> None:
        """Close now; without a reset if there is nothing that a close could wait for."""
        if self._wrote:
            self.abort()
            return
        self.half_close()
        self.close()

    def pause_reading(self) -> None:
        """Take no more bytes from the network for now."""
        self._watch(0)

    def resume_reading(self) -> None:
        """Take bytes again."""
        if self._ended is None:
            self._watch(EPOLLIN)

    def start_tls(self, early: bytes) -> None:
        """Speak TLS from here on."""
        self._become_transport(early)

    def build_session(self, factory: Any) -> Any:
        """Have the factory build a session for the peer."""
        # What is written next is the reply. It goes together with what the session says first.
        self._reply = b""
        return factory.buildProtocol(twisted_address(self.gate.facts.address))

    def hand_over(
        self, gate: Gate, session: Any, accept: Accept, early: bytes, *, ended: bool
    ) -> None:
        """Make ``session`` the one that the transport talks to, once there is a transport."""
        if self._outer is None:
            self._become_transport()
        outer = self._outer
        if outer is None:
            gate.lease(None, _Nobody()).connection_lost(LOST)
            return
        transport: Any = outer.transport
        with AtOnce(transport):
            if self._reply:
                transport.write(self._reply)
            # The transport is new, and will find the end of the stream once more, by itself.
            outer.hand_over(gate, session, accept, early, ended=False)

    def concluded(self, verdict: Accept | BaseException, session: Any) -> None:
        """The verdict has fallen. A server has no further use for it."""

    def _become_transport(self, early: bytes | None = None) -> None:
        bare = self.bare
        if bare is not None:
            # To be found out while there is a socket to ask.
            self._local, self._uid = self.local, self.uid
            self.bare, gate = None, self.gate
            # They hold each other, as in _go().
            del self.gate
            self._outer = self._host.adopt(self._fileno, bare, gate, early)
            if self._outer is None:
                gate.wire_lost(LOST)

    def _drain(self) -> None:
        """Read what comes too late, or the kernel would answer it with a reset."""
        with suppress(OSError):
            for _ in range(MAX_DISCARDS):
                if self.bare is None or not self.bare.recv(DISCARD_SIZE, socket.MSG_DONTWAIT):
                    break

    def _watch(self, events: int) -> None:
        self.interest = events
        if self.bare is not None:
            self._host.watch(self._fileno, events)

    def _go(self, why: Failure) -> None:
        bare, self.bare = self.bare, None
        if bare is not None:
            bare.close()
            self._host.forget(self._fileno)
            gate = self.gate
            # They hold each other; let go, or a garbage collection would have to find out.
            del self.gate
            gate.wire_lost(why)


class _Nobody:
    """Stands for a session that has not begun."""

    def connectionLost(self, reason: Failure) -> None:
        """It has nothing to lose."""


def address_from(remote: Any) -> Address:
    """The address in the form that the socket module has it."""
    if isinstance(remote, tuple):
        return Address.ip(remote[0], remote[1])
    path = remote if isinstance(remote, str) else os.fsdecode(remote)
    return Address("unix", path=path)
