import os
import socket

import pytest
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectError, ConnectionRefusedError, DNSLookupError
from twisted.internet.interfaces import IHostnameResolver, IReadDescriptor, IWriteDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer
from zope.interface.verify import verifyObject

from sockproto.core.errors import (
    ConfigurationError,
    HandshakeFailed,
    HandshakeTimeout,
    PeerDisconnected,
    Rejected,
    Shutdown,
)
from sockproto.core.outcomes import Accept, Reject
from sockproto.events import ConnectionEnded, ConnectionOpened, HandshakeEnded
from sockproto.handshakes.welcome import Welcome
from sockproto.limits import Limits
from sockproto.transport.datagram import listen_datagrams
from sockproto.transport.datagram_client import Asking, ask
from sockproto.transport.terms import Terms

from .crank import cranked
from .kit import Asks, Word, runs


@pytest.fixture
def crank():
    with cranked() as crank:
        yield crank


class Other:
    """The other end: a socket that is ours to play."""

    def __init__(self, crank, host="127.0.0.1", path=None):
        self.crank = crank
        if path is not None:
            self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self.socket.bind(path)
            self.where = f"unixgram:{path}"
        else:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            self.socket = socket.socket(family, socket.SOCK_DGRAM)
            self.socket.bind((host, 0))
            shown = host.replace(":", "\\:")
            self.where = f"udp:{shown}:{self.socket.getsockname()[1]}"
        self.socket.setblocking(False)
        self.asker = None

    @property
    def port(self):
        return self.socket.getsockname()[1]

    def hear(self):
        """All that has come since."""
        heard = []
        while True:
            try:
                data, self.asker = self.socket.recvfrom(100)
            except BlockingIOError:
                return heard
            heard.append(data)

    def say(self, data):
        self.socket.sendto(data, self.asker)
        self.crank.turn(2)


@pytest.fixture
def other(crank):
    made = []

    def open(**place):
        made.append(Other(crank, **place))
        return made[-1]

    yield open
    for each in made:
        each.socket.close()


class Asked:
    """A question that is under way."""

    def __init__(self, crank, where, handshake=None, **more):
        self.events = []
        self.results = []
        self.deferred = ask(
            crank, where, handshake or Welcome(), observers=[self.events.append], **more
        )
        self.deferred.addBoth(self.results.append)
        crank.turn(2)

    @property
    def result(self):
        [result] = self.results
        return result.value if isinstance(result, Failure) else result

    @property
    def reasons(self):
        return [each.reason for each in self.events if isinstance(each, HandshakeEnded)]


# A question and its answer


@pytest.mark.parametrize("host", ["127.0.0.1", pytest.param("::1", marks=pytest.mark.ipv6)])
def test_the_answer_is_the_whole_of_it(crank, other, host):
    server = other(host=host)
    asked = Asked(crank, server.where)
    assert server.hear() == [b"1"]
    assert asked.results == []
    server.say(b"welcome to server!")

    assert asked.result == Accept(result=b"welcome to server!")
    assert [type(each) for each in asked.events] == [
        ConnectionOpened,
        HandshakeEnded,
        ConnectionEnded,
    ]
    verdict = asked.events[1]
    assert (verdict.address.host, verdict.address.port) == (host, server.port)
    assert (verdict.reason, verdict.received) == ("accepted", 18)


def test_over_a_unix_socket_it_can_be_answered(crank, other, tmp_path):
    server = other(path=str(tmp_path / "door"))
    asked = Asked(crank, server.where)
    assert server.hear() == [b"1"]
    server.say(b"please go out!")

    assert type(asked.result) is Rejected
    assert asked.result.reason == "please go out!"
    assert asked.reasons == ["rejected"]


def test_an_abstract_name_is_written_with_an_at(crank):
    name = f"sockproto-{os.getpid()}"
    port = listen_datagrams(crank, f"unixgram:@{name}", Welcome())
    asked = Asked(crank, f"unixgram:@{name}")
    crank.turn(2)
    port.stopListening()

    assert asked.result == Accept(result=b"welcome to server!")


def test_both_ends_of_ours_understand_each_other(crank):
    port = listen_datagrams(crank, "udp:0:interface=127.0.0.1", Word())
    asked = Asked(crank, f"udp:127.0.0.1:{port.address.port}", Word())
    crank.turn(2)
    port.stopListening()

    assert asked.result == Accept()


def test_an_empty_answer_is_an_answer(crank, other):
    server = other()
    asked = Asked(crank, server.where)
    server.hear()
    server.say(b"")

    assert type(asked.result) is PeerDisconnected
    assert asked.reasons == ["lost"]


def test_an_answer_from_anybody_else_is_none(crank, other):
    server, stranger = other(), other()
    asked = Asked(crank, server.where)
    server.hear()
    stranger.asker = server.asker
    stranger.say(b"welcome to server!")
    assert asked.results == []
    server.say(b"welcome to server!")

    assert asked.result == Accept(result=b"welcome to server!")


def test_who_does_not_care_for_an_answer_does_not_wait_for_one(crank, other):
    async def tells(peer):
        peer.send(b"news")
        return Accept()

    server = other()

    assert Asked(crank, server.where, runs(tells)).result == Accept()
    assert server.hear() == [b"news"]


# Again and again


def test_it_asks_again_after_one_and_two_and_four_seconds(crank, other):
    server = other()
    asked = Asked(crank, server.where, limits=Limits(handshake_timeout=20))
    heard = []
    for second in range(15):
        heard += [second] * len(server.hear())
        crank.now += 1
        crank.turn(2)
    assert heard == [0, 1, 3, 7]
    server.say(b"welcome to server!")

    assert asked.result == Accept(result=b"welcome to server!")


def test_it_asks_as_often_as_it_is_told(crank, other):
    server = other()
    asked = Asked(crank, server.where, retries=0)
    crank.advance(9)
    assert server.hear() == [b"1"]
    assert asked.results == []
    crank.advance(2)

    assert type(asked.result) is HandshakeTimeout
    assert str(asked.result) == (
        "not finished after 10 s in waiting for an answer (a rejection may be silent), the limit "
        "set by handshake_timeout"
    )
    assert asked.reasons == ["timeout"]


def test_after_an_answer_it_asks_no_more(crank, other):
    deferred = Deferred()

    async def looks_it_up(peer):
        peer.send(b"?")
        await peer.receive_to_end(9)
        return Accept(result=await deferred)

    server = other()
    asked = Asked(crank, server.where, runs(looks_it_up))
    assert server.hear() == [b"?"]
    server.say(b"!")
    crank.advance(3)
    server.say(b"! again")
    assert server.hear() == []
    deferred.callback("found")

    assert asked.result == Accept(result="found")


def test_without_a_bound_it_waits(crank, other):
    server = other()
    asked = Asked(crank, server.where, limits=Limits(handshake_timeout=float("inf")))
    crank.now += 1000
    crank.turn(2)
    assert asked.results == []
    server.hear()
    server.say(b"welcome to server!")

    assert asked.result == Accept(result=b"welcome to server!")


def test_a_full_queue_is_waited_for(crank, other, tmp_path):
    server = other(path=str(tmp_path / "door"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as crowd:
        crowd.setblocking(False)
        crowd.connect(str(tmp_path / "door"))
        try:
            while True:
                crowd.send(b"")
        except BlockingIOError:
            pass
        asked = Asked(crank, server.where)
        assert b"1" not in server.hear()
        crank.turn(2)
        assert server.hear() == [b"1"]
        server.say(b"welcome to server!")

    assert asked.result == Accept(result=b"welcome to server!")


# Deferreds


def test_a_handshake_may_think_first(crank, other):
    thought = Deferred()

    async def thinks(peer):
        peer.send(await thought)
        return Accept() if await peer.receive_to_end(9) else Reject()

    server = other()
    asked = Asked(crank, server.where, runs(thinks))
    assert server.hear() == []
    # What comes before the question answers nothing.
    server.asker = asked.events[0].local.host, asked.events[0].local.port
    server.say(b"early")
    thought.callback(b"?")
    assert server.hear() == [b"?"]
    server.say(b"!")

    assert asked.result == Accept()


def test_a_thought_that_fails_fails_the_handshake(crank, other):
    for thought in (fail(ZeroDivisionError()), Deferred()):
        asked = Asked(crank, other().where, Asks(succeed(1), thought))
        if not thought.called:
            thought.errback(ZeroDivisionError())
        assert type(asked.result) is HandshakeFailed
        assert asked.reasons == ["crashed"]


def test_a_thought_that_comes_too_late_is_cancelled(crank, other):
    cancelled = []
    asked = Asked(crank, other().where, Asks(Deferred(cancelled.append)))
    crank.advance(11)

    assert type(asked.result) is HandshakeTimeout
    assert str(asked.result) == (
        "not finished after 10 s in Deferred, the limit set by handshake_timeout"
    )
    assert len(cancelled) == 1


def test_a_thought_that_goes_its_own_way_is_left_alone(crank, other):
    thought = Deferred(lambda _: None)
    asked = Asked(crank, other().where, Asks(thought))
    asked.deferred.cancel()

    assert type(asked.result) is Shutdown


def test_there_is_no_tls(crank, other):
    async def secret(peer):
        await peer.start_tls()
        return Accept()

    asked = Asked(crank, other().where, runs(secret))

    assert type(asked.result) is HandshakeFailed
    assert str(asked.result).endswith("called start_tls(), and there is no TLS over datagrams")


# Nobody there


def test_nobody_there_is_told_at_once(crank, other):
    server = other()
    server.socket.close()
    asked = Asked(crank, server.where)
    crank.until(lambda: asked.results)

    assert type(asked.result) is ConnectionRefusedError
    assert asked.reasons == ["lost"]


def test_a_reactor_that_sees_no_errors_has_the_question_read_them(crank, other):
    server = other()
    server.socket.close()
    asking = []

    def note(event):
        asking.extend(each for each in crank.watched if isinstance(each, Asking))

    results = []
    ask(crank, server.where, Welcome(), observers=[note]).addErrback(results.append)
    # The error is there when send() returns: loopback has no other way.
    asking[0].doRead()

    assert results[0].check(ConnectionRefusedError)


def test_news_that_reach_nobody_are_not_accepted(crank, other, tmp_path):
    thought = Deferred()

    async def tells(peer):
        peer.send(await thought)
        return Accept()

    server = other(path=str(tmp_path / "door"))
    asked = Asked(crank, server.where, runs(tells))
    server.socket.close()
    thought.callback(b"news")

    assert isinstance(asked.result, ConnectError)
    assert asked.reasons == ["lost"]


def test_one_who_has_gone_is_noticed_when_it_is_asked_again(crank, other, tmp_path):
    server = other(path=str(tmp_path / "door"))
    asked = Asked(crank, server.where)
    server.socket.close()
    crank.advance(2)

    assert isinstance(asked.result, ConnectError)
    assert asked.reasons == ["lost"]


def test_one_who_leaves_while_it_thinks_is_not_asked(crank, other, tmp_path):
    server = other(path=str(tmp_path / "door"))
    asked = Asked(crank, server.where, Asks(Deferred()))
    server.socket.close()
    crank.advance(11)

    assert isinstance(asked.result, HandshakeTimeout | ConnectError)


def test_a_path_where_nobody_is_fails_before_anything_happens(crank, tmp_path):
    asked = Asked(crank, f"unixgram:{tmp_path}/none")

    assert isinstance(asked.result, ConnectError)
    assert asked.events == []


def test_whoever_gives_up_is_let_go(crank, other):
    asked = Asked(crank, other().where)
    asked.deferred.cancel()

    assert type(asked.result) is Shutdown
    assert asked.reasons == ["shutdown"]


def test_at_the_end_of_the_reactor_it_is_over(crank, other):
    asked = Asked(crank, other().where)
    [reader] = [each for each in crank.watched if isinstance(each, Asking)]
    assert verifyObject(IReadDescriptor, reader)
    assert verifyObject(IWriteDescriptor, reader)
    assert reader.logPrefix() == "a question in datagrams"
    reader.doRead()
    reader.connectionLost(Failure(ConnectionError()))

    assert type(asked.result) is Shutdown
    assert reader.fileno() == -1


# Names


@implementer(IHostnameResolver)
class Names:
    """A resolver that knows what it is told, when it is told."""

    def resolveHostName(self, receiver, *question, **more):
        self.receiver = receiver
        receiver.resolutionBegan(self)
        return receiver

    def tell(self, *addresses):
        for each in addresses:
            self.receiver.addressResolved(each)
        self.receiver.resolutionComplete()


@pytest.fixture
def names(crank):
    resolver = Names()
    crank.installNameResolver(resolver)
    return resolver


def test_a_name_is_looked_up_and_of_its_addresses_the_one_that_answers_is_asked(
    crank, other, names
):
    server = other()
    asked = Asked(crank, f"udp:localhost:{server.port}")
    names.tell(
        # An address of which there is no socket, one where nobody is, and one where somebody is.
        IPv6Address("UDP", "2001:db8::1%nowhere", 0),
        IPv6Address("UDP", "::1", 0),
        IPv4Address("UDP", "127.0.0.1", 0),
    )
    crank.until(lambda: server.hear() == [b"1"])
    server.say(b"welcome to server!")

    assert asked.result == Accept(result=b"welcome to server!")


def test_of_a_name_where_nobody_is_the_last_trouble_is_told(crank, other, names):
    server = other()
    server.socket.close()
    asked = Asked(crank, server.where.replace("127.0.0.1", "localhost"))
    names.tell(IPv6Address("UDP", "::1", 0), IPv4Address("UDP", "127.0.0.1", 0))
    crank.until(lambda: asked.results)

    assert type(asked.result) is ConnectionRefusedError


def test_the_last_address_may_be_out_of_reach(crank, other, names):
    server = other()
    server.socket.close()
    asked = Asked(crank, server.where.replace("127.0.0.1", "localhost"))
    names.tell(IPv4Address("UDP", "127.0.0.1", 0), IPv6Address("UDP", "::1%nowhere", 0))
    crank.until(lambda: asked.results)

    assert isinstance(asked.result, ConnectError | OSError)


def test_a_name_that_nobody_has_is_said_to_be_none(crank, names):
    asked = Asked(crank, "udp:nowhere:8001")
    names.tell()

    assert type(asked.result) is DNSLookupError
    assert str(asked.result).endswith("no results for hostname lookup: nowhere.")
    assert asked.events == []


def test_a_look_up_that_takes_too_long_comes_too_late(crank, names):
    asked = Asked(crank, "udp:slow:8001")
    crank.advance(11)
    names.tell(IPv4Address("UDP", "127.0.0.1", 0))

    assert str(asked.result) == (
        "not finished after 10 s in the look-up of its name, the limit set by handshake_timeout"
    )
    assert asked.events == []


# What cannot be


@pytest.mark.parametrize(
    "text",
    [
        "udp",
        "udp:",
        "udp::1",
        "udp:host",
        "udp:host:http",
        "udp:host:0",
        "udp:host:65536",
        "udp:host:1:2",
        "unixgram",
        "unixgram:",
        "unixgram:a:b",
        "tcp:127.0.0.1:8001",
    ],
)
def test_a_string_that_makes_no_sense_is_explained(crank, text):
    with pytest.raises(ConfigurationError) as caught:
        ask(crank, text, Welcome())

    assert str(caught.value) == (
        f"{text!r} is no endpoint for datagrams; write it like udp:127.0.0.1:8001 or "
        "unixgram:/run/door"
    )


def test_a_handshake_without_a_client_is_a_mistake_of_the_program(crank):
    with pytest.raises(TypeError, match="lacks async def connect"):
        ask(crank, "udp:127.0.0.1:1", object())


def test_nowhere_to_ask_is_no_question(crank):
    terms = Terms(
        Welcome().connect,
        None,
        serving=False,
        limits=Limits(handshake_timeout=1),
        admission=None,
        observers=(),
        clock=crank,
    )
    asking = Asking(crank, terms, 0)
    failed = []
    asking.answered.addErrback(failed.append)
    asking.begin([])
    crank.advance(2)

    assert failed[0].check(HandshakeTimeout)
