from contextlib import suppress
from socket import socketpair

import pytest
from twisted.internet.abstract import FileDescriptor
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.task import Clock
from twisted.internet.tcp import Server
from twisted.internet.testing import MemoryReactorClock, StringTransportWithDisconnection
from twisted.python.failure import Failure

from sockproto.events import ConnectionEnded, Ending
from sockproto.limits import Limits
from sockproto.transport.lease import AtOnce, Lease
from sockproto.transport.terms import Terms

from .kit import LOCAL, PEER, HalfClosing, Recorder, TcpTransport, Tickets


class Stay:
    """A lease on everything it needs."""

    def __init__(self, transport=None, session=None, *, observers=(), **limits):
        self.clock = Clock()
        self.clock.advance(100)
        self.events = []
        self.terms = Terms(
            None,
            None,
            serving=True,
            limits=Limits(close_timeout=5, **limits),
            admission=None,
            observers=[] if observers is None else [self.events.append, *observers],
            clock=self.clock,
        )
        self.tickets = Tickets()
        self.transport = transport or TcpTransport()
        self.session = session or Recorder()
        self.lease = Lease(
            self.terms, 7, PEER, LOCAL, "ann", 90.0, self.tickets, self.transport, self.session
        )
        self.terms.live[self.lease] = None

    def lose(self, why):
        self.lease.connection_lost(Failure(why))

    @property
    def endings(self):
        return [(each.ending.reason, each.ending.phase) for each in self.events]


@pytest.fixture
def stay():
    return Stay()


def test_the_end_of_a_session_returns_the_slot_reports_the_ending_and_tells_the_session(stay):
    stay.clock.advance(30)

    stay.lose(ConnectionDone())

    ending = Ending("accepted", "session")
    assert stay.events == [ConnectionEnded(7, PEER, LOCAL, ending, "ann", 40.0)]
    assert stay.tickets.released == 1
    assert stay.session.told == ["ConnectionDone"]
    assert (stay.terms.live, stay.clock.getDelayedCalls()) == ({}, [])


def test_a_session_may_have_no_ticket(stay):
    stay.lease._ticket = None

    stay.lose(ConnectionDone())

    assert stay.endings == [("accepted", "session")]


@pytest.mark.parametrize(
    ("why", "reason"),
    [
        (ConnectionDone(), "accepted"),
        (ConnectionAborted(), "accepted"),
        (ConnectionLost(), "lost"),
        (ZeroDivisionError("in dataReceived"), "crashed"),
    ],
)
def test_how_a_session_was_lost_says_why_it_is_over(stay, why, reason):
    stay.lose(why)

    assert stay.endings == [(reason, "session")]


def test_a_session_that_tls_has_failed_is_lost(stay):
    from OpenSSL import SSL

    stay.lose(SSL.Error([("SSL routines", "", "decryption failed")]))

    assert stay.endings == [("lost", "session")]


def test_an_observer_sees_the_end_before_the_session_does():
    session = Recorder()
    stay = Stay(session=session, observers=[lambda _: session.told.append("observed")])

    stay.lose(ConnectionDone())

    assert stay.session.told == ["observed", "ConnectionDone"]


def test_a_session_is_told_of_its_end_where_nobody_else_listens():
    stay = Stay(observers=None)

    stay.lose(ConnectionDone())

    assert (stay.session.told, stay.tickets.released) == (["ConnectionDone"], 1)


def test_a_ticket_that_breaks_does_not_keep_the_end_from_anybody(stay, logged):
    def release():
        raise ZeroDivisionError("oops")

    stay.tickets.release = release

    stay.lose(ConnectionDone())

    assert stay.endings == [("accepted", "session")]
    assert stay.session.told == ["ConnectionDone"]
    assert stay.terms.live == {}
    assert len(logged.take()) == 1


def test_a_session_whose_peer_has_finished_is_closed_and_nothing_went_wrong(stay):
    stay.lease.peer_finished()
    assert (stay.transport.disconnecting, stay.transport.aborted) == (True, False)

    stay.lose(ConnectionDone())

    assert stay.endings == [("accepted", "session")]
    assert stay.clock.getDelayedCalls() == []


def test_a_session_with_an_ear_for_the_end_of_the_stream_hears_it_and_stays():
    stay = Stay(session=HalfClosing())

    stay.lease.read_connection_lost()

    assert (stay.session.told, stay.transport.disconnecting) == (["eof"], False)


def test_a_peer_that_has_finished_and_then_closed_has_not_broken_anything(stay):
    stay.lease.peer_finished()

    # What epoll says of a unix socket that both ends have closed, Twisted takes for this.
    stay.lose(ConnectionLost())

    assert stay.endings == [("accepted", "session")]
    assert stay.session.told[-1] == "ConnectionDone"


def test_what_is_left_for_a_peer_that_has_finished_and_does_not_read_is_dropped_in_the_end(stay):
    stay.lease.peer_finished()
    stay.clock.advance(4.9)
    assert not stay.transport.aborted
    stay.clock.advance(0.2)
    assert stay.transport.aborted
    stay.lose(ConnectionAborted())

    assert stay.endings == [("accepted", "session")]


def test_a_session_that_has_had_its_time_is_closed():
    stay = Stay(session_lifetime=30)

    stay.clock.advance(29.9)
    assert not stay.transport.disconnecting
    stay.clock.advance(0.2)
    assert (stay.transport.disconnecting, stay.transport.aborted) == (True, False)
    stay.clock.advance(5.1)
    assert stay.transport.aborted
    stay.lose(ConnectionAborted())

    assert stay.endings == [("timeout", "session")]
    assert stay.clock.getDelayedCalls() == []


def test_a_session_that_has_gone_before_its_time_leaves_no_deadline_behind():
    stay = Stay(session_lifetime=30)

    stay.lose(ConnectionDone())

    assert stay.endings == [("accepted", "session")]
    assert stay.clock.getDelayedCalls() == []


# A transport's turn to write


class Speaker:
    """A transport of Twisted's on one end of a socket pair, and what the other end finds."""

    def __init__(self, session=None):
        here, self.there = socketpair()
        self.there.setblocking(False)
        self.reactor = MemoryReactorClock()
        self.session = session or HalfClosing()
        self.transport = Server(here, self.session, ("here", 0), None, 0, self.reactor)
        self.session.makeConnection(self.transport)
        self.sends = 0
        self._write_some_data = self.transport.writeSomeData
        self.transport.writeSomeData = self.write_some_data

    def write_some_data(self, data):
        self.sends += 1
        return self._write_some_data(data)

    def fill(self):
        """Write more than the kernel takes."""
        self.transport.write(b"x" * 2**20)
        assert self.transport.doWrite() is None

    def drain(self):
        with suppress(BlockingIOError):
            while self.there.recv(2**16):
                pass

    def __enter__(self):
        return self

    def __exit__(self, *error):
        for each in vars(self.transport):
            assert each not in ("startWriting", "stopWriting")
        self.there.close()
        self.transport.connectionLost(Failure(ConnectionDone()))

    @property
    def watched(self):
        return self.reactor.getWriters() == [self.transport]


def test_what_is_written_in_a_block_is_sent_once_it_is_over_and_nobody_is_asked():
    with Speaker() as speaker:
        with AtOnce(speaker.transport):
            speaker.transport.write(b"hello, ")
            speaker.transport.write(b"ann")
            assert (speaker.sends, speaker.watched) == (0, False)

        assert speaker.there.recv(100) == b"hello, ann"
        assert (speaker.sends, speaker.watched) == (1, False)


def test_a_block_in_which_nothing_is_written_sends_nothing():
    with Speaker() as speaker:
        with AtOnce(speaker.transport):
            pass

        assert (speaker.sends, speaker.watched) == (0, False)


def test_a_transport_that_is_closed_in_a_block_is_lost_after_what_was_written():
    with Speaker() as speaker:
        with AtOnce(speaker.transport):
            speaker.transport.write(b"bye")
            speaker.transport.loseConnection()
            assert speaker.session.told == ["made"]

        assert speaker.session.told == ["made", "ConnectionDone"]
        assert (speaker.there.recv(100), speaker.there.recv(100)) == (b"bye", b"")


def test_a_transport_whose_peer_has_gone_in_a_block_is_lost():
    with Speaker() as speaker:
        with AtOnce(speaker.transport):
            speaker.there.close()
            speaker.transport.write(b"hello")

        assert speaker.session.told == ["made", "ConnectionLost"]


def test_what_the_kernel_does_not_take_waits_for_the_reactor():
    with Speaker() as speaker:
        with AtOnce(speaker.transport):
            speaker.transport.write(b"x" * 2**20)
            speaker.transport.loseConnection()

        assert speaker.watched
        assert speaker.session.told == ["made"]


def test_what_has_waited_for_the_reactor_before_does_so_no_more_when_it_is_sent():
    with Speaker() as speaker:
        speaker.fill()
        assert speaker.watched
        while speaker.transport.dataBuffer:
            speaker.drain()
            with AtOnce(speaker.transport):
                speaker.transport.loseWriteConnection()

        # Or it would be told of its half-close once more.
        assert not speaker.watched
        assert speaker.session.told == ["made", "write side closed"]


def test_what_waits_for_the_reactor_goes_on_waiting_while_nothing_is_written():
    with Speaker() as speaker:
        speaker.fill()
        with AtOnce(speaker.transport):
            pass

        assert speaker.watched


def test_a_transport_that_is_aborted_in_a_block_sends_nothing():
    with Speaker() as speaker:
        speaker.fill()
        speaker.drain()
        with AtOnce(speaker.transport):
            speaker.transport.write(b"!")
            speaker.transport.abortConnection()
        assert (speaker.sends, speaker.watched) == (1, False)
        speaker.reactor.advance(0)

        assert speaker.session.told == ["made", "ConnectionAborted"]


def test_what_is_written_in_a_block_that_fails_is_left_to_the_reactor():
    with Speaker() as speaker:
        with suppress(ZeroDivisionError), AtOnce(speaker.transport):
            speaker.transport.write(b"hello")
            raise ZeroDivisionError

        assert (speaker.sends, speaker.watched) == (0, True)


def test_a_producer_that_fails_after_a_block_costs_its_connection(logged):
    class Fails:
        def __init__(self):
            self.asked = 0

        def resumeProducing(self):
            self.asked += 1
            if self.asked == 2:
                raise ZeroDivisionError("oops")

        def stopProducing(self):
            """It has stopped by itself."""

    with Speaker() as speaker:
        with AtOnce(speaker.transport):
            speaker.transport.write(b"hello")
            speaker.transport.registerProducer(Fails(), False)

        assert speaker.session.told == ["made", "ZeroDivisionError"]
        assert logged.take() == ["HalfClosing,0,here failed to write: ZeroDivisionError('oops')"]


def test_a_transport_that_is_no_descriptor_is_left_as_it_is():
    transport = TcpTransport()
    with AtOnce(transport):
        transport.write(b"hello")

        assert "startWriting" not in vars(transport)
    assert transport.value() == b"hello"


class Descriptor(FileDescriptor):
    """Twisted's descriptor on one end of a socket pair."""

    connected = 1
    aborted = False

    def __init__(self, handle):
        super().__init__(MemoryReactorClock())
        self.fileno = handle.fileno

    def abortConnection(self):
        self.aborted = True


def test_a_session_is_closed_when_nothing_has_moved_for_too_long():
    here, there = socketpair()
    with here, there:
        stay = Stay(Descriptor(here), session_idle_timeout=8)

        stay.clock.advance(6)
        there.send(b"!")
        stay.clock.advance(6)
        assert not stay.transport.disconnecting
        for _ in range(10):
            stay.clock.advance(1)

        assert stay.transport.disconnecting
        stay.lose(ConnectionDone())

    assert stay.endings == [("timeout", "session")]
    assert stay.clock.getDelayedCalls() == []


def test_shutting_down_closes_and_aborts_after_the_close_timeout(stay):
    stay.lease.shut_down()
    assert (stay.transport.disconnecting, stay.transport.aborted) == (True, False)

    stay.clock.advance(4.9)
    assert not stay.transport.aborted
    stay.clock.advance(0.2)
    assert stay.transport.aborted
    stay.lose(ConnectionAborted())

    assert stay.endings == [("shutdown", "session")]
    assert stay.clock.getDelayedCalls() == []


def test_a_session_that_goes_in_time_is_not_aborted(stay):
    stay.lease.shut_down()
    stay.clock.advance(2)

    stay.lose(ConnectionDone())

    assert stay.clock.getDelayedCalls() == []
    assert not stay.transport.aborted
    assert stay.endings == [("shutdown", "session")]


def test_shutting_down_again_gives_no_more_time(stay):
    for _ in range(6):
        stay.lease.shut_down()
        stay.clock.advance(1)

    assert stay.transport.aborted


def test_a_transport_that_is_gone_at_once_leaves_no_deadline_behind():
    transport = StringTransportWithDisconnection()
    stay = Stay(transport)
    transport.protocol = Recorder()
    transport.protocol.connectionLost = stay.lease.connection_lost

    stay.lease.shut_down()

    assert stay.endings == [("shutdown", "session")]
    assert (stay.terms.live, stay.clock.getDelayedCalls()) == ({}, [])


def test_shutting_down_what_is_over_does_nothing(stay):
    stay.lose(ConnectionDone())

    stay.lease.shut_down()

    assert stay.clock.getDelayedCalls() == []
    assert stay.endings == [("accepted", "session")]


def test_a_session_that_breaks_is_aborted_and_reported(stay, logged):
    try:
        raise ZeroDivisionError("oops")
    except ZeroDivisionError:
        stay.lease.crash("connectionMade")
    stay.lose(ConnectionAborted())

    assert stay.transport.aborted
    assert stay.endings == [("crashed", "session")]
    assert logged.take() == [
        f"{stay.session!r} failed in connectionMade: ZeroDivisionError('oops')"
    ]


def test_what_has_settled_the_end_of_a_session_first_stays_the_reason(stay, logged):
    try:
        raise ZeroDivisionError("oops")
    except ZeroDivisionError:
        stay.lease.crash("connectionMade")
        stay.lease.shut_down()
        stay.lease.crash("dataReceived")
    stay.lose(ConnectionAborted())

    assert stay.endings == [("crashed", "session")]
    assert len(logged.take()) == 2


def test_a_session_that_was_shut_down_and_then_breaks_was_shut_down(stay, logged):
    stay.lease.shut_down()
    stay.lose(ZeroDivisionError("oops"))

    assert stay.endings == [("shutdown", "session")]
