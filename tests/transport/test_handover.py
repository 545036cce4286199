import gc
from socket import socketpair
from weakref import ref

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Factory
from twisted.internet.task import Clock
from twisted.internet.testing import (
    MemoryReactorClock,
    StringTransport,
    StringTransportWithDisconnection,
)
from twisted.internet.unix import Server as UnixTransport
from twisted.protocols.portforward import ProxyFactory, ProxyServer
from twisted.python.failure import Failure

from sockproto import Accept
from sockproto.core.exchange import Exchange
from sockproto.transport.client import ClientFactory, ClientProtocol
from sockproto.transport.gate import Gate

from .kit import Asks, HalfClosing, Recorder, Server, Sessions, TcpTransport, TlsPair, Word, runs

OK = Accept(b"OK\n", identity="ann")


class Meeting:
    """A server's connection that is about to be handed to a session of this kind."""

    def __init__(self, kind=Recorder, handshake=None, transport=None, **behaviour):
        self.sessions = Sessions(type(kind.__name__, (kind,), behaviour))
        self.server = Server(handshake, self.sessions)
        self.connection = self.server.connect(transport)
        self.transport = self.connection.transport
        self.protocol = self.connection.protocol

    def send(self, data):
        self.connection.send(data)

    @property
    def session(self):
        return self.sessions.built[0]

    @property
    def told(self):
        return self.session.told


STAND_INS = {"pauseProducing", "resumeProducing", "loseConnection", "abortConnection"}


def bytes_of(told):
    return b"".join(each for each in told if isinstance(each, bytes))


# The order


def test_the_reply_comes_first_then_the_verdict_then_the_connection_then_what_came_early():
    def accepted(self, accept):
        self.told.append((meeting.connection.received, accept))

    meeting = Meeting(handshake_accepted=accepted)

    meeting.send(b"yes\nhello")

    assert meeting.told == [(b"OK\n", OK), "made", b"hello"]


def test_a_session_without_the_method_is_not_told_the_verdict():
    meeting = Meeting(handshake_accepted=None)

    meeting.send(b"yes\nhello")

    assert meeting.told == ["made", b"hello"]


STREAM = b"yes\n" + b"hello, session"


@pytest.mark.parametrize("cut", range(1, len(STREAM)))
def test_what_came_early_comes_once_and_in_order_wherever_the_stream_is_cut(cut):
    meeting = Meeting()

    meeting.send(STREAM[:cut])
    meeting.send(STREAM[cut:])

    assert meeting.told[:2] == [OK, "made"]
    assert bytes_of(meeting.told) == b"hello, session"


def test_bytes_that_come_one_by_one_reach_the_session_one_by_one():
    meeting = Meeting()

    for each in STREAM:
        meeting.send(bytes([each]))

    assert meeting.told == [OK, "made", *(bytes([each]) for each in b"hello, session")]


def test_nothing_stands_in_the_data_path_afterwards():
    meeting = Meeting()

    meeting.send(b"yes\n")

    assert meeting.protocol.dataReceived == meeting.session.dataReceived
    assert meeting.session.transport is meeting.transport
    assert not STAND_INS & set(vars(meeting.transport))


def test_nothing_stands_in_the_data_path_after_early_bytes_either():
    meeting = Meeting()

    meeting.send(b"yes\nhello")

    assert meeting.protocol.dataReceived == meeting.session.dataReceived
    assert not STAND_INS & set(vars(meeting.transport))


@pytest.mark.parametrize("kind", [Recorder, HalfClosing])
@pytest.mark.parametrize("data", [b"yes\n", b"yes\nhello"])
def test_gate_and_exchange_are_collectable_afterwards(kind, data):
    def in_memory():
        gc.collect()
        return [each for each in gc.get_objects() if isinstance(each, Gate | Exchange)]

    before = in_memory()
    meeting = Meeting(kind)
    gate = ref(meeting.protocol._gate)
    assert len(in_memory()) == len(before) + 2

    meeting.send(data)

    assert gate() is None
    assert len(in_memory()) == len(before)


def test_the_session_is_told_of_its_end_once():
    meeting = Meeting()
    meeting.send(b"yes\nhello")

    meeting.connection.lose()

    assert meeting.told == [OK, "made", b"hello", "ConnectionDone"]
    assert meeting.server.endings == [("accepted", "session")]
    assert meeting.server.left_behind == []


# Sessions that pause


def test_a_session_that_pauses_in_connection_made_gets_what_came_early_when_it_resumes():
    meeting = Meeting(connectionMade=lambda self: self.transport.pauseProducing())

    meeting.send(b"yes\nhello")
    assert (meeting.told, meeting.transport.producerState) == ([OK], "paused")
    meeting.session.transport.resumeProducing()

    assert meeting.told == [OK, b"hello"]
    assert meeting.transport.producerState == "producing"
    assert meeting.protocol.dataReceived == meeting.session.dataReceived


def test_bytes_that_come_although_it_has_paused_wait_their_turn():
    meeting = Meeting(connectionMade=lambda self: self.transport.pauseProducing())

    meeting.send(b"yes\nhello")
    meeting.send(b", again")
    meeting.session.transport.resumeProducing()

    assert meeting.told == [OK, b"hello", b", again"]


def test_a_session_that_pauses_and_resumes_in_connection_made_is_given_nothing_before_its_end():
    def made(self):
        self.transport.pauseProducing()
        self.transport.resumeProducing()
        self.told.append("made")

    meeting = Meeting(connectionMade=made)

    meeting.send(b"yes\nhello")

    assert meeting.told == [OK, "made", b"hello"]


def test_a_session_may_pause_while_it_is_given_what_came_early():
    def received(self, data):
        self.told.append(data)
        if data == b"hello":
            self.transport.pauseProducing()
            meeting.send(b", again")

    meeting = Meeting(dataReceived=received)

    meeting.send(b"yes\nhello")
    assert meeting.told == [OK, "made", b"hello"]
    meeting.session.transport.resumeProducing()

    assert meeting.told == [OK, "made", b"hello", b", again"]


def test_a_session_may_pause_and_resume_while_it_is_given_what_came_early():
    def received(self, data):
        self.told.append(data)
        self.transport.pauseProducing()
        self.transport.resumeProducing()

    meeting = Meeting(dataReceived=received)

    meeting.send(b"yes\nhello")
    meeting.send(b", again")

    assert meeting.told == [OK, "made", b"hello", b", again"]


def test_what_a_transport_delivers_on_resuming_comes_after_what_came_early():
    class Eager(TcpTransport):
        pending = b", again"

        def resumeProducing(self):
            super().resumeProducing()
            pending, self.pending = self.pending, b""
            if pending:
                self.protocol.dataReceived(pending)

    def received(self, data):
        self.told.append(data)
        self.transport.pauseProducing()
        self.transport.resumeProducing()

    meeting = Meeting(dataReceived=received, transport=Eager())

    meeting.send(b"yes\nhello")

    assert meeting.told == [OK, "made", b"hello", b", again"]


def test_twisted_portforward_gets_every_byte():
    reactor = MemoryReactorClock()
    forward = ProxyFactory("backend.example", 80)
    forward.protocol = type("ProxyServer", (ProxyServer,), {"reactor": reactor})
    server = Server(Word(), forward)
    connection = server.connect()

    connection.send(b"yes\nGET / ")
    backend = StringTransport()
    reactor.tcpClients[0][2].buildProtocol(None).makeConnection(backend)
    connection.send(b"HTTP/1.0\r\n")

    assert reactor.tcpClients[0][:2] == ("backend.example", 80)
    assert backend.value() == b"GET / HTTP/1.0\r\n"


def tls_meeting(kind, handshake=None):
    clock = Clock()
    sessions = Sessions(kind)
    server = Server(handshake, sessions, clock=clock)
    client = Sessions()
    pair = TlsPair(server.factory, client, clock)
    pair.pump()
    return pair, server, sessions, client.built[0]


def test_over_tls_a_session_that_pauses_is_spared_what_was_decrypted_with_the_handshake():
    class Pausing(Recorder):
        def connectionMade(self):
            self.transport.pauseProducing()

    pair, _, sessions, client = tls_meeting(Pausing)

    # Two records that arrive as one.
    client.transport.write(b"yes\n")
    pair.clock.advance(0)
    client.transport.write(b"hello")
    pair.pump()

    session = sessions.built[0]
    assert session.told == [OK]
    session.transport.resumeProducing()
    assert session.told == [OK, b"hello"]
    assert pair.inner[0].dataReceived == session.dataReceived


def test_over_tls_nothing_stands_in_the_data_path_of_a_session_that_does_not_pause():
    pair, _, sessions, client = tls_meeting(HalfClosing)

    client.transport.write(b"yes\n")
    pair.pump()

    session = sessions.built[0]
    assert session.told == [OK, "made"]
    assert pair.inner[0].dataReceived == session.dataReceived
    assert not STAND_INS & set(vars(session.transport))


# Sessions that close


@pytest.mark.parametrize("call", ["loseConnection", "abortConnection"])
@pytest.mark.parametrize("transport", [TcpTransport, StringTransportWithDisconnection])
def test_a_session_that_closes_in_connection_made_gets_no_early_bytes(call, transport):
    def made(self):
        self.told.append("made")
        getattr(self.transport, call)()

    meeting = Meeting(connectionMade=made, transport=transport())

    meeting.send(b"yes\nhello")

    assert bytes_of(meeting.told) == b""
    if transport is TcpTransport:
        meeting.connection.finish()
    assert meeting.told == [OK, "made", meeting.told[-1]]
    assert meeting.server.endings == [("accepted", "session")]
    assert meeting.server.left_behind == []


def test_a_session_that_closes_on_its_first_early_bytes_gets_no_more():
    def received(self, data):
        self.told.append(data)
        meeting.send(b", again")
        self.transport.loseConnection()

    meeting = Meeting(dataReceived=received)

    meeting.send(b"yes\nhello")

    assert meeting.told == [OK, "made", b"hello"]


def test_a_session_that_resumes_and_closes_is_not_resumed():
    def received(self, data):
        self.told.append(data)
        self.transport.loseConnection()

    meeting = Meeting(
        connectionMade=lambda self: self.transport.pauseProducing(), dataReceived=received
    )

    meeting.send(b"yes\nhello")
    meeting.session.transport.resumeProducing()

    assert meeting.told == [OK, b"hello"]


def test_a_session_that_is_lost_while_it_has_paused_gets_nothing_after_its_end():
    meeting = Meeting(connectionMade=lambda self: self.transport.pauseProducing())
    meeting.send(b"yes\nhello")

    meeting.connection.lose(ConnectionLost())
    meeting.session.transport.resumeProducing()

    assert meeting.told == [OK, "ConnectionLost"]
    assert meeting.server.endings == [("lost", "session")]


# Sessions that break


class Oops(BaseException):
    """Not even an Exception."""


@pytest.mark.parametrize("error", [ZeroDivisionError, SystemExit, Oops])
@pytest.mark.parametrize("method", ["handshake_accepted", "connectionMade"])
@pytest.mark.parametrize("data", [b"yes\n", b"yes\nhello"])
def test_a_session_that_breaks_on_its_way_in_is_aborted(method, error, data, logged):
    def fail(self, *_):
        raise error("oops")

    meeting = Meeting(**{method: fail})

    meeting.send(data)
    assert meeting.connection.goodbye == "aborted"
    meeting.connection.finish()

    assert bytes_of(meeting.told) == b""
    assert meeting.told[-1] == "ConnectionAborted"
    assert meeting.server.verdicts == [("accepted", "handshake", "")]
    assert meeting.server.endings == [("crashed", "session")]
    assert meeting.server.left_behind == []
    shown = repr(error("oops"))
    assert logged.take() == [f"{meeting.session!r} failed in {method}: {shown}"]


@pytest.mark.parametrize("error", [ZeroDivisionError, SystemExit])
def test_a_session_that_breaks_on_its_early_bytes_is_aborted(error, logged):
    def fail(self, data):
        raise error("oops")

    meeting = Meeting(dataReceived=fail)

    meeting.send(b"yes\nhello")
    assert meeting.connection.goodbye == "aborted"
    meeting.connection.finish()

    assert meeting.told == [OK, "made", "ConnectionAborted"]
    assert meeting.server.endings == [("crashed", "session")]
    assert len(logged.take()) == 1


# The end of the stream


def test_half_close_is_offered_when_the_session_offers_it():
    meeting = Meeting(HalfClosing)

    meeting.send(b"yes\n")
    meeting.connection.send_eof()

    assert IHalfCloseableProtocol.providedBy(meeting.protocol)
    assert meeting.told == [OK, "made", "eof"]
    meeting.protocol.writeConnectionLost()
    assert meeting.told == [OK, "made", "eof", "write side closed"]


@pytest.mark.parametrize("data", [b"yes\n", b"yes\nhello"])
def test_an_end_closes_a_session_that_cannot_hear_it_when_all_is_sent(data):
    meeting = Meeting()
    meeting.send(data)

    meeting.connection.send_eof()
    assert meeting.connection.goodbye == "closed"
    assert "ConnectionDone" not in meeting.told
    meeting.connection.finish()

    assert meeting.told[-1] == "ConnectionDone"
    assert meeting.server.endings == [("accepted", "session")]
    assert meeting.server.left_behind == []


def test_a_session_that_cannot_hear_the_end_and_stays_is_aborted():
    meeting = Meeting()
    meeting.send(b"yes\n")

    meeting.connection.send_eof()
    meeting.server.clock.advance(5.1)
    assert meeting.connection.goodbye == "aborted"
    meeting.connection.finish()

    assert meeting.server.endings == [("accepted", "session")]


def test_a_session_that_cannot_hear_the_end_hears_nothing_of_our_half_close():
    meeting = Meeting()
    meeting.send(b"yes\n")

    meeting.protocol.writeConnectionLost()

    assert meeting.told == [OK, "made"]


@pytest.mark.parametrize("kind", [Recorder, HalfClosing])
def test_nothing_of_ours_stands_in_the_data_path(kind):
    meeting = Meeting(kind)

    meeting.send(b"yes\nhello")

    assert meeting.protocol.dataReceived == meeting.session.dataReceived


def test_half_close_is_offered_per_connection():
    plain, half = Meeting(), Meeting(HalfClosing)
    for each in (plain, half):
        each.send(b"yes\n")
        each.connection.send_eof()

    assert [each.connection.goodbye for each in (plain, half)] == ["closed", "open"]


def ended_before(kind=Recorder, data=b"hello", **behaviour):
    """A peer that has sent everything, and finished, before it is accepted."""
    answer = Deferred()
    meeting = Meeting(kind, handshake=Asks(answer), **behaviour)
    if data:
        meeting.send(data)
    meeting.connection.send_eof()
    assert meeting.sessions.built == []
    answer.callback(None)
    return meeting


ASKED = Accept(b"OK\n")


@pytest.mark.parametrize("data", [b"", b"hello"])
def test_an_end_that_came_before_is_told_to_a_session_that_can_hear_it(data):
    meeting = ended_before(HalfClosing, data)

    assert meeting.told == [ASKED, "made", *([data] if data else []), "eof"]
    assert meeting.connection.goodbye == "open"


@pytest.mark.parametrize("data", [b"", b"hello"])
def test_an_end_that_came_before_closes_a_session_that_cannot_hear_it(data):
    meeting = ended_before(Recorder, data)

    assert meeting.told == [ASKED, "made", *([data] if data else [])]
    assert (meeting.connection.received, meeting.connection.goodbye) == (b"OK\n", "closed")
    meeting.connection.finish()
    assert meeting.server.endings == [("accepted", "session")]
    assert meeting.server.left_behind == []


def test_a_session_closed_by_an_end_that_came_before_is_aborted_if_it_stays():
    meeting = ended_before(Recorder)

    meeting.server.clock.advance(5.1)

    assert meeting.connection.goodbye == "aborted"


def test_an_end_that_came_before_waits_for_a_session_that_has_paused():
    meeting = ended_before(HalfClosing, connectionMade=lambda self: self.transport.pauseProducing())

    assert meeting.told == [ASKED]
    meeting.session.transport.resumeProducing()

    assert meeting.told == [ASKED, b"hello", "eof"]
    # There is nothing left to read; Twisted would tell of the end again.
    assert meeting.transport.producerState == "paused"


def test_an_end_that_comes_while_the_session_has_paused_waits_with_the_rest():
    meeting = Meeting(HalfClosing, connectionMade=lambda self: self.transport.pauseProducing())
    meeting.send(b"yes\nhello")

    meeting.connection.send_eof()
    assert meeting.told == [OK]
    meeting.session.transport.resumeProducing()

    assert meeting.told == [OK, b"hello", "eof"]


def test_an_end_that_came_before_is_not_told_to_a_session_that_has_closed():
    meeting = ended_before(HalfClosing, connectionMade=lambda self: self.transport.loseConnection())

    assert meeting.told == [ASKED]


def test_a_session_that_resumes_is_not_lost_before_it_has_done_so():
    class Pausing(Recorder):
        def connectionMade(self):
            self.transport.pauseProducing()

        def resume(self):
            self.transport.resumeProducing()
            self.told.append("resumed")

    answer, sessions, reactor = Deferred(), Sessions(Pausing), MemoryReactorClock()
    protocol = Server(Asks(answer), sessions).factory.buildProtocol(None)
    here, there = socketpair()
    with there:
        transport = UnixTransport(here, protocol, "", None, 0, reactor)
        protocol.makeConnection(transport)
        transport.readConnectionLost(Failure(ConnectionDone()))
        answer.callback(None)
        sessions.built[0].resume()
        assert sessions.built[0].told == [ASKED, "resumed"]
        assert reactor.getWriters() == [transport]
        transport.connectionLost(Failure(transport.doWrite()))

    assert sessions.built[0].told == [ASKED, "resumed", "ConnectionDone"]


@pytest.mark.parametrize("error", [ZeroDivisionError, SystemExit])
def test_a_session_that_breaks_on_an_end_that_came_before_is_aborted(error, logged):
    def fail(self):
        raise error("oops")

    meeting = ended_before(HalfClosing, readConnectionLost=fail)

    assert meeting.connection.goodbye == "aborted"
    meeting.connection.finish()
    assert meeting.server.endings == [("crashed", "session")]
    assert len(logged.take()) == 1


# Whoever waits for the session


def test_whoever_waits_for_a_session_has_it_before_it_is_given_a_byte():
    sessions = Sessions()
    protocol = ClientProtocol(ClientFactory(Word(), sessions, clock=Clock()))
    protocol.finished.addCallback(lambda session: session.told.append("found"))
    protocol.makeConnection(TcpTransport())

    protocol.dataReceived(b"OK\nhello")

    assert sessions.built[0].told == [Accept(), "made", "found", b"hello"]


@pytest.mark.parametrize("method", ["handshake_accepted", "connectionMade"])
@pytest.mark.parametrize("transport", [TcpTransport, StringTransportWithDisconnection])
def test_whoever_waits_for_a_session_that_breaks_on_its_way_in_hears_of_it(
    method, transport, logged
):
    def fail(self, *_):
        raise ZeroDivisionError("oops")

    sessions = Sessions(type("Broken", (Recorder,), {method: fail}))
    protocol = ClientProtocol(ClientFactory(Word(), sessions, clock=Clock()))
    heard = []
    protocol.finished.addErrback(lambda failure: heard.append(failure.value))
    wire = transport()
    wire.protocol = protocol
    protocol.makeConnection(wire)

    protocol.dataReceived(b"OK\n")
    if transport is TcpTransport:
        protocol.connectionLost()

    assert [str(each) for each in heard] == [
        f"the session raised ZeroDivisionError('oops') in {method}"
    ]
    assert isinstance(heard[0].__cause__, ZeroDivisionError)
    assert len(logged.take()) == 1


# A transport that answers while it is written to


def test_what_is_delivered_while_the_reply_is_written_reaches_the_session():
    class Prompt(TcpTransport):
        def write(self, data):
            super().write(data)
            self.protocol.dataReceived(b" and prompt")

    meeting = Meeting(transport=Prompt())

    meeting.send(b"yes\nhello")

    assert meeting.told == [OK, "made", b"hello and prompt"]


def test_the_end_that_is_delivered_while_the_reply_is_written_reaches_the_session():
    class Prompt(TcpTransport):
        def write(self, data):
            super().write(data)
            self.protocol.readConnectionLost()

    meeting = Meeting(HalfClosing, transport=Prompt())

    meeting.send(b"yes\nhello")

    assert meeting.told == [OK, "made", b"hello", "eof"]


def test_a_connection_that_is_lost_while_the_reply_is_written_has_no_session():
    class Broken(StringTransportWithDisconnection):
        def write(self, data):
            self.loseConnection()

    meeting = Meeting(transport=Broken())

    meeting.send(b"yes\nhello")

    assert meeting.told == []
    assert meeting.server.verdicts == [
        ("lost", "handshake", "peer disconnected after 9 bytes, expected a session to begin")
    ]
    assert meeting.server.endings == [("lost", "handshake")]
    assert meeting.server.left_behind == []


def test_what_a_handshake_writes_is_answered_while_it_is_written():
    async def banter(peer):
        peer.send(b"who?")
        name = await peer.receive_exactly(3)
        return Accept(b"hello " + name)

    class Prompt(TcpTransport):
        def write(self, data):
            super().write(data)
            if data == b"who?":
                self.protocol.dataReceived(b"ann!")

    meeting = Meeting(handshake=runs(banter), transport=Prompt())

    assert meeting.connection.received == b"who?hello ann"
    assert bytes_of(meeting.told) == b"!"


def test_a_session_of_twisted_runs_as_it_is():
    from sockproto.sessions.echo import Echo

    server = Server(Word(), Factory.forProtocol(Echo))
    connection = server.connect()

    connection.send(b"yes\nhello")
    connection.send(b", again")

    assert connection.received == b"OK\nhello, again"
