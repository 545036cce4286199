import gc
from weakref import ref

import pytest
from twisted.internet.address import IPv4Address, UNIXAddress
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import IHalfCloseableProtocol, IHandshakeListener
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport, StringTransportWithDisconnection
from zope.interface.verify import verifyObject

from sockproto import Accept, ClientFactory, Limits, Reject
from sockproto.admission.networks import Networks
from sockproto.core.facts import Address, PeerFacts, TlsFacts
from sockproto.events import ConnectionEnded, ConnectionOpened, Ending
from sockproto.transport.gate import Gate
from sockproto.transport.proxy import ProxyPolicy
from sockproto.transport.wire import TransportWire

from .kit import (
    LOCAL,
    PEER,
    Asks,
    Pair,
    Recorder,
    Server,
    Sessions,
    TcpTransport,
    Tickets,
    TlsPair,
    Word,
    end_point,
    runs,
    tls_creators,
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

    assert seen == [(TlsFacts("chat", end_point=end_point()), ["ConnectionOpened"])]
    assert b"".join(client.told[1:]) == b"OK\n"
    told = sessions.built[0].told
    assert (told[:2], b"".join(told[2:])) == ([Accept(b"OK\n", identity="ann"), "made"], b"hello")
    assert server.verdicts == [("accepted", "handshake", "")]


@pytest.mark.parametrize("names", [("localhost", None), ("localhost", "ann")])
def test_both_ends_know_to_which_server_they_are_bound(names):
    seen = []

    class Looks(Word):
        async def serve(self, peer):
            seen.append(peer.tls.end_point)
            return await super().serve(peer)

        async def connect(self, peer):
            seen.append(peer.tls.end_point)
            return await super().connect(peer)

    clock = Clock()
    server = Server(Looks(), Sessions(), clock=clock)
    client = ClientFactory(Looks(), Sessions(), clock=clock)
    TlsPair(server.factory, client, clock, names=names).pump()

    assert seen == [end_point(), end_point()]


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


def test_over_tls_a_stop_says_goodbye_and_waits_for_nobody():
    pair, server, _ = tls()

    server.factory.shut_down()
    assert pair.server.goodbye == "closed"
    pair.client.send(pair.server.received)
    pair.server.finish()

    # The client has been told that this is the end (RFC 8446 section 6.1).
    assert pair.client.goodbye == "closed"
    assert server.endings == [("shutdown", "handshake")]
    assert server.left_behind == []


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


def hello(size):
    """The first so many bytes of a ClientHello of 128 KiB, in records as long as they may be."""
    # RFC 8446 sections 4 and 5.1; a ClientHello may have 131,396 bytes (OpenSSL's limit).
    message = b"\x01" + (131396).to_bytes(3, "big") + b"\x03\x03" + bytes(131000)
    records = (message[at : at + 16384] for at in range(0, len(message), 16384))
    return b"".join(b"\x16\x03\x01" + len(each).to_bytes(2, "big") + each for each in records)[
        :size
    ]


TOO_MUCH = "peer sent more than 16384 bytes, the limit set by max_tls_bytes"


@pytest.mark.parametrize("cut", [60_000, 16384, 16383, 1000])
def test_a_client_that_goes_on_and_on_before_tls_is_there_is_sent_away(cut):
    clock = Clock()
    server = Server(clock=clock)
    pair = TlsPair(server.factory, Sessions(), clock)
    given = []
    tls = pair.server.protocol.getHandle()
    pair.server.protocol._tlsConnection = Spy(tls, given)

    data = hello(60_000)
    for at in range(0, len(data), cut):
        if pair.server.goodbye == "open":
            pair.server.send(data[at : at + cut])
    assert (pair.server.goodbye, sum(given)) == ("aborted", 16384)
    pair.server.finish()

    assert server.verdicts == [("limit", "tls", TOO_MUCH)]
    assert server.endings == [("limit", "tls")]
    assert server.left_behind == []


class Spy:
    """OpenSSL's connection, and how much it is given to keep."""

    def __init__(self, connection, given):
        self._connection = connection
        self._given = given

    def bio_write(self, data):
        self._given.append(len(data))
        return self._connection.bio_write(data)

    def __getattr__(self, name):
        return getattr(self._connection, name)


def test_a_client_that_has_sent_what_it_may_before_tls_is_waited_for():
    clock = Clock()
    server = Server(clock=clock)
    pair = TlsPair(server.factory, Sessions(), clock)

    pair.server.send(hello(16384))
    assert (server.verdicts, pair.server.goodbye) == ([], "open")
    pair.server.send(b"x")

    assert server.verdicts == [("limit", "tls", TOO_MUCH)]


def test_what_comes_with_the_end_of_the_tls_handshake_does_not_count():
    word, data = b"yes\n", bytes(100_000)
    clock = Clock()
    sessions, clients = Sessions(), Sessions()
    server = Server(session=sessions, clock=clock, limits=Limits(max_tls_bytes=4096))
    pair = TlsPair(server.factory, clients, clock)
    pair.server.send(pair.client.received)
    pair.client.transport.clear()
    pair.client.send(pair.server.received)
    clients.built[0].transport.write(word + data)
    clock.advance(0)

    pair.server.send(pair.client.received)

    assert b"".join(sessions.built[0].told[2:]) == data
    assert server.verdicts == [("accepted", "handshake", "")]
    # Nothing of ours is in the way any more.
    assert "dataReceived" not in vars(pair.server.protocol)


def test_much_that_is_no_tls_is_a_violation_and_not_too_much():
    clock = Clock()
    server = Server(clock=clock)
    pair = TlsPair(server.factory, Sessions(), clock)

    pair.server.send(b"POST / HTTP/1.0\r\n" * 3000)
    pair.server.finish()

    assert server.endings == [("violation", "tls")]


def test_a_certificate_counts_before_tls_is_there():
    clock = Clock()
    server = Server(clock=clock, limits=Limits(max_tls_bytes=600))

    TlsPair(server.factory, Sessions(), clock, names=("localhost", "ann")).pump()

    assert [each[:2] for each in server.verdicts] == [("limit", "tls")]


def test_a_server_may_show_as_much_as_it_has():
    clock = Clock()
    server = Server(clock=clock)
    client = ClientFactory(Word(), Sessions(), clock=clock, limits=Limits(max_tls_bytes=1))

    TlsPair(server.factory, client, clock).pump()

    assert server.verdicts == [("accepted", "handshake", "")]


@pytest.mark.parametrize(("sent", "silent"), [(0, True), (1, False), (300, False)])
def test_over_tls_admission_hears_whether_the_peer_was_silent(sent, silent):
    clock = Clock()
    tickets = Tickets()
    server = Server(clock=clock, admission=tickets)
    pair = TlsPair(server.factory, Sessions(), clock)
    if sent:
        pair.server.send(hello(sent))

    clock.advance(12)

    assert tickets.verdicts == [("timeout", silent)]


def test_of_tls_that_never_came_to_be_nothing_stays():
    clock = Clock()
    server = Server(clock=clock)
    pair = TlsPair(server.factory, Sessions(), clock)

    pair.server.lose()

    assert "dataReceived" not in vars(pair.server.protocol)


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


# TLS in the middle of the handshake


class StartTls:
    """Upgrade at a word, and go on as ``Word`` does."""

    def __init__(self):
        self.seen = []

    async def serve(self, peer):
        if await peer.receive_line(64) != b"STARTTLS":
            return Reject(b"NO\n")
        peer.send(b"220\n")
        self.seen.append(await peer.start_tls())
        return await Word().serve(peer)

    async def connect(self, peer):
        peer.send(b"STARTTLS\n")
        await peer.receive_line(64)
        self.seen.append(await peer.start_tls())
        return await Word().connect(peer)


def starting_tls(session=None, *, client_session=None, cut=None, handshake=None, **terms):
    """A server and a client of ours that upgrade; and what they have come to."""
    serving, connecting = tls_creators(alpn=[b"chat"], **terms)
    clock = Clock()
    handshake = handshake or StartTls()
    server = Server(handshake, session, clock=clock, tls=serving)
    client = ClientFactory(handshake, client_session, clock=clock, tls=connecting)
    pair = Pair(server.factory, client, clock)
    pair.pump(cut)
    return pair, server, handshake


@pytest.mark.parametrize("cut", [None, 1])
def test_a_connection_is_upgraded_in_the_middle_of_the_handshake(cut):
    served, connected = Sessions(), Sessions()
    pair, server, handshake = starting_tls(served, client_session=connected, cut=cut)
    there, here = served.built[0], connected.built[0]
    there.transport.write(b"hello")
    here.transport.write(b"hi there")
    pair.pump(cut)

    assert [each.alpn for each in handshake.seen] == ["chat", "chat"]
    assert (there.told[:2], b"".join(there.told[2:])) == (
        [Accept(b"OK\n", identity="ann"), "made"],
        b"hi there",
    )
    assert (here.told[:2], b"".join(here.told[2:])) == ([Accept(), "made"], b"hello")
    assert server.verdicts == [("accepted", "handshake", "")]


def test_after_an_upgrade_a_goodbye_is_a_close_notify():
    pair, server, _ = starting_tls()

    assert (pair.client.goodbye, pair.server.goodbye) == ("closed", "closed")
    pair.client.finish()
    pair.server.finish()

    assert server.endings == [("accepted", "closing")]
    assert server.left_behind == []


def test_a_session_after_an_upgrade_is_lost_with_its_connection():
    served = Sessions()
    pair, server, _ = starting_tls(served, client_session=Sessions())

    pair.server.lose(ConnectionLost())

    assert served.built[0].told[2:] == ["ConnectionLost"]
    assert server.endings == [("lost", "session")]
    assert server.left_behind == []


def test_a_client_that_does_not_trust_the_certificate_says_so():
    pair, server, handshake = starting_tls(trusted=False)
    pair.client.finish()
    pair.server.finish()

    assert handshake.seen == []
    [(reason, phase, detail)] = server.verdicts
    assert (reason, phase) == ("violation", "tls")
    assert detail.startswith("no TLS: ")
    assert server.left_behind == []


def asked_for_tls(**terms):
    """A server that waits for a client's TLS; we are the client."""
    server = Server(StartTls(), tls=tls_creators()[0], **terms)
    connection = server.connect()
    connection.send(b"STARTTLS\n")
    assert connection.received == b"220\n"
    return server, connection


def test_half_close_is_not_offered_any_more_when_tls_was_asked_for():
    _, connection = asked_for_tls()

    assert not IHalfCloseableProtocol.providedBy(connection.protocol)
    assert connection.transport.producer is None


def test_what_comes_in_the_clear_when_tls_was_asked_for_is_no_tls():
    server, connection = asked_for_tls()

    connection.send(b"RSET\n" * 10)
    connection.finish()

    [(reason, phase, detail)] = server.verdicts
    assert (reason, phase) == ("violation", "tls")
    assert detail.startswith("no TLS: ")
    assert server.left_behind == []


def test_what_came_with_the_question_is_not_taken_for_what_came_through_tls():
    server = Server(StartTls(), tls=tls_creators()[0])
    connection = server.connect()

    connection.send(b"STARTTLS\nyes\n")
    assert connection.received == b""
    connection.finish()

    words = "expected nothing in the clear before TLS, got b'yes\\n'"
    assert server.verdicts == [("violation", "handshake", words)]
    assert server.left_behind == []


def test_a_peer_that_was_told_to_speak_tls_and_does_not_is_aborted():
    server, connection = asked_for_tls(limits=Limits(handshake_timeout=4, idle_timeout=1))

    server.clock.advance(3.9)
    assert connection.goodbye == "open"
    server.clock.advance(0.7)
    assert connection.goodbye == "aborted"
    connection.finish()

    words = "not finished after 4 s in the TLS handshake, the limit set by handshake_timeout"
    assert server.verdicts == [("timeout", "tls", words)]
    assert server.left_behind == []


def test_a_peer_that_was_told_to_speak_tls_may_not_go_on_and_on():
    server, connection = asked_for_tls()

    connection.send(hello(60_000))
    assert connection.goodbye == "aborted"
    connection.finish()

    assert server.verdicts == [("limit", "tls", TOO_MUCH)]
    assert server.left_behind == []


def test_a_peer_that_was_told_to_speak_tls_and_leaves_is_lost():
    server, connection = asked_for_tls()

    connection.send_eof()

    words = "peer disconnected after 9 bytes, expected the TLS handshake"
    assert server.verdicts == [("lost", "tls", words)]
    assert server.left_behind == []


def test_a_client_may_ask_for_tls_at_once():
    class AtOnce(StartTls):
        async def serve(self, peer):
            self.seen.append(await peer.start_tls())
            return await Word().serve(peer)

        async def connect(self, peer):
            self.seen.append(await peer.start_tls())
            return await Word().connect(peer)

    _, server, handshake = starting_tls(handshake=AtOnce())

    assert [each.alpn for each in handshake.seen] == ["chat", "chat"]
    assert server.verdicts == [("accepted", "handshake", "")]


# Behind a proxy


HEADER = b"PROXY TCP4 192.0.2.7 198.51.100.1 4242 443\r\n"


def test_a_session_behind_a_proxy_knows_whom_it_speaks_to():
    built = []

    class Builds(Sessions):
        def buildProtocol(self, addr):
            built.append(addr)
            return super().buildProtocol(addr)

    sessions = Builds()
    server = Server(session=sessions, proxy=ProxyPolicy("v1", Networks.parse("192.168.1.1/32")))
    connection = server.connect()

    connection.send(HEADER + b"yes\nhello")

    [session] = sessions.built
    there, here = IPv4Address("TCP", "192.0.2.7", 4242), IPv4Address("TCP", "198.51.100.1", 443)
    assert built == [there]
    assert (session.transport.getPeer(), session.transport.getHost()) == (there, here)
    assert session.told[2:] == [b"hello"]


# A connection that has come some way without a transport


class Departed:
    """A wire that its gate will leave."""


def adopted(**terms):
    """A protocol for a gate that has come some way, on its transport."""
    server = Server(tls=tls_creators()[0], **terms)
    shared = server.factory.terms
    gate = Gate(shared, Departed(), PeerFacts(PEER, LOCAL))
    gate.open()
    wire = TransportWire(shared, gate)
    gate.move_to(wire)
    transport = TcpTransport()
    transport.protocol = wire
    wire.makeConnection(transport)
    return server, wire, transport


def test_a_gate_that_has_come_some_way_goes_on_with_a_transport():
    server, wire, transport = adopted()

    wire.dataReceived(b"yes\n")
    wire.connectionLost()

    assert (transport.value(), transport.disconnecting) == (b"OK\n", True)
    assert server.endings == [("accepted", "closing")]
    assert [type(each) for each in server.events].count(ConnectionOpened) == 1


def test_tls_that_has_begun_without_a_transport_is_given_its_first_bytes():
    clock = Clock()
    hello = TlsPair(Sessions(), Sessions(), clock).client.received
    _, wire, transport = adopted(clock=clock)

    wire.start_tls(hello)
    clock.advance(0)

    # A handshake record again, and not an alert (RFC 8446 section 5.1).
    assert transport.value()[:1] == b"\x16"
