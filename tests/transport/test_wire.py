import gc
from weakref import ref

import pytest
from twisted.internet.address import UNIXAddress
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import IHalfCloseableProtocol, IHandshakeListener
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport, StringTransportWithDisconnection
from zope.interface.verify import verifyObject

from sockproto import Accept, Limits, Reject
from sockproto.core.facts import Address, TlsFacts
from sockproto.events import ConnectionEnded, ConnectionOpened, Ending

from .kit import (
    LOCAL,
    PEER,
    Asks,
    Recorder,
    Server,
    Sessions,
    Tickets,
    TlsPair,
    Word,
    runs,
)


def test_a_plain_connection_runs_the_handshake_at_once():
    server = Server()
    connection = server.connect()

    connection.send(b"ye")
    connection.send(b"s\n")
    assert (connection.received, connection.goodbye) == (b"OK\n", "closed")
    connection.finish()

    assert server.events[0] == ConnectionOpened(1, PEER, LOCAL)
    assert server.events[2] == ConnectionEnded(
        1, PEER, LOCAL, Ending("accepted", "closing"), "ann", 0.0
    )
    assert server.left_behind == []


def test_the_handshake_sees_where_the_peer_is():
    seen = []

    async def looks(peer):
        seen.append((peer.address, peer.local, peer.tls, peer.uid, peer.sessions))
        return Accept()

    sessions = {"chat": Sessions(), "echo": Sessions()}
    transport = StringTransport(UNIXAddress(b"/run/x"), UNIXAddress(None))
    Server(runs(looks), sessions).connect(transport)

    here = Address("unix", path="/run/x")
    assert seen == [(Address("unix"), here, None, None, ("chat", "echo"))]


# Goodbyes


def test_a_rejected_peer_is_half_closed_and_closed_when_it_has_finished():
    server = Server()
    connection = server.connect()

    connection.send(b"no\n")
    assert (connection.received, connection.goodbye) == (b"NO\n", "half-closed")
    connection.protocol.writeConnectionLost()
    connection.send(b"but why?" * 10000)
    assert connection.goodbye == "half-closed"
    connection.send_eof()
    assert connection.goodbye == "closed"
    connection.finish()

    assert server.endings == [("rejected", "closing")]
    assert server.left_behind == []


def test_a_rejected_peer_that_stays_is_aborted_by_the_bound():
    server = Server(limits=Limits(close_timeout=3))
    connection = server.connect()

    connection.send(b"no\n")
    server.clock.advance(2.9)
    assert connection.goodbye == "half-closed"
    server.clock.advance(0.2)
    assert connection.goodbye == "aborted"
    connection.finish()

    assert server.endings == [("rejected", "closing")]
    assert server.left_behind == []


def test_an_accepted_peer_that_talks_on_is_lingered_for():
    connection = Server().connect()

    connection.send(b"yes\nand more")

    assert (connection.received, connection.goodbye) == (b"OK\n", "half-closed")


def test_a_transport_that_cannot_half_close_is_closed():
    server = Server()
    connection = server.connect(StringTransportWithDisconnection())

    connection.send(b"no\n")

    assert connection.received == b"NO\n"
    assert server.endings == [("rejected", "closing")]
    assert server.left_behind == []


def test_a_peer_that_was_told_nothing_is_closed_without_a_reset():
    server = Server()
    connection = server.connect()

    server.clock.advance(5)

    assert (connection.received, connection.goodbye) == (b"", "closed")


def test_a_peer_that_was_told_something_and_is_too_slow_is_aborted():
    async def greets(peer):
        peer.send(b"hello\n")
        return await Word().serve(peer)

    server = Server(runs(greets))
    connection = server.connect()

    server.clock.advance(5)

    assert (connection.received, connection.goodbye) == (b"hello\n", "aborted")


def test_a_peer_that_is_refused_hears_nothing():
    tickets = Tickets("too many")
    server = Server(admission=tickets)
    connection = server.connect()

    assert (connection.received, connection.goodbye) == (b"", "closed")
    connection.finish()
    assert server.endings == [("refused", "admission")]
    assert tickets.released == 0


# Peers that do not read


def test_a_peer_that_does_not_read_is_sent_away():
    async def floods(peer):
        while True:
            peer.send(b"x" * 30000)
            await peer.receive_exactly(1)

    server = Server(runs(floods))
    connection = server.connect()
    connection.send(b"1")
    assert (connection.goodbye, server.verdicts) == ("open", [])
    connection.send(b"2")
    assert connection.goodbye == "aborted"
    connection.finish()

    words = "peer left unread more than 65536 bytes, the limit set by the write buffer"
    assert server.verdicts == [("limit", "handshake", words)]
    assert connection.transport.producer is None
    assert server.left_behind == []


def test_the_transport_is_watched_only_until_the_verdict():
    async def greets(peer):
        peer.send(b"hello\n")
        return await Word().serve(peer)

    connection = Server(runs(greets)).connect()
    assert connection.transport.producer is connection.protocol
    assert connection.transport.streaming is True
    connection.protocol.resumeProducing()
    connection.protocol.stopProducing()

    connection.send(b"no\n")

    assert connection.transport.producer is None
    assert connection.goodbye == "half-closed"


def test_a_reply_that_fills_the_buffer_is_no_offence():
    async def replies(peer):
        peer.send(b"x" * 60000)
        await peer.receive_exactly(1)
        return Reject(b"x" * 60000)

    server = Server(runs(replies))
    connection = server.connect()
    connection.send(b"!")

    assert connection.goodbye == "half-closed"
    assert [each[0] for each in server.verdicts] == ["rejected"]


def test_a_session_has_the_transport_to_itself():
    async def greets(peer):
        peer.send(b"hello\n")
        return await Word().serve(peer)

    server = Server(runs(greets), Sessions())
    connection = server.connect()

    connection.send(b"yes\n")

    assert connection.transport.producer is None


def test_a_pause_that_comes_late_is_nobodys():
    server = Server()
    connection = server.connect()
    connection.protocol.pauseProducing()
    connection.send(b"yes\n")
    connection.protocol.pauseProducing()
    connection.finish()
    connection.protocol.pauseProducing()

    assert [each[0] for each in server.verdicts] == ["accepted"]


# Reading


def test_reading_pauses_at_the_budget_while_a_deferred_is_awaited():
    answer = Deferred()
    server = Server(Asks(answer), Sessions(), limits=Limits(max_handshake_bytes=10))
    connection = server.connect()

    connection.send(b"x" * 10)
    assert connection.transport.producerState == "producing"
    connection.send(b"x")
    assert connection.transport.producerState == "paused"
    answer.callback(None)

    assert connection.transport.producerState == "producing"


def test_half_close_is_offered_until_a_session_decides():
    connection = Server().connect()

    assert verifyObject(IHalfCloseableProtocol, connection.protocol)
    assert verifyObject(IHandshakeListener, connection.protocol)


# The end


def test_the_end_of_a_connection_is_told_once():
    server = Server()
    connection = server.connect()

    connection.lose()
    connection.lose()
    connection.protocol.readConnectionLost()
    connection.protocol.handshakeCompleted()

    assert server.endings == [("probe", "handshake")]


def test_a_session_is_told_of_its_end_once():
    sessions = Sessions()
    server = Server(session=sessions)
    connection = server.connect()
    connection.send(b"yes\n")

    connection.lose(ConnectionLost())
    connection.lose(ConnectionLost())

    assert sessions.built[0].told[2:] == ["ConnectionLost"]
    assert server.endings == [("lost", "session")]
    assert server.left_behind == []


@pytest.mark.parametrize("line", [b"", b"yes\n", b"no\n"])
def test_a_connection_that_is_gone_is_garbage_without_a_collection(line):
    server = Server(session=Sessions(Protocol))
    connection = server.connect()
    if line:
        connection.send(line)
    gone = ref(connection.protocol)

    gc.disable()
    try:
        connection.lose()
        server.factory.terms.sessions[""].built.clear()
        connection.transport.protocol = connection.protocol = None
        assert gone() is None
    finally:
        gc.enable()


# TLS


def tls(handshake=None, session=None, *, client=None, cut=None, **terms):
    clock = Clock()
    server = Server(handshake, session, clock=clock, **terms)
    clients = Sessions(client or Recorder)
    pair = TlsPair(server.factory, clients, clock, alpn=[b"chat"])
    pair.pump(cut)
    return pair, server, clients.built[0]


@pytest.mark.parametrize("cut", [None, 1])
def test_over_tls_the_handshake_begins_when_tls_is_there(cut):
    seen = []

    async def looks(peer):
        seen.append((peer.tls, server_phases()))
        return await Word().serve(peer)

    def server_phases():
        return [type(each).__name__ for each in server_events]

    server_events = []
    sessions = Sessions()
    pair, server, client = tls(runs(looks), sessions, observers=[server_events.append], cut=cut)
    client.transport.write(b"yes\nhello")
    pair.pump(cut)

    assert seen == [(TlsFacts("chat"), ["ConnectionOpened"])]
    assert b"".join(client.told[1:]) == b"OK\n"
    told = sessions.built[0].told
    assert (told[:2], b"".join(told[2:])) == ([Accept(b"OK\n", identity="ann"), "made"], b"hello")
    assert server.verdicts == [("accepted", "handshake", "")]


def test_over_tls_a_goodbye_is_a_close_notify_and_never_a_half_close():
    pair, server, client = tls()

    client.transport.write(b"no\n")
    pair.pump()

    assert client.told == ["made", b"NO\n"]
    # The client has answered with a close_notify of its own, so that both can close.
    assert (pair.client.goodbye, pair.server.goodbye) == ("closed", "closed")
    pair.client.lose()
    pair.server.lose()
    assert client.told == ["made", b"NO\n", "ConnectionDone"]
    assert server.endings == [("rejected", "closing")]
    assert server.left_behind == []


def test_over_tls_a_peer_that_ignores_the_close_notify_is_aborted_by_the_bound():
    pair, server, client = tls(limits=Limits(close_timeout=3))
    client.transport.write(b"no\n")
    pair.clock.advance(0)
    pair.server.send(pair.client.received)
    assert pair.server.goodbye == "open"

    pair.clock.advance(3.1)

    assert pair.server.goodbye == "aborted"
    pair.server.finish()
    assert server.endings == [("rejected", "closing")]
    assert server.left_behind == []


def test_over_tls_a_peer_that_is_too_slow_is_aborted():
    pair, server, _ = tls(limits=Limits(idle_timeout=2))

    pair.clock.advance(2.1)

    assert pair.server.goodbye == "aborted"
    assert [each[0] for each in server.verdicts] == ["timeout"]


def test_tls_that_never_begins_is_bounded_by_the_handshake_clock():
    clock = Clock()
    server = Server(clock=clock, limits=Limits(handshake_timeout=4, idle_timeout=1))
    pair = TlsPair(server.factory, Sessions(), clock)

    clock.advance(3.9)
    assert server.verdicts == []
    clock.advance(0.6)
    assert pair.server.goodbye == "aborted"
    pair.server.finish()

    words = "not finished after 4 s in the TLS handshake, the limit set by handshake_timeout"
    assert server.verdicts == [("timeout", "tls", words)]
    assert server.endings == [("timeout", "tls")]
    assert server.left_behind == []


def test_over_tls_a_peer_that_is_refused_hears_nothing():
    clock = Clock()
    server = Server(clock=clock, admission=Tickets("too many"))
    pair = TlsPair(server.factory, Sessions(), clock)
    pair.server.send(pair.client.received)

    assert (pair.server.received, pair.server.goodbye) == (b"", "aborted")
    pair.server.finish()
    assert server.endings == [("refused", "admission")]


def test_a_peer_that_does_not_speak_tls_is_in_violation():
    clock = Clock()
    server = Server(clock=clock)
    pair = TlsPair(server.factory, Sessions(), clock)

    pair.server.send(b"GET / HTTP/1.0\r\n\r\n")
    assert pair.server.goodbye == "closed"
    pair.server.finish()

    [(reason, phase, detail)] = server.verdicts
    assert (reason, phase) == ("violation", "tls")
    assert "http request" in detail
    assert server.endings == [("violation", "tls")]
    assert server.left_behind == []


@pytest.mark.parametrize("sent", [0, 100])
def test_a_peer_that_leaves_before_tls_is_there_is_a_probe(sent):
    clock = Clock()
    server = Server(clock=clock)
    pair = TlsPair(server.factory, Sessions(), clock)
    if sent:
        pair.server.send(pair.client.received[:sent])

    pair.server.lose()

    assert server.endings == [("probe", "tls")]
    assert server.left_behind == []


def test_over_tls_the_end_of_the_connection_is_the_end_of_the_stream():
    async def reads_all(peer):
        return Accept(identity=(await peer.receive_to_end(100)).decode())

    pair, server, client = tls(runs(reads_all))
    client.transport.write(b"ann")
    pair.pump()
    client.transport.loseConnection()
    pair.pump()
    pair.server.finish()

    assert server.endings == [("accepted", "handshake")]
    assert server.events[-1].identity == "ann"


def test_over_tls_a_stream_that_is_cut_off_has_no_end():
    async def reads_all(peer):
        return Accept(identity=(await peer.receive_to_end(100)).decode())

    pair, server, client = tls(runs(reads_all))
    client.transport.write(b"ann")
    pair.pump()
    pair.server.lose()

    assert server.verdicts == [
        (
            "lost",
            "handshake",
            "peer disconnected after 3 bytes, expected receive_to_end(max_bytes=100)",
        )
    ]


def test_over_tls_a_peer_that_does_not_read_is_sent_away():
    async def floods(peer):
        while True:
            peer.send(b"x" * 60000)
            await peer.receive_exactly(1)

    pair, server, client = tls(runs(floods))
    client.transport.write(b"12")
    pair.clock.advance(0)
    pair.server.send(pair.client.received)
    pair.clock.advance(0)

    assert pair.server.goodbye == "aborted"
    assert [each[0] for each in server.verdicts] == ["limit"]


def test_over_tls_half_close_is_not_offered():
    pair, _, _ = tls()

    assert not IHalfCloseableProtocol.providedBy(pair.inner[0])
