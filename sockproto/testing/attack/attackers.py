"""
The attackers, one class a kind.

An attacker has one connection at a time, and says to its crew when it is over; when it may come
back is the crew's business. What it does is told by four moments: connected, something heard, the
server has finished, and room to send.
"""

from __future__ import annotations

import os
import socket
import ssl
import struct
from contextlib import suppress
from errno import EALREADY, ECONNRESET, EINPROGRESS, EISCONN
from typing import Protocol

from sockproto.testing.attack.loop import ENDED, IN, OUT, Loop
from sockproto.testing.attack.plan import Plan
from sockproto.testing.attack.tally import Tally

CHUNK = bytes(65536)
CHUNKS_A_TURN = 4
"""How much one attacker may send before it is another one's turn."""

SMALLEST_BUFFER = 1
"""The kernel makes it as small as it goes: SO_RCVBUF, socket(7)."""

LINGERING = 0.05
"""Seconds between the server's half-close and ours."""

# Linux has it since 4.2, and Python since 3.11 no name for it: the port is only chosen when the
# target is known, so that each pair of addresses has all the ports to itself.
IP_BIND_ADDRESS_NO_PORT = 24

RESET_ON_CLOSE = struct.pack("ii", 1, 0)

PENDING = (EINPROGRESS, EALREADY)


def open_socket(source: str) -> socket.socket:
    """A socket that does not block, at an address of ours."""
    family = socket.AF_INET6 if ":" in source else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        if family == socket.AF_INET:
            made.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
            made.bind((source, 0))
    except OSError:
        made.close()
        raise
    return made


class Company(Protocol):
    """What an attacker knows of those it has come with: their plan, and whom it has to tell."""

    plan: Plan
    loop: Loop
    target: tuple[str, int]
    tally: Tally
    half_a_hello: bytes

    def arrived(self) -> None:
        """It is connected."""

    def gone(self, attacker: Attacker) -> None:
        """It is not there any more."""

    def finish(self) -> None:
        """They have had enough, all of them."""


class Attacker:
    """
    One that comes, and comes back.

    Args:
        crew: Whom it tells how it goes.
        source: Where it comes from.
        number: Which one of the crew it is, from 0.
    """

    listens = IN
    """What it waits for when it is connected."""

    def __init__(self, crew: Company, source: str, number: int) -> None:
        self.crew = crew
        self.source = source
        self.number = number
        self.connected = False
        self._visits = 0

    def come(self) -> None:
        """
        Connect.

        Raises:
            OSError: If not even that can be begun.
        """
        self.connected = False
        self._visits += 1
        self.socket = open_socket(self.source)
        self.prepare()
        status = self.socket.connect_ex(self.crew.target)
        if status in PENDING:
            # Over loopback it mostly is done by now, and to ask again is cheaper than to wait.
            status = self.socket.connect_ex(self.crew.target)
        if status in (0, EISCONN):
            self.crew.loop.watch(self.socket.fileno(), self.listens, self._told)
            self._begin()
        elif status in PENDING:
            self.crew.loop.watch(self.socket.fileno(), OUT, self._told)
        elif status == ECONNRESET:
            # It has been connected, and does not know any more.
            self.connected = True
            self.crew.arrived()
            self._cut_off()
        else:
            self.socket.close()
            raise OSError(status, os.strerror(status))

    def go(self) -> None:
        """Be gone."""
        self.crew.loop.forget(self.socket.fileno())
        self.socket.close()

    def leave(self) -> None:
        """Be gone, of one's own accord."""
        self.go()
        self.crew.gone(self)

    def prepare(self) -> None:
        """The socket is not connected yet."""

    def begin(self) -> None:
        """It is."""

    def heard(self, data: bytes) -> None:
        """The server has said something."""

    def finished(self) -> None:
        """The server will say nothing more."""
        self.crew.tally.closed += 1
        self.leave()

    def may_send(self) -> None:
        """There is room to send."""

    def send(self, data: bytes) -> int:
        """Send what there is room for; gives how much that was."""
        try:
            sent = self.socket.send(data)
        except BlockingIOError:
            return 0
        self.crew.tally.sent += sent
        return sent

    def _begin(self) -> None:
        self.connected = True
        self.crew.arrived()
        try:
            self.begin()
        except OSError:
            self._cut_off()

    def _told(self, events: int) -> None:
        try:
            if not self.connected:
                error = self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                if error:
                    raise OSError(error, os.strerror(error))
                self.crew.loop.change(self.socket.fileno(), self.listens)
                self._begin()
                return
            if events & OUT:
                self.may_send()
            if events & (IN | ENDED) and self.connected:
                self._hear(events)
        except OSError:
            self._cut_off()

    def _hear(self, events: int) -> None:
        if not self.listens & IN and not events & ENDED:
            return
        try:
            data = self.socket.recv(65536)
        except BlockingIOError:
            return
        if data:
            self.crew.tally.heard += len(data)
            self.heard(data)
        else:
            self.finished()

    def _cut_off(self) -> None:
        tally = self.crew.tally
        if self.connected:
            tally.reset += 1
        else:
            tally.failed += 1
        self.go()
        self.crew.gone(self)


class Hold(Attacker):
    """Says nothing."""


class Drip(Attacker):
    """Sends a byte now and then."""

    def begin(self) -> None:
        self._drip(self._visits)

    def _drip(self, visit: int) -> None:
        # The byte may be meant for a connection that is over.
        if visit != self._visits or not self.connected:
            return
        try:
            self.send(b"x")
        except OSError:
            self._cut_off()
            return
        loop = self.crew.loop
        loop.call_at(loop.now + self.crew.plan.drip_every, lambda: self._drip(visit))


class Flood(Attacker):
    """Sends its word, reads the answer, and leaves."""

    def begin(self) -> None:
        self._answer = b""
        self.send(self.crew.plan.send)

    def heard(self, data: bytes) -> None:
        self._answer += data
        if self._answer.startswith(self.crew.plan.expect):
            self.crew.tally.answered += 1
            self.leave()


class Reset(Attacker):
    """Resets the connection as soon as there is one."""

    def begin(self) -> None:
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        self.leave()


class Oversize(Attacker):
    """Sends without end, and reads what comes."""

    listens = IN | OUT

    def may_send(self) -> None:
        crew = self.crew
        for _ in range(CHUNKS_A_TURN):
            if crew.tally.sent >= crew.plan.amount:
                crew.finish()
                return
            if not self.send(CHUNK):
                return

    def finished(self) -> None:
        # It goes on until nobody is there to take it.
        self.crew.loop.change(self.socket.fileno(), OUT)


class ZeroWindow(Oversize):
    """The same, with no room for any answer."""

    listens = OUT

    def prepare(self) -> None:
        # Before connecting, or the window is on offer already: tcp(7).
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALLEST_BUFFER)


class HalfClose(Attacker):
    """Closes its half before the server does, or after; every other one of them."""

    def begin(self) -> None:
        self.send(self.crew.plan.send)
        if self.number % 2 == 0:
            self.socket.shutdown(socket.SHUT_WR)

    def finished(self) -> None:
        if self.number % 2 == 0:
            super().finished()
            return
        self.crew.tally.closed += 1
        # An end stays readable; it has been seen.
        self.crew.loop.change(self.socket.fileno(), 0)
        visit = self._visits
        loop = self.crew.loop
        loop.call_at(loop.now + LINGERING, lambda: self._close_too(visit))

    def _close_too(self, visit: int) -> None:
        if visit == self._visits and self.connected:
            with suppress(OSError):
                self.socket.shutdown(socket.SHUT_WR)
            self.leave()


class TlsStall(Attacker):
    """Sends half a ClientHello."""

    def begin(self) -> None:
        self.send(self.crew.half_a_hello)


ATTACKERS: dict[str, type[Attacker]] = {
    "hold": Hold,
    "drip": Drip,
    "flood": Flood,
    "reset": Reset,
    "zero-window": ZeroWindow,
    "oversize": Oversize,
    "half-close": HalfClose,
    "tls-stall": TlsStall,
}


def half_a_hello() -> bytes:
    """The first half of the first message of a TLS client."""
    said = ssl.MemoryBIO()
    client = ssl.create_default_context().wrap_bio(
        ssl.MemoryBIO(), said, server_hostname="localhost"
    )
    with suppress(ssl.SSLWantReadError):
        client.do_handshake()
    hello = said.read()
    return hello[: len(hello) // 2]
