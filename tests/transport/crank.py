"""
A reactor that is turned by hand, in virtual time, over real sockets of the loopback interface.

It is Twisted's own, only never run: it turns when a test says so, and its time stands still until a
test moves it. Nothing here sleeps; where the kernel needs a moment, a turn waits for an event.
"""

from __future__ import annotations

import gc
import os
import socket
import struct
from contextlib import contextmanager, suppress

from twisted.internet.epollreactor import EPollReactor

from sockproto.admission.networks import Networks
from sockproto.transport.listener import Listener
from sockproto.transport.proxy import ProxyPolicy
from sockproto.transport.server import ServerFactory
from sockproto.transport.sockets import tcp

from .kit import Server, Word

PATIENCE = 6000
"""Turns of a hundredth of a second after which a test gives up; a healthy one takes a few."""


class Crank(EPollReactor):
    """Twisted's reactor; ``turn()`` it, and ``advance()`` its time."""

    def __init__(self):
        self.now = 1000.0
        super().__init__()

    def seconds(self):
        return self.now

    @property
    def watched(self):
        """What has to be gone at the end."""
        files = {*self.getReaders(), *self.getWriters()} - self._internalReaders
        return [*files, *self.getDelayedCalls()]

    def turn(self, times=1):
        for _ in range(times):
            self.iterate(0)

    def advance(self, seconds):
        """Let time pass, in steps that are shorter than anybody's patience."""
        end = self.now + seconds
        while self.now < end:
            self.now = min(self.now + 0.05, end)
            self.iterate(0)

    def until(self, condition):
        """Turn until something has happened."""
        for _ in range(PATIENCE):
            if condition():
                return
            self.iterate(0.01)
        raise AssertionError("it never happened")

    def close(self):
        for each in self._internalReaders:
            each.connectionLost(None)
        self._poller.close()


@contextmanager
def cranked():
    """A crank, which nothing is left in at the end."""
    before = open_sockets()
    crank = Crank()
    try:
        yield crank
        crank.turn(3)
        assert crank.watched == []
    finally:
        crank.close()
    assert open_sockets() - before == set()


def open_sockets():
    """By their inodes."""
    gc.collect()
    found = set()
    for number in os.listdir("/proc/self/fd"):
        # The directory's own is gone by now.
        with suppress(FileNotFoundError):
            found.add(os.readlink(f"/proc/self/fd/{number}"))
    return {each for each in found if each.startswith("socket:")}


class Visitor:
    """A client of a few plain calls, which turns the crank while it waits."""

    def __init__(self, crank, place, family=None):
        self.crank = crank
        if family is None:
            family = socket.AF_INET if isinstance(place, tuple) else socket.AF_UNIX
        self.socket = socket.socket(family)
        self.got = b""
        self.end = None
        self.connected(place)

    def connected(self, place):
        self.socket.connect(place)
        self.socket.setblocking(False)

    def send(self, data):
        self.socket.sendall(data)
        self.crank.turn(2)

    def send_eof(self):
        self.socket.shutdown(socket.SHUT_WR)
        self.crank.turn(2)

    def vanish(self):
        """Go with a reset (SO_LINGER in socket(7)), before anybody has looked."""
        linger = struct.pack("ii", 1, 0)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.socket.close()

    def close(self):
        self.socket.close()
        self.crank.turn(2)

    def look(self):
        """Take what has come: bytes, and perhaps the end of them."""
        while self.end is None:
            try:
                data = self.socket.recv(65536)
            except BlockingIOError:
                return
            except ConnectionResetError:
                self.end = "reset"
            else:
                self.got += data
                if not data:
                    self.end = "eof"

    def receive(self, count):
        """So many bytes."""
        self.crank.until(lambda: self.look() or len(self.got) >= count or self.end)
        got, self.got = self.got[:count], self.got[count:]
        return got

    def receive_some(self):
        """What comes next; nothing if that is the end."""
        self.crank.until(lambda: self.look() or self.got or self.end)
        got, self.got = self.got, b""
        return got

    def receive_all(self):
        """Everything, and how it ended."""
        self.crank.until(lambda: self.look() or self.end)
        self.socket.close()
        return self.got, self.end

    @property
    def silence(self):
        """Whether nothing has come, nor an end."""
        self.crank.turn(2)
        self.look()
        return (self.got, self.end) == (b"", None)


class Opened:
    """
    A listener on a crank, and its server.

    Args:
        crank: The reactor.
        handshake, session, terms: As of :class:`~tests.transport.kit.Server`.
        door: Where to listen; unless given, on a port of its own.
        tls: What makes the OpenSSL connections of a door that speaks TLS.
        proxies: From where a PROXY header has to come, if one has.
        observed: Whether anybody is told of events.
    """

    def __init__(
        self,
        crank,
        handshake=None,
        session=None,
        *,
        door=None,
        tls=None,
        proxies=None,
        observed=True,
        **terms,
    ):
        self.crank = crank
        if proxies is not None:
            terms["proxy"] = ProxyPolicy("auto", Networks.parse(proxies))
        self.server = Server(handshake, session, clock=crank, **terms)
        if not observed:
            self.server.factory = ServerFactory(handshake or Word(), session, clock=crank, **terms)
        self.door = tcp(0, "127.0.0.1", backlog=4096) if door is None else door
        self.port = Listener(crank, self.door, self.server.factory, tls)
        self.place = self.door.socket.getsockname()
        self.port.startListening()

    def visit(self, place=None):
        return Visitor(self.crank, place or self.place)

    def stop(self):
        """Stop, and see to it that everybody goes."""
        stopped = []
        self.port.stopListening().addBoth(stopped.append)
        self.server.factory.shut_down()
        self.crank.until(lambda: not self.server.live)
        self.crank.turn(3)
        assert stopped == [None]
        assert self.server.left_behind == []
