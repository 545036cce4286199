"""Sending back, at the pace of a peer that may not read."""

from __future__ import annotations

import pytest
from twisted.internet.abstract import FileDescriptor
from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.testing import MemoryReactor
from twisted.python.failure import Failure

from sockproto.sessions.echo import Echo

CHUNK = bytes(range(256)) * 256


class Wire(FileDescriptor):
    """Twisted's own write buffer; its peer reads when a test says so, and how much."""

    def __init__(self) -> None:
        super().__init__(MemoryReactor())
        self.connected = 1
        self.closed = False
        self.arrived = b""
        self._wanted = 0
        self.startReading()

    @property
    def is_reading(self) -> bool:
        return self in self.reactor.getReaders()

    @property
    def queued(self) -> int:
        return len(self.dataBuffer) - self.offset + self._tempDataLen

    def writeSomeData(self, data: bytes) -> int:
        part = bytes(data[: self._wanted])
        self._wanted -= len(part)
        self.arrived += part
        return len(part)

    def let_peer_read(self, most: int) -> None:
        """Turn the reactor until the peer has what it wants, or there is nothing more."""
        self._wanted = most
        while self in self.reactor.getWriters() and (self._wanted or not self.queued):
            if self.doWrite() is not None:
                self.closed = True
                self.connectionLost(Failure(ConnectionLost()))


@pytest.fixture
def wire() -> Wire:
    return Wire()


@pytest.fixture
def echo(wire: Wire) -> Echo:
    echo = Echo()
    echo.makeConnection(wire)
    return echo


def test_what_arrives_is_sent_back(wire, echo):
    echo.dataReceived(b"hello, ")
    echo.dataReceived(b"world")
    wire.let_peer_read(100)

    assert wire.arrived == b"hello, world"
    assert wire.is_reading
    assert not wire.closed


def test_nothing_more_is_read_while_the_peer_does_not_read(wire, echo):
    while wire.is_reading:
        echo.dataReceived(CHUNK)

    assert wire.queued == 2 * len(CHUNK)
    wire.let_peer_read(len(CHUNK))
    assert not wire.is_reading


def test_reading_goes_on_when_everything_is_written(wire, echo):
    for _ in range(3):
        while wire.is_reading:
            echo.dataReceived(CHUNK)
        wire.let_peer_read(2 * len(CHUNK))
        assert wire.is_reading

    assert wire.arrived == 6 * CHUNK


def test_a_peer_that_half_closes_gets_all_of_its_echo_and_then_the_end(wire, echo):
    echo.dataReceived(CHUNK)

    assert IHalfCloseableProtocol.providedBy(echo)
    echo.readConnectionLost()
    wire.let_peer_read(len(CHUNK) - 1)
    assert not wire.closed
    wire.let_peer_read(1)

    assert wire.closed
    assert wire.arrived == CHUNK


def test_a_close_that_waits_for_the_echo_goes_through(wire, echo):
    while wire.is_reading:
        echo.dataReceived(CHUNK)

    wire.loseConnection()
    wire.let_peer_read(2 * len(CHUNK))

    assert wire.closed
    assert wire.arrived == 2 * CHUNK


def test_a_connection_that_breaks_while_echoing_is_over(wire, echo):
    while wire.is_reading:
        echo.dataReceived(CHUNK)

    wire.connectionLost(Failure(ConnectionLost()))

    assert not wire.is_reading
    assert not wire.reactor.getWriters()


def test_that_our_own_side_is_closed_is_no_news(wire, echo):
    echo.writeConnectionLost()

    assert wire.is_reading
