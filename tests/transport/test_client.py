import pytest
from twisted.application.internet import ClientService
from twisted.internet import protocol
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import (
    TCP4ClientEndpoint,
    clientFromString,
    connectProtocol,
)
from twisted.internet.error import ConnectingCancelledError, ConnectionLost, ConnectionRefusedError
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock
from twisted.protocols.policies import WrappingFactory
from twisted.python.failure import Failure
from zope.interface.verify import verifyObject

import sockproto
from sockproto import (
    Accept,
    ClientFactory,
    HandshakeEndpoint,
    HandshakeFailed,
    HandshakeTimeout,
    Limits,
    PeerDisconnected,
    Reject,
    Rejected,
    Shutdown,
)
from sockproto.core.facts import TlsFacts
from sockproto.handshakes.welcome import Welcome
from sockproto.transport.client import ClientProtocol

from .kit import (
    Connection,
    HalfClosing,
    Recorder,
    Server,
    Sessions,
    TcpTransport,
    Tickets,
    TlsPair,
    Word,
    runs,
    tls_creators,
)


class Client:
    """A HandshakeEndpoint on a reactor in memory; we are the server."""

    def __init__(self, handshake=None, **terms):
        self.reactor = MemoryReactorClock()
        self.events = []
        self.endpoint = HandshakeEndpoint(
            TCP4ClientEndpoint(self.reactor, "192.0.2.1", 8471),
            handshake or Word(),
            observers=[self.events.append],
            clock=self.reactor,
            **terms,
        )
        self.outcomes = []

    def connect(self, session=None, *, into=False):
        """Begin to connect; what comes of it is noted."""
        begin = self.endpoint.connect_into if into else self.endpoint.connect
        waiting = begin(Sessions() if session is None and not into else session)
        waiting.addBoth(self.outcomes.append)
        return waiting

    def accept(self):
        """Accept the latest attempt."""
        return Connection(self.reactor.tcpClients[-1][2], TcpTransport())

    def refuse(self):
        """Refuse the latest attempt."""
        factory = self.reactor.tcpClients[-1][2]
        factory.clientConnectionFailed(None, Failure(ConnectionRefusedError()))

    @property
    def endings(self):
        return [
            (each.ending.reason, each.ending.phase)
            for each in self.events
            if hasattr(each, "ending")
        ]

    @property
    def failure(self):
        [outcome] = self.outcomes
        return outcome.value


# HandshakeEndpoint


def test_it_is_an_endpoint():
    assert verifyObject(IStreamClientEndpoint, Client().endpoint)


def test_it_needs_a_handshake_that_connects():
    with pytest.raises(TypeError) as raised:
        HandshakeEndpoint(None, object())
    assert str(raised.value) == (
        "a object is no handshake here: it lacks async def connect(self, peer)"
    )


def test_it_fires_with_the_session_and_only_after_accept():
    client, sessions = Client(), Sessions()
    client.connect(sessions)
    connection = client.accept()
    assert (connection.received, client.outcomes) == (b"yes\n", [])

    connection.send(b"OK")
    assert (sessions.built, client.outcomes) == ([], [])
    connection.send(b"\nhello")

    assert client.outcomes == sessions.built
    assert sessions.built[0].told == [Accept(), "made", b"hello"]


def test_a_session_hears_the_end_of_the_stream_through_an_endpoint():
    client, sessions = Client(), Sessions(HalfClosing)
    client.connect(sessions)
    connection = client.accept()
    connection.send(b"OK\nhello")

    connection.send_eof()

    assert sessions.built[0].told == [Accept(), "made", b"hello", "eof"]
    assert connection.goodbye == "open"


def test_nothing_of_an_endpoint_stays_in_the_data_path():
    client, sessions = Client(), Sessions()
    client.connect(sessions)
    connection = client.accept()
    connection.send(b"OK\n")

    protocol = connection.transport.protocol

    assert isinstance(protocol, ClientProtocol)
    assert protocol.dataReceived == sessions.built[0].dataReceived
    connection.lose()
    assert sessions.built[0].told[2:] == ["ConnectionDone"]


def test_what_somebody_else_has_put_in_between_stays_there():
    wrapping = WrappingFactory(ClientFactory(Word(), Sessions(), clock=Clock()))
    connection = Connection(wrapping)

    assert connection.transport.protocol is connection.protocol


class Upgrades:
    """Ask for TLS at once."""

    async def connect(self, peer):
        await peer.start_tls()
        return Accept()


@pytest.mark.parametrize("way", ["endpoint", "connect()", "factory"])
def test_a_client_is_told_how_tls_is_spoken(way):
    _, creator = tls_creators()
    if way == "factory":
        connection = Connection(ClientFactory(Upgrades(), clock=Clock(), tls=creator))
    else:
        client = Client(Upgrades(), tls=creator)
        if way == "endpoint":
            client.connect()
        else:
            connect(client, Upgrades(), tls=creator)
        connection = client.accept()

    # The first byte of a handshake record (RFC 8446 section 5.1).
    assert connection.received[:1] == b"\x16"


def test_it_fails_with_the_reason_when_the_peer_says_no():
    client, sessions = Client(), Sessions()
    client.connect(sessions)
    connection = client.accept()

    connection.send(b"NO\n")
    assert connection.goodbye == "half-closed"
    assert client.outcomes == []
    connection.send_eof()
    connection.finish()

    assert isinstance(client.failure, Rejected)
    assert str(client.failure) == "peer rejected the handshake: wrong word"
    assert sessions.built == []
    assert client.reactor.getDelayedCalls() == []


def test_it_fails_as_the_endpoint_fails():
    client = Client()
    client.connect()

    client.refuse()

    assert isinstance(client.failure, ConnectionRefusedError)
    assert client.events == []


def test_it_fails_when_the_server_leaves():
    client = Client()
    client.connect()
    connection = client.accept()
    connection.lose(ConnectionLost())

    assert isinstance(client.failure, PeerDisconnected)
    assert isinstance(client.failure.__cause__, ConnectionLost)
    assert client.endings == [("lost", "handshake")]


def test_it_fails_when_the_server_is_too_slow():
    client = Client(limits=Limits(idle_timeout=2))
    client.connect()
    connection = client.accept()

    client.reactor.advance(2.1)
    assert (connection.goodbye, client.outcomes) == ("aborted", [])
    connection.finish()

    assert isinstance(client.failure, HandshakeTimeout)
    assert str(client.failure) == (
        "nothing heard for 2 s in expect(<3 bytes>), the limit set by idle_timeout"
    )


def test_it_fails_when_the_handshake_breaks():
    async def breaks(peer):
        raise ZeroDivisionError("oops")

    client = Client(runs(breaks))
    client.connect()
    client.accept().finish()

    assert isinstance(client.failure, HandshakeFailed)


def test_it_fails_when_admission_refuses():
    tickets = Tickets("enough servers")
    client = Client(admission=tickets)
    client.connect()
    connection = client.accept()
    connection.finish()

    assert connection.received == b""
    assert str(client.failure) == "peer rejected the handshake: enough servers"


def test_it_fails_when_the_session_is_declined():
    class Declines(Sessions):
        def buildProtocol(self, addr):
            return None

    client = Client()
    client.connect(Declines())
    connection = client.accept()
    connection.send(b"OK\n")
    connection.finish()

    assert str(client.failure) == (
        "peer rejected the handshake: the session's factory declined the peer"
    )


def test_one_endpoint_connects_again_and_again():
    client = Client()
    for _ in range(3):
        client.connect()
        client.accept().send(b"OK\n")

    assert len(client.outcomes) == 3
    assert all(isinstance(each, Recorder) for each in client.outcomes)


def test_whatever_works_with_endpoints_works_with_it():
    client, mine = Client(), Recorder()
    connectProtocol(client.endpoint, mine).addBoth(client.outcomes.append)

    client.accept().send(b"OK\n")

    assert client.outcomes == [mine]


def test_it_starts_and_stops_the_sessions_factory_with_the_connection():
    client, sessions = Client(), Sessions()
    client.connect(sessions)
    factory = client.reactor.tcpClients[0][2]
    factory.doStart()
    connection = client.accept()
    connection.send(b"OK\n")
    assert sessions.life == ["started"]
    connection.lose()
    factory.doStop()

    assert sessions.life == ["started", "stopped"]
    assert client.reactor.getDelayedCalls() == []


# Giving up


def test_it_can_be_cancelled_before_there_is_a_connection():
    client = Client()
    waiting = client.connect()

    waiting.cancel()

    [outcome] = client.outcomes
    assert outcome.check(ConnectingCancelledError)
    assert client.reactor.connectors[0].stoppedConnecting


def test_it_can_be_cancelled_in_the_middle_of_the_handshake():
    client = Client()
    waiting = client.connect()
    connection = client.accept()

    waiting.cancel()
    assert connection.goodbye == "aborted"
    assert isinstance(client.failure, CancelledError)
    connection.finish()

    assert client.endings == [("shutdown", "handshake")]
    assert client.reactor.getDelayedCalls() == []
    assert len(client.outcomes) == 1


def test_it_can_be_cancelled_while_the_handshake_waits_for_a_deferred(logged):
    async def asks(peer):
        await Deferred(cancelled.append)

    cancelled = []
    client = Client(runs(asks))
    waiting = client.connect()
    connection = client.accept()

    waiting.cancel()
    connection.finish()

    assert len(cancelled) == 1
    assert isinstance(client.failure, CancelledError)
    cancelled.clear()
    assert logged.take() == []


def test_it_can_be_cancelled_during_the_goodbye():
    client = Client()
    waiting = client.connect()
    connection = client.accept()
    connection.send(b"NO\n")

    waiting.cancel()
    assert connection.goodbye == "aborted"
    connection.finish()

    assert isinstance(client.failure, CancelledError)
    assert client.endings == [("rejected", "closing")]


def test_to_cancel_what_has_a_session_does_nothing():
    client = Client()
    waiting = client.connect()
    connection = client.accept()
    connection.send(b"OK\n")

    waiting.cancel()

    assert connection.goodbye == "open"


def test_an_attempt_that_succeeds_after_all_is_not_heard_of(logged):
    class Stubborn:
        def connect(self, factory):
            self.factory = factory
            self.deferred = Deferred(lambda _: None)
            return self.deferred

    endpoint = Stubborn()
    outcomes = []
    waiting = HandshakeEndpoint(endpoint, Word(), clock=MemoryReactorClock()).connect(Sessions())
    waiting.addBoth(outcomes.append)
    waiting.cancel()
    assert [each.type for each in outcomes] == [CancelledError]

    assert logged.take() == []


# ClientService


def serve(client, **how):
    attempts = []

    def back_off(attempt):
        attempts.append(attempt)
        return float(attempt)

    sessions = Sessions()
    service = ClientService(
        client.endpoint, sessions, retryPolicy=back_off, clock=client.reactor, **how
    )
    service.startService()
    return service, sessions, attempts


def test_a_client_service_backs_off_from_a_server_that_rejects_it():
    client = Client()
    service, sessions, attempts = serve(client)
    for attempt in range(1, 6):
        connection = client.accept()
        connection.send(b"NO\n")
        connection.send_eof()
        connection.finish()
        assert len(client.reactor.tcpClients) == attempt
        client.reactor.advance(attempt)

    assert (attempts, sessions.built) == ([1, 2, 3, 4, 5], [])
    assert len(client.reactor.tcpClients) == 6
    service.stopService()


def test_a_client_service_whose_session_is_lost_begins_anew():
    client = Client()
    service, _, attempts = serve(client)
    for _ in range(3):
        connection = client.accept()
        connection.send(b"OK\n")
        connection.lose()
        client.reactor.advance(1)

    assert attempts == [1, 1, 1]
    service.stopService()


def test_when_connected_gives_the_session():
    client = Client()
    service, sessions, _ = serve(client)
    found = []
    service.whenConnected().addCallback(found.append)
    connection = client.accept()
    assert found == []

    connection.send(b"OK\n")

    found[0].transport.write(b"hello")
    assert connection.received == b"yes\nhello"
    assert len(sessions.built) == 1
    service.stopService()
    connection.lose()


# connect()


def connect(client, handshake, session=None, **terms):
    endpoint = clientFromString(client.reactor, "tcp:192.0.2.1:8471")
    waiting = sockproto.connect(endpoint, handshake, session, clock=client.reactor, **terms)
    waiting.addBoth(client.outcomes.append)
    return waiting


def test_without_a_session_it_gives_the_accept_once_the_connection_is_gone():
    client = Client()
    connect(client, Word())
    connection = client.accept()
    connection.send(b"OK\n")
    assert (connection.goodbye, client.outcomes) == ("closed", [])

    connection.finish()

    assert client.outcomes == [Accept()]
    assert client.reactor.getDelayedCalls() == []


def test_the_lesson_has_its_client():
    client = Client()
    connect(client, Welcome())
    connection = client.accept()
    assert connection.received == b"1"

    connection.send(b"welcome to ")
    connection.send(b"server!")
    connection.send_eof()
    connection.finish()

    assert client.outcomes == [Accept(result=b"welcome to server!")]


def test_the_lesson_says_no_in_the_servers_words():
    client = Client()
    connect(client, Welcome())
    connection = client.accept()

    connection.send(b"please go out!")
    connection.send_eof()
    connection.finish()

    assert str(client.failure) == "peer rejected the handshake: please go out!"


def test_with_a_session_it_gives_the_session():
    client, sessions = Client(), Sessions()
    connect(client, Word(), sessions)

    client.accept().send(b"OK\n")

    assert client.outcomes == sessions.built


def test_with_several_sessions_the_handshake_chooses():
    async def chooses(peer):
        return Accept(session=(await peer.receive_line(10)).decode())

    chat, echo = Sessions(), Sessions()
    client = Client()
    connect(client, runs(chooses), {"chat": chat, "echo": echo})

    client.accept().send(b"echo\n")

    assert client.outcomes == echo.built
    assert len(echo.built) == 1


def test_an_endpoint_keeps_what_it_was_given():
    client = Client()
    events = []
    tickets = Tickets()
    limits = Limits(idle_timeout=1)
    connect(client, Word(), limits=limits, admission=tickets, observers=iter([events.append]))
    connection = client.accept()
    client.reactor.advance(1)
    connection.finish()

    assert isinstance(client.failure, HandshakeTimeout)
    assert tickets.released == 1
    assert len(events) == 3


# ClientFactory, for reactor.connectTCP


class Told(protocol.ClientFactory):
    """A session's factory that wants to know all about its connector."""

    noisy = False
    protocol = Recorder

    def __init__(self):
        self.told = []

    def startedConnecting(self, connector):
        self.told.append(("started", connector))

    def clientConnectionFailed(self, connector, reason):
        self.told.append(("failed", connector, reason.type))

    def clientConnectionLost(self, connector, reason):
        self.told.append(("lost", connector, reason.type))


class Failing(ClientFactory):
    """Notes why handshakes have failed."""

    def __init__(self, *arguments, **terms):
        super().__init__(*arguments, **terms)
        self.failed = []

    def handshake_failed(self, error):
        self.failed.append(str(error))


def dial(session=None, handshake=None, kind=Failing):
    reactor = MemoryReactorClock()
    factory = kind(handshake or Word(), session, clock=reactor)
    connector = reactor.connectTCP("192.0.2.1", 8471, factory)
    return factory, connector


def test_it_is_a_client_factory_of_twisteds():
    factory, _ = dial()

    assert isinstance(factory, protocol.ClientFactory)
    assert not factory.terms.serving


def test_a_session_factory_of_the_same_kind_hears_of_the_connector():
    told = Told()
    factory, connector = dial(told)
    factory.clientConnectionFailed(connector, Failure(ConnectionRefusedError()))
    factory.clientConnectionLost(connector, Failure(ConnectionLost()))

    assert told.told == [
        ("started", connector),
        ("failed", connector, ConnectionRefusedError),
        ("lost", connector, ConnectionLost),
    ]


def test_a_session_factory_of_another_kind_need_not_listen():
    factory, connector = dial(Sessions())

    factory.clientConnectionLost(connector, Failure(ConnectionLost()))


def test_a_client_factory_hands_over_to_its_session():
    sessions = Sessions()
    factory, _ = dial(sessions)
    connection = Connection(factory)
    connection.send(b"OK\nhello")

    assert sessions.built[0].told == [Accept(), "made", b"hello"]
    assert factory.failed == []
    connection.lose()
    assert factory.failed == []


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"NO\n", "peer rejected the handshake: wrong word"),
        (b"", "peer disconnected after 0 bytes, expected 3 bytes"),
    ],
)
def test_a_handshake_that_fails_is_told_once_the_connection_is_gone(answer, words):
    factory, _ = dial()
    connection = Connection(factory)
    connection.send(answer)
    assert factory.failed == []

    connection.lose()

    assert factory.failed == [words]


def test_nobody_needs_to_listen_when_a_handshake_fails(logged):
    factory, _ = dial(kind=ClientFactory)
    connection = Connection(factory)

    connection.lose()
    del connection

    assert logged.take() == []


def test_a_handshake_that_succeeds_without_a_session_is_no_failure():
    factory, _ = dial()
    connection = Connection(factory)

    connection.send(b"OK\n")
    connection.finish()

    assert factory.failed == []


def test_shutting_down_ends_a_clients_handshake():
    factory, _ = dial()
    connection = Connection(factory)

    gone = []
    factory.shut_down().addCallback(gone.append)
    assert connection.goodbye == "closed"
    connection.finish()

    assert (factory.failed, gone) == (["we are shutting down"], [None])


# ClientProtocol


def test_whoever_gives_up_after_the_hand_over_just_goes():
    client = Client()
    made = ClientProtocol(ClientFactory(Word(), Sessions(), clock=client.reactor))
    heard = []
    made.finished.addBoth(heard.append)
    transport = TcpTransport()
    made.makeConnection(transport)
    made.dataReceived(b"OK\n")

    made.give_up()

    assert transport.aborted


def test_a_shut_down_is_what_whoever_waits_on_the_protocol_hears():
    client = Client()
    made = ClientProtocol(ClientFactory(Word(), clock=client.reactor))
    heard = []
    made.finished.addErrback(lambda failure: heard.append(failure.value))
    made.makeConnection(TcpTransport())

    made.give_up()
    made.connectionLost()

    assert [type(each) for each in heard] == [Shutdown]


# Over TLS


def test_over_tls_a_client_and_a_server_of_ours_meet():
    seen = []

    class Looks(Word):
        async def connect(self, peer):
            seen.append(peer.tls)
            return await super().connect(peer)

    clock = Clock()
    server = Server(session=Sessions(), clock=clock)
    sessions = Sessions()
    client = ClientFactory(Looks(), sessions, clock=clock)
    TlsPair(server.factory, client, clock).pump()

    [facts] = seen
    assert isinstance(facts, TlsFacts)
    assert facts.names == ("localhost",)
    assert sessions.built[0].told == [Accept(), "made"]
    assert server.verdicts == [("accepted", "handshake", "")]


def test_a_certificate_that_does_not_hold_is_a_violation():
    clock = Clock()
    server = Server(session=Sessions(), clock=clock)
    client = Failing(Word(), Sessions(), clock=clock)
    pair = TlsPair(server.factory, client, clock, trusted=False)
    pair.pump()
    pair.client.finish()
    pair.server.finish()

    [words] = client.failed
    assert "certificate verify failed" in words
    assert [each[:2] for each in server.verdicts] == [("violation", "tls")]
    assert server.left_behind == []


def test_a_handshake_may_reject_a_server_before_it_has_said_anything():
    async def refuses(peer):
        return Reject(reason="not that server")

    client = Client(runs(refuses))
    client.connect()
    connection = client.accept()
    connection.send_eof()
    connection.finish()

    assert str(client.failure) == "peer rejected the handshake: not that server"
    assert client.endings == [("rejected", "closing")]
