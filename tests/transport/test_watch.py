import select
import socket

import pytest
from twisted.internet import tcp
from twisted.internet.abstract import FileDescriptor
from twisted.internet.address import UNIXAddress
from twisted.internet.error import ConnectionDone
from twisted.internet.testing import MemoryReactorClock
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.python.failure import Failure

from sockproto.limits import Limits
from sockproto.transport.watch import Watch, watch

from .kit import HalfClosing, Recorder, Server, Sessions

TIMEOUT = 8.0
"""The idle timeout of these tests; it is looked every two seconds."""

LATE = TIMEOUT / 4 + 0.3
"""What may pass until it is noticed: a quarter, the deadline's own bucket, and a turn of ours."""


class Descriptor(tcp.Connection):
    """Twisted's own transport, on one end of a socket pair."""

    connected = 1

    def getPeer(self):
        return UNIXAddress(None)

    getHost = getPeer


class Stay:
    """A session with the other end of its connection; its reactor turns when we say so."""

    def __init__(self, kind=Recorder, *, wrap=False, **limits):
        here, self.peer = socket.socketpair()
        self.peer.setblocking(False)
        self.reactor = MemoryReactorClock()
        self.sessions = Sessions(kind)
        bounds = Limits(close_timeout=5, **limits)
        self.server = Server(session=self.sessions, clock=self.reactor, limits=bounds)
        factory = WrappingFactory(self.server.factory) if wrap else self.server.factory
        self.protocol = factory.buildProtocol(None)
        self.transport = Descriptor(here, self.protocol, self.reactor)
        self.transport.startReading()
        self.protocol.makeConnection(self.transport)
        self.peer.send(b"yes\n")
        self.turn()
        self.began = self.reactor.seconds()

    @property
    def session(self):
        return self.sessions.built[0]

    @property
    def endings(self):
        return self.server.endings

    @property
    def elapsed(self):
        return self.reactor.seconds() - self.began

    def turn(self):
        """What a reactor does with a descriptor that is ready."""
        readers, writers = self.reactor.getReaders(), self.reactor.getWriters()
        readable, writable, _ = select.select(readers, writers, [], 0)
        if readable and (why := self.transport.doRead()) is not None:
            assert isinstance(why, ConnectionDone)
            self.reactor.removeReader(self.transport)
            self.transport.readConnectionLost(Failure(why))
        elif writable and (why := self.transport.doWrite()) is not None:
            self.transport.connectionLost(Failure(why))

    def wait(self, seconds):
        """Let time pass, and the reactor turn."""
        for _ in range(round(seconds * 10)):
            self.reactor.advance(0.1)
            self.turn()
        assert self.reactor.seconds() < 200, "it never came to be"

    def wait_for_the_end(self):
        """Gives the time until the connection is gone."""
        before = self.reactor.seconds()
        while not self.endings:
            self.wait(0.1)
        return self.reactor.seconds() - before

    def fill(self):
        """Have the session write more than the kernel takes."""
        self.session.transport.write(bytes(1_000_000))
        for _ in range(20):
            self.turn()

    def read(self, count=65536):
        """Read, as the peer; gives how much."""
        return len(self.peer.recv(count))


@pytest.fixture
def begin():
    stays = []

    def begin(*arguments, **limits):
        stays.append(Stay(*arguments, **limits))
        return stays[-1]

    yield begin
    for stay in stays:
        stay.peer.close()
        if not stay.endings:
            stay.transport.connectionLost(Failure(ConnectionDone()))


# Off


def test_without_bounds_nothing_of_ours_is_there(begin):
    stay = begin()

    assert stay.protocol.dataReceived == stay.session.dataReceived
    assert vars(stay.transport).keys().isdisjoint({"doRead", "writeSomeData"})
    assert len(stay.server.factory.terms.deadlines) == 0
    assert stay.reactor.getDelayedCalls() == []
    stay.wait(100)
    assert stay.endings == []


def test_without_bounds_there_is_no_watch():
    assert watch(object(), Limits(), MemoryReactorClock()) is None


# Idle


def test_nobody_stands_between_the_transport_and_its_session(begin):
    stay = begin(session_idle_timeout=TIMEOUT)

    assert stay.protocol.dataReceived == stay.session.dataReceived


@pytest.mark.parametrize("wrap", [False, True])
def test_a_session_with_whom_nothing_moves_is_closed(begin, wrap):
    stay = begin(session_idle_timeout=TIMEOUT, wrap=wrap)

    assert TIMEOUT <= stay.wait_for_the_end() <= TIMEOUT + LATE

    assert stay.endings == [("timeout", "session")]
    assert stay.session.told[-1] == "ConnectionDone"
    assert (stay.peer.recv(100), stay.peer.recv(1)) == (b"OK\n", b"")
    assert stay.server.left_behind == []
    assert vars(stay.transport).keys().isdisjoint({"doRead", "writeSomeData"})


@pytest.mark.parametrize("quiet", [0.1, 1.0, 1.9, 2.0, 2.1, 5.0, 7.7])
def test_it_is_never_closed_before_a_whole_timeout_of_nothing(begin, quiet):
    stay = begin(session_idle_timeout=TIMEOUT)

    for _ in range(5):
        stay.wait(quiet)
        stay.peer.send(b"x")
        stay.turn()

    assert TIMEOUT <= stay.wait_for_the_end() <= TIMEOUT + LATE
    assert stay.session.told.count(b"x") == 5


@pytest.mark.parametrize("wrap", [False, True])
def test_what_the_peer_sends_keeps_a_session(begin, wrap):
    stay = begin(session_idle_timeout=TIMEOUT, wrap=wrap)
    assert isinstance(stay.session.transport, ProtocolWrapper if wrap else Descriptor)

    for _ in range(10):
        stay.wait(5)
        stay.peer.send(b"still here")

    assert stay.endings == []


@pytest.mark.parametrize("wrap", [False, True])
def test_what_the_kernel_takes_keeps_a_session(begin, wrap):
    stay = begin(session_idle_timeout=TIMEOUT, wrap=wrap)

    for _ in range(10):
        stay.wait(5)
        stay.session.transport.write(b"tick")
        stay.turn()
        assert stay.read() >= 4

    assert stay.endings == []


def test_to_write_to_a_peer_that_does_not_read_is_no_progress(begin):
    stay = begin(session_idle_timeout=TIMEOUT)
    stay.fill()

    while not stay.transport.disconnecting:
        stay.session.transport.write(b"are you there?")
        stay.wait(0.5)

    assert TIMEOUT <= stay.elapsed <= TIMEOUT + LATE + 0.5


def test_what_the_kernel_sends_on_keeps_a_session_that_does_not_write(begin):
    stay = begin(session_idle_timeout=TIMEOUT)
    stay.wait(0.1)
    assert stay.read() == len(b"OK\n")
    for _ in range(4):
        stay.session.transport.write(bytes(10_000))
        stay.turn()
    assert not stay.reactor.getWriters()

    for _ in range(4):
        stay.wait(5)
        assert stay.read(10_000) == 10_000

    assert stay.endings == []
    stay.wait_for_the_end()
    assert stay.endings == [("timeout", "session")]


def test_what_arrives_keeps_a_session_that_has_paused(begin):
    stay = begin(session_idle_timeout=TIMEOUT)
    stay.session.transport.pauseProducing()

    for _ in range(10):
        stay.wait(5)
        stay.peer.send(b"more")

    assert stay.endings == []


def test_a_session_that_has_paused_and_gets_nothing_is_idle(begin):
    stay = begin(session_idle_timeout=TIMEOUT)
    stay.session.transport.pauseProducing()
    stay.peer.send(b"unread")

    assert TIMEOUT <= stay.wait_for_the_end() <= TIMEOUT + LATE

    assert stay.endings == [("timeout", "session")]
    assert b"unread" not in stay.session.told


def test_the_end_of_a_stream_is_the_last_that_a_peer_sends(begin):
    stay = begin(HalfClosing, session_idle_timeout=TIMEOUT)
    stay.wait(5)

    stay.peer.shutdown(socket.SHUT_WR)
    stay.turn()

    assert TIMEOUT <= stay.wait_for_the_end() <= TIMEOUT + LATE
    assert stay.session.told[-2:] == ["eof", "ConnectionDone"]


def test_an_idle_session_that_cannot_flush_is_aborted_after_the_close_timeout(begin):
    stay = begin(session_idle_timeout=TIMEOUT)
    stay.fill()
    while not stay.transport.disconnecting:
        stay.wait(0.1)

    assert 5 <= stay.wait_for_the_end() <= 5.3

    assert stay.endings == [("timeout", "session")]
    assert stay.session.told[-1] == "ConnectionAborted"
    assert stay.server.left_behind == []


# The lifetime


def test_a_lifetime_ends_also_a_session_that_is_busy(begin):
    stay = begin(session_lifetime=20)
    assert vars(stay.transport).keys().isdisjoint({"doRead", "writeSomeData"})
    assert len(stay.server.factory.terms.deadlines) == 1

    while not stay.endings:
        stay.peer.send(b"x")
        stay.wait(0.5)

    assert 20 <= stay.elapsed <= 20.6
    assert stay.endings == [("timeout", "session")]
    assert stay.server.left_behind == []


def test_a_lifetime_begins_at_the_hand_over():
    server = Server(session=Sessions(), limits=Limits(session_lifetime=20))
    connection = server.connect()
    server.clock.advance(4)
    connection.send(b"yes\n")

    server.clock.advance(19.9)
    assert connection.goodbye == "open"
    server.clock.advance(0.2)
    assert connection.goodbye == "closed"


def test_what_a_session_has_written_is_sent_at_the_end_of_its_lifetime(begin):
    stay = begin(session_lifetime=20)
    stay.fill()
    stay.wait(20)
    assert stay.transport.disconnecting

    received = 0
    while not stay.endings:
        received += stay.read()
        stay.turn()
    while part := stay.peer.recv(65536):
        received += len(part)

    assert received == len(b"OK\n") + 1_000_000
    assert stay.endings == [("timeout", "session")]


def test_a_session_that_cannot_flush_at_the_end_of_its_lifetime_is_aborted(begin):
    stay = begin(session_lifetime=20)
    stay.fill()

    assert 25 <= stay.wait_for_the_end() <= 25.3

    assert stay.session.told[-1] == "ConnectionAborted"


@pytest.mark.parametrize(("idle", "lifetime"), [(TIMEOUT, 4), (4, 100)])
def test_of_two_bounds_the_one_that_comes_first_counts(begin, idle, lifetime):
    stay = begin(session_idle_timeout=idle, session_lifetime=lifetime)

    assert 4 <= stay.wait_for_the_end() <= 4 + 4 / 4 + 0.2

    assert stay.endings == [("timeout", "session")]


def test_a_session_that_is_never_idle_has_its_lifetime_beside(begin):
    stay = begin(session_idle_timeout=TIMEOUT, session_lifetime=21)

    while not stay.endings:
        stay.peer.send(b"x")
        stay.wait(0.5)

    assert 21 <= stay.elapsed <= 21.6


# Other ends

BOUNDS = {"session_idle_timeout": TIMEOUT, "session_lifetime": 20}


def test_a_session_that_closes_by_itself_has_ended_by_itself(begin):
    stay = begin(**BOUNDS)
    stay.wait(3)

    stay.session.transport.loseConnection()
    stay.turn()

    assert stay.endings == [("accepted", "session")]
    assert stay.server.left_behind == []
    stay.wait(30)
    assert stay.endings == [("accepted", "session")]


def test_a_session_that_aborts_stays_aborted(begin):
    stay = begin(**BOUNDS)

    stay.session.transport.abortConnection()
    aborting = vars(stay.transport)["doRead"]
    stay.wait(0.1)

    assert stay.endings == [("accepted", "session")]
    assert vars(stay.transport)["doRead"] is aborting
    assert "writeSomeData" not in vars(stay.transport)
    assert stay.server.left_behind == []


def test_a_session_that_closes_by_itself_and_cannot_flush_is_idle_then(begin):
    stay = begin(session_idle_timeout=TIMEOUT)
    stay.fill()

    stay.session.transport.loseConnection()

    assert TIMEOUT + 5 <= stay.wait_for_the_end() <= TIMEOUT + LATE + 5.2
    assert stay.endings == [("timeout", "session")]


def test_a_peer_that_leaves_in_the_middle_is_lost(begin):
    stay = begin(**BOUNDS)
    stay.session.transport.pauseProducing()

    stay.peer.close()
    stay.session.transport.write(b"hello?")
    stay.turn()

    assert stay.endings == [("lost", "session")]
    assert stay.server.left_behind == []


@pytest.mark.parametrize("before", [1, 7, 19])
def test_a_stop_gives_every_session_the_whole_close_timeout(begin, before):
    stay = begin(session_lifetime=20)
    stay.fill()
    stay.wait(before)

    stay.server.factory.shut_down()

    assert 5 <= stay.wait_for_the_end() <= 5.2
    assert stay.endings == [("shutdown", "session")]


def test_a_stop_of_a_session_that_has_timed_out_gives_it_no_more_time(begin):
    stay = begin(session_lifetime=20)
    stay.fill()
    stay.wait(22)

    stay.server.factory.shut_down()

    assert stay.wait_for_the_end() <= 3.2
    assert stay.endings == [("timeout", "session")]


def test_a_session_that_breaks_as_it_begins_leaves_nothing_behind(begin, logged):
    class Broken(Recorder):
        def connectionMade(self):
            raise ZeroDivisionError("oops")

    stay = begin(Broken, **BOUNDS)
    stay.wait(0.1)

    assert stay.endings == [("crashed", "session")]
    assert stay.server.left_behind == []
    assert len(logged.take()) == 1


# Other transports


def test_where_there_is_no_descriptor_only_the_lifetime_counts():
    server = Server(session=Sessions(), limits=Limits(**BOUNDS))
    connection = server.connect()
    connection.send(b"yes\n")

    server.clock.advance(19.9)
    assert connection.goodbye == "open"
    server.clock.advance(0.2)
    assert connection.goodbye == "closed"
    connection.finish()

    assert server.endings == [("timeout", "session")]
    assert server.left_behind == []


def test_where_there_is_no_descriptor_an_idle_timeout_alone_files_nothing():
    server = Server(session=Sessions(), limits=Limits(session_idle_timeout=TIMEOUT))
    server.connect().send(b"yes\n")

    assert len(server.factory.terms.deadlines) == 0


class Taking(FileDescriptor):
    """A descriptor without a number, which takes what it is told to."""

    def __init__(self, takes):
        super().__init__(MemoryReactorClock())
        self.takes = takes

    def doRead(self):
        return "read"

    def writeSomeData(self, data):
        return self.takes


def test_where_the_kernel_tells_nothing_what_it_takes_is_counted():
    descriptor = Taking(3)
    watching = Watch(descriptor, Limits(session_idle_timeout=TIMEOUT), 0.0)

    assert (descriptor.writeSomeData(b"abc"), descriptor.doRead()) == (3, "read")

    assert not watching.is_over(2.0)
    assert watching.due == 4.0
    assert [watching.is_over(now) for now in (4.0, 6.0, 8.0, 10.0)] == [False, False, False, True]


@pytest.mark.parametrize("takes", [0, ConnectionDone()])
def test_what_is_not_taken_is_no_progress(takes):
    descriptor = Taking(takes)
    watching = Watch(descriptor, Limits(session_idle_timeout=TIMEOUT), 0.0)

    for now in (2.0, 4.0, 6.0):
        assert descriptor.writeSomeData(b"abc") is takes
        assert not watching.is_over(now)

    assert watching.is_over(8.0)


def test_a_reactor_that_was_blocked_looks_at_the_socket_first(begin):
    stay = begin(session_idle_timeout=TIMEOUT)
    stay.wait(5)
    stay.peer.send(b"x")

    stay.reactor.advance(60)

    assert stay.endings == []
    stay.wait(1)
    assert not stay.transport.disconnecting


def test_a_watch_is_stopped_once():
    descriptor = Taking(1)
    watching = Watch(descriptor, Limits(session_idle_timeout=TIMEOUT), 0.0)

    watching.stop()
    descriptor.doRead = another = object()
    watching.stop()

    assert descriptor.doRead is another
