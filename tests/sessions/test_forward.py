"""Two ends made one, in memory: their pace, their ends and their accidents."""

from __future__ import annotations

import pytest
from twisted.internet.abstract import FileDescriptor
from twisted.internet.address import IPv4Address, UNIXAddress
from twisted.internet.error import (
    ConnectError,
    ConnectionAborted,
    ConnectionDone,
    ConnectionLost,
    ConnectionRefusedError,
)
from twisted.internet.interfaces import IHalfCloseableProtocol, INegotiated
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import formatEvent, globalLogPublisher
from twisted.python.failure import Failure
from zope.interface import directlyProvides

from sockproto.core.errors import ConfigurationError
from sockproto.core.facts import Address
from sockproto.sessions.forward import Forward
from sockproto.transport.proxy import v1_header, v2_header

CHUNK = bytes(range(256)) * 256
CLIENT = IPv4Address("TCP", "192.0.2.1", 56324)
DOOR = IPv4Address("TCP", "198.51.100.7", 8471)


class Wire(FileDescriptor):
    """
    Twisted's own write buffer, and a peer that does what a test says.

    Attributes:
        arrived: What the peer has read.
        heard_end: Whether it has read the end, too.
        lost: What the connection was lost with, by either side; None while it is there.
    """

    protocol = None

    def __init__(self, reactor, peer=CLIENT, host=DOOR):
        super().__init__(reactor)
        self.connected = 1
        self.arrived = b""
        self.heard_end = False
        self.lost = None
        self._addresses = peer, host
        self._wanted = 0
        self.startReading()

    def getPeer(self):
        return self._addresses[0]

    def getHost(self):
        return self._addresses[1]

    @property
    def is_reading(self):
        return self in self.reactor.getReaders()

    @property
    def queued(self):
        return len(self.dataBuffer) - self.offset + self._tempDataLen

    # What Twisted's reactors and connections do

    def writeSomeData(self, data):
        part = bytes(data[: self._wanted])
        self._wanted -= len(part)
        self.arrived += part
        return len(part)

    def _closeWriteConnection(self):
        assert not self.heard_end
        self.heard_end = True
        self.protocol.writeConnectionLost()

    def abortConnection(self):
        if not self.disconnected:
            self.stopReading()
            self.stopWriting()
            self.reactor.callLater(0, self.connectionLost, Failure(ConnectionAborted()))

    def connectionLost(self, reason):
        if self.disconnected:
            return
        super().connectionLost(reason)
        self.heard_end = True
        self.lost = reason.type
        self.protocol.connectionLost(reason)

    # What the peer does

    def sends(self, data):
        assert self.is_reading
        self.protocol.dataReceived(data)

    def finishes(self):
        assert self.is_reading
        self.stopReading()
        IHalfCloseableProtocol(self.protocol).readConnectionLost()

    def resets(self):
        self.connectionLost(Failure(ConnectionLost()))

    def reads(self, most=10**9):
        """Read so much, or all there is."""
        self._wanted = most
        while self in self.reactor.getWriters() and (self._wanted or not self.queued):
            reason = self.doWrite()
            if reason is not None:
                self.connectionLost(Failure(reason))

    def takes(self):
        """Read all there is; gives it, without what was read before."""
        before = len(self.arrived)
        self.reads()
        return self.arrived[before:]


class World:
    """A client whose session is forwarded to a backend."""

    def __init__(self, *, client=CLIENT, **arguments):
        self.reactor = MemoryReactorClock()
        self.forward = Forward("unix:/run/backend", reactor=self.reactor, **arguments)
        self.client = Wire(self.reactor, client)
        self.client.protocol = self.forward.buildProtocol(client)
        self.client.protocol.makeConnection(self.client)

    @property
    def attempts(self):
        return self.reactor.unixClients

    @property
    def gave_up(self):
        return self.reactor.connectors[-1].stoppedConnecting

    def backend_answers(self, *, tls=False):
        wire = Wire(self.reactor, UNIXAddress("/run/backend"), UNIXAddress(None))
        if tls:
            directlyProvides(wire, INegotiated)
        wire.protocol = self.attempts[-1][1].buildProtocol(None)
        wire.protocol.makeConnection(wire)
        return wire

    def backend_refuses(self, error):
        factory = self.attempts[-1][1]
        factory.clientConnectionFailed(self.reactor.connectors[-1], Failure(error))


@pytest.fixture
def log():
    lines = []

    def observe(event):
        if event.get("log_namespace") == "sockproto.sessions.forward":
            lines.append(formatEvent(event))

    globalLogPublisher.addObserver(observe)
    yield lines
    globalLogPublisher.removeObserver(observe)


@pytest.fixture
def world():
    return World()


@pytest.fixture
def client(world):
    return world.client


@pytest.fixture
def backend(world):
    return world.backend_answers()


# Before there is a backend


def test_nothing_is_read_from_the_client_until_the_backend_is_there(world, client):
    assert [attempt[0] for attempt in world.attempts] == ["/run/backend"]
    assert not client.is_reading

    world.backend_answers()

    assert client.is_reading


def test_a_backend_that_refuses_ends_the_client_with_a_line(world, client, log):
    world.backend_refuses(ConnectionRefusedError("Connection refused"))
    client.reads()

    assert client.heard_end
    assert log == [
        "cannot forward 192.0.2.1:56324 to unix:/run/backend: "
        "Connection was refused by other side: Connection refused"
    ]
    client.finishes()
    client.reads()
    assert client.lost is ConnectionDone
    assert not world.reactor.getDelayedCalls()


def test_a_backend_that_does_not_answer_ends_the_client_at_the_deadline(log):
    world = World(connect_timeout=2.5)

    world.reactor.advance(2.4)
    assert not log
    world.reactor.advance(0.1)
    world.client.reads()

    assert world.client.heard_end
    assert world.gave_up
    assert log == ["cannot forward 192.0.2.1:56324 to unix:/run/backend: no answer within 2.5 s"]


def test_what_a_client_says_to_nobody_is_read_and_dropped(world, client):
    world.backend_refuses(ConnectError())
    client.reads()

    # A socket that is closed with bytes unread resets the connection.
    client.sends(b"hello")
    client.finishes()
    client.reads()
    assert client.lost is ConnectionDone
    assert client.arrived == b""


def test_a_client_that_does_not_go_when_there_is_no_backend_is_aborted_by_a_bound(world, client):
    world.backend_refuses(ConnectError())
    client.reads()

    world.reactor.advance(29.9)
    assert client.lost is None
    world.reactor.advance(0.1)
    world.reactor.advance(0)
    assert client.lost is ConnectionAborted


def test_a_client_that_goes_before_the_backend_is_there_ends_the_attempt(world, client, log):
    client.resets()

    assert world.gave_up
    assert not world.reactor.getDelayedCalls()
    assert not log


def test_a_path_that_a_client_has_chosen_cannot_forge_a_line(log):
    world = World(client=UNIXAddress(b"/run/\n\x1b[2J"))

    world.backend_refuses(ConnectError("no"))

    assert log == [
        r"cannot forward unix:/run/\n\x1b[2J to unix:/run/backend: "
        "An error occurred while connecting: no"
    ]


# The conversation


def test_each_end_gets_what_the_other_one_sends(client, backend):
    client.sends(b"hello")
    client.sends(b", world")
    backend.sends(b"welcome")

    assert backend.takes() == b"hello, world"
    assert client.takes() == b"welcome"


def test_a_backend_may_speak_first(client, backend):
    backend.sends(b"220 ready")

    assert client.takes() == b"220 ready"


@pytest.mark.parametrize("upwards", [True, False])
def test_an_end_is_read_at_the_pace_of_the_other_one(client, backend, upwards):
    sender, reader = (client, backend) if upwards else (backend, client)
    sent = 0

    for _ in range(5):
        while sender.is_reading:
            sender.sends(CHUNK)
            sent += len(CHUNK)
        assert reader.queued == 2 * len(CHUNK)
        # The other direction does not mind.
        assert reader.is_reading
        reader.reads(len(CHUNK))
        assert not sender.is_reading
        reader.reads()
        assert sender.is_reading

    assert sent == 10 * len(CHUNK)
    assert reader.arrived == 10 * CHUNK


@pytest.mark.parametrize(("version", "header"), [("v1", v1_header), ("v2", v2_header)])
def test_the_backend_is_told_the_client_before_anything_else(version, header):
    world = World(proxy=version)
    backend = world.backend_answers()
    world.client.sends(b"hello")

    ends = Address.ip("192.0.2.1", 56324), Address.ip("198.51.100.7", 8471)
    assert backend.takes() == header(*ends) + b"hello"


# Its end


@pytest.mark.parametrize("upwards", [True, False])
def test_who_has_finished_sending_may_go_on_receiving(world, client, backend, upwards):
    first, second = (client, backend) if upwards else (backend, client)
    first.sends(b"question")
    first.finishes()

    assert second.takes() == b"question"
    assert second.heard_end
    assert second.lost is first.lost is None
    # Nor may it be told to produce again when the rest is sent.
    assert second.producer is None

    second.sends(b"answer")
    world.reactor.advance(3600)
    second.sends(b", late")
    second.finishes()
    assert first.takes() == b"answer, late"

    assert first.lost is second.lost is ConnectionDone
    assert not world.reactor.getDelayedCalls()


@pytest.mark.parametrize("upwards", [True, False])
def test_an_end_comes_after_everything_that_is_queued(client, backend, upwards):
    sender, reader = (client, backend) if upwards else (backend, client)
    while sender.is_reading:
        sender.sends(CHUNK)
    reader.reads(2 * len(CHUNK))
    sender.sends(b"the last words")
    sender.finishes()

    reader.reads(5)
    assert not reader.heard_end
    reader.reads()
    assert reader.heard_end
    assert reader.arrived == 2 * CHUNK + b"the last words"


@pytest.mark.parametrize("upwards", [True, False])
def test_a_reset_passes_as_an_abort(world, client, backend, upwards):
    first, second = (client, backend) if upwards else (backend, client)
    first.sends(b"never to be read")

    first.resets()
    world.reactor.advance(0)

    assert second.lost is ConnectionAborted
    assert second.arrived == b""
    assert not world.reactor.getDelayedCalls()
    assert not world.reactor.getReaders()
    assert not world.reactor.getWriters()


@pytest.mark.parametrize("upwards", [True, False])
def test_the_last_words_wait_for_a_slow_reader_but_not_for_ever(world, client, backend, upwards):
    sender, reader = (client, backend) if upwards else (backend, client)
    reader.finishes()
    sender.sends(CHUNK)
    sender.reads()
    sender.finishes()
    sender.reads()

    assert sender.lost is ConnectionDone
    world.reactor.advance(29)
    reader.reads(1000)
    assert reader.lost is None
    world.reactor.advance(1)
    world.reactor.advance(0)
    assert reader.lost is ConnectionAborted
    assert not world.reactor.getDelayedCalls()


def test_a_slow_reader_that_is_in_time_gets_the_last_words(world, client, backend):
    client.finishes()
    backend.sends(CHUNK)
    backend.finishes()
    backend.reads()
    world.reactor.advance(29)

    assert client.takes() == CHUNK
    assert client.lost is ConnectionDone
    assert not world.reactor.getDelayedCalls()


def test_the_bound_is_an_argument():
    world = World(close_timeout=0.5)
    backend = world.backend_answers()
    world.client.finishes()
    backend.sends(b"x")
    backend.finishes()

    world.reactor.advance(0.5)
    world.reactor.advance(0)
    assert world.client.lost is ConnectionAborted


def test_a_stop_goes_through_although_the_backend_goes_on_sending(world, client, backend):
    while backend.is_reading:
        backend.sends(CHUNK)

    # As a lease does when we are stopping.
    client.loseConnection()
    client.reads()

    assert client.arrived == 2 * CHUNK
    assert client.lost is ConnectionDone


def test_a_stop_goes_through_after_a_half_close(world, client, backend):
    client.finishes()
    assert backend.takes() == b""

    client.loseConnection()
    client.reads()
    backend.reads()
    assert client.lost is ConnectionDone

    world.reactor.advance(30)
    world.reactor.advance(0)
    assert backend.lost is ConnectionAborted


def test_what_is_queued_for_the_backend_is_sent_although_the_client_is_gone(client, backend):
    client.sends(b"the last words")
    client.loseConnection()
    client.reads()

    assert client.lost is ConnectionDone
    backend.sends(b"too late")
    assert backend.takes() == b"the last words"
    assert backend.heard_end
    backend.finishes()
    backend.reads()
    assert backend.lost is ConnectionDone


def test_that_there_is_room_for_more_is_no_news_to_one_who_is_alone(world, client, backend):
    session = client.protocol
    client.resets()

    session.resumeProducing()

    assert not client.is_reading


# Over TLS, which has no half-close


def test_a_tls_backend_gets_bytes_when_tls_is_established(world, client):
    backend = world.backend_answers(tls=True)
    assert not client.is_reading

    backend.protocol.handshakeCompleted()
    client.sends(b"hello")

    assert backend.takes() == b"hello"


def test_a_backend_that_is_silent_over_tls_ends_the_client_at_the_deadline(world, client, log):
    backend = world.backend_answers(tls=True)

    world.reactor.advance(5)
    world.reactor.advance(0)
    client.reads()

    assert backend.lost is ConnectionAborted
    assert client.heard_end
    assert log == ["cannot forward 192.0.2.1:56324 to unix:/run/backend: no answer within 5 s"]


def test_a_backend_with_which_tls_fails_ends_the_client(world, client, log):
    backend = world.backend_answers(tls=True)

    backend.resets()
    client.reads()

    assert client.heard_end
    assert len(log) == 1


def test_a_client_that_goes_before_tls_is_established_aborts_the_backend(world, client, log):
    backend = world.backend_answers(tls=True)

    client.resets()
    world.reactor.advance(0)

    assert backend.lost is ConnectionAborted
    assert not log


def test_the_end_of_a_client_closes_a_tls_backend_within_the_bound(world, client):
    backend = world.backend_answers(tls=True)
    backend.protocol.handshakeCompleted()
    client.sends(b"question")
    client.finishes()

    assert backend.takes() == b"question"
    assert backend.lost is ConnectionDone


# How it is made


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            {"endpoint": "tpc:127.0.0.1:80"},
            "'tpc:127.0.0.1:80' is no endpoint (Unknown endpoint type: 'tpc'); "
            "write it like tcp:127.0.0.1:8001 or unix:/run/door",
        ),
        (
            {"endpoint": "unix:/run/x", "proxy": "v3"},
            "proxy must be one of off, v1, v2, got 'v3'",
        ),
        (
            {"endpoint": "unix:/run/x", "connect_timeout": 0},
            "connect_timeout must be above zero, got 0",
        ),
        (
            {"endpoint": "unix:/run/x", "close_timeout": -1.5},
            "close_timeout must be above zero, got -1.5",
        ),
    ],
)
def test_what_makes_no_sense_is_told_when_it_is_made(arguments, words):
    with pytest.raises(ConfigurationError) as caught:
        Forward(reactor=MemoryReactorClock(), **arguments)

    assert str(caught.value) == words


def test_the_installed_reactor_is_the_one_unless_another_is_given():
    from twisted.internet import reactor

    assert Forward("unix:/run/backend").clock is reactor
