import pytest
from twisted.internet import protocol
from twisted.internet.endpoints import serverFromString
from twisted.internet.interfaces import IProtocolFactory
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock
from zope.interface.verify import verifyObject

from sockproto import Accept, ClientFactory, Limits
from sockproto.admission.networks import Networks
from sockproto.handshakes.welcome import Welcome
from sockproto.transport.proxy import ProxyPolicy
from sockproto.transport.server import ServerFactory, ServerProtocol

from .kit import Server, Sessions, Tickets, Word


@pytest.fixture
def lesson():
    return Server(Welcome())


# The lesson (the behaviour that twistd has without options)


@pytest.mark.parametrize("thought", [0, 2])
def test_l1_a_client_that_sends_the_token_is_welcome(lesson, thought):
    connection = lesson.connect()

    lesson.clock.advance(thought)
    connection.send(b"1")
    assert (connection.received, connection.goodbye) == (b"welcome to server!", "closed")
    connection.finish()

    assert lesson.verdicts == [("accepted", "handshake", "")]
    assert lesson.endings == [("accepted", "closing")]
    assert lesson.left_behind == []


@pytest.mark.parametrize("token", [b"2", b"11", b"\0", b"GET / HTTP/1.0\r\n\r\n"])
def test_l2_a_client_that_sends_anything_else_is_asked_out(lesson, token):
    connection = lesson.connect()

    connection.send(token)
    assert (connection.received, connection.goodbye) == (b"please go out!", "half-closed")
    connection.send_eof()
    connection.finish()

    assert lesson.endings == [("rejected", "closing")]
    assert lesson.left_behind == []


def test_l3_a_client_that_says_nothing_for_five_seconds_is_timed_out_without_a_byte(lesson):
    connection = lesson.connect()

    lesson.clock.advance(4.9)
    assert connection.goodbye == "open"
    lesson.clock.advance(0.1)
    assert (connection.received, connection.goodbye) == (b"", "closed")
    connection.finish()

    words = "nothing heard for 5 s in receive_some(max_bytes=1024), the limit set by idle_timeout"
    assert lesson.verdicts == [("timeout", "handshake", words)]
    assert lesson.endings == [("timeout", "handshake")]
    assert lesson.left_behind == []


@pytest.mark.parametrize("size", [1025, 65536])
def test_l4_a_client_that_keeps_sending_gets_the_whole_reply(lesson, size):
    connection = lesson.connect()

    connection.send(b"1" * size)
    for _ in range(40):
        connection.send(b"1" * 65536)
        lesson.clock.advance(0.1)
    assert (connection.received, connection.goodbye) == (b"please go out!", "half-closed")
    connection.send_eof()
    assert connection.goodbye == "closed"
    connection.finish()

    assert lesson.endings == [("rejected", "closing")]


def test_l4_a_client_that_never_stops_is_aborted_in_the_end(lesson):
    connection = lesson.connect()
    for _ in range(60):
        connection.send(b"1" * 65536)
        lesson.clock.advance(0.1)

    assert (connection.received, connection.goodbye) == (b"please go out!", "aborted")


def test_l5_nobody_waits_for_anybody(lesson):
    silent = [lesson.connect() for _ in range(50)]
    lesson.clock.advance(3)
    lively = [lesson.connect() for _ in range(50)]
    for each in lively:
        each.send(b"1")

    assert {each.received for each in lively} == {b"welcome to server!"}
    lesson.clock.advance(2)
    assert {each.goodbye for each in silent} == {"closed"}
    assert len(lesson.events) == 100 + 100


# The factory


def test_it_is_a_factory_of_twisteds():
    factory = Server().factory

    assert verifyObject(IProtocolFactory, factory)
    assert isinstance(factory, protocol.ServerFactory)


def test_a_protocol_knows_its_factory():
    factory = Server().factory

    built = factory.buildProtocol(None)

    assert isinstance(built, ServerProtocol)
    assert built.factory is factory


def test_it_listens_on_any_endpoint():
    reactor = MemoryReactorClock()
    sessions = Sessions()
    factory = ServerFactory(Word(), sessions, limits=Limits(idle_timeout=30), clock=reactor)
    ports = []

    serverFromString(reactor, "tcp:8471").listen(factory).addCallback(ports.append)

    assert reactor.tcpServers[0][:2] == (8471, factory)
    assert len(ports) == 1


def test_it_needs_a_handshake_that_serves():
    with pytest.raises(TypeError) as raised:
        ServerFactory(object())
    assert str(raised.value) == (
        "a object is no handshake here: it lacks async def serve(self, peer)"
    )


def test_a_session_begins_only_after_accept():
    sessions = Sessions()
    server = Server(session=sessions)
    no, yes = server.connect(), server.connect()

    no.send(b"no\n")
    assert sessions.built == []
    yes.send(b"yes\nhello")

    assert [each.told for each in sessions.built] == [
        [Accept(b"OK\n", identity="ann"), "made", b"hello"]
    ]


def test_a_session_is_built_for_the_address_of_its_peer():
    class Asked(Sessions):
        def buildProtocol(self, addr):
            addresses.append((addr.host, addr.port))
            return super().buildProtocol(addr)

    addresses = []
    connection = Server(session=Asked()).connect()
    connection.send(b"yes\n")

    assert addresses == [("192.168.1.1", 54321)]


def test_a_factory_that_gives_none_refuses_the_peer():
    class Declines(Sessions):
        def buildProtocol(self, addr):
            return None

    server = Server(session=Declines())
    connection = server.connect()
    connection.send(b"yes\n")
    assert (connection.received, connection.goodbye) == (b"", "closed")
    connection.finish()

    assert server.endings == [("refused", "handshake")]
    assert server.left_behind == []


def test_connections_of_one_factory_do_not_mix():
    server = Server(session=Sessions())
    connections = [server.connect() for _ in range(10)]
    for each in b"yes\n":
        for connection in connections:
            connection.send(bytes([each]))

    assert [each.received for each in connections] == [b"OK\n"] * 10
    assert [each.number for each in server.events] == [*range(1, 11), *range(1, 11)]


def test_a_server_may_stand_behind_a_proxy():
    policy = ProxyPolicy("auto", Networks.parse("192.0.2.0/24"))

    assert ServerFactory(Word(), proxy=policy).terms.proxy is policy
    assert ServerFactory(Word()).terms.proxy is None
    with pytest.raises(TypeError, match="unexpected keyword argument 'proxy'"):
        ClientFactory(Word(), proxy=policy)


def test_a_server_takes_what_every_entrance_takes():
    limits, clock, tickets, tls, seen = Limits(idle_timeout=1), Clock(), Tickets(), object(), []
    session = Sessions()

    factory = ServerFactory(
        Word(),
        session,
        limits=limits,
        admission=tickets,
        observers=[seen.append],
        clock=clock,
        tls=tls,
    )

    terms = factory.terms
    assert (terms.limits, terms.admission, terms.clock, terms.tls) == (limits, tickets, clock, tls)
    assert (terms.sessions, terms.observers) == ({"": session}, [seen.append])


def test_a_policy_for_proxies_is_no_text():
    with pytest.raises(TypeError) as raised:
        ServerFactory(Word(), proxy="v1")
    assert str(raised.value) == "proxy must be a ProxyPolicy(…), got a str"
