import os
import socket

import pytest
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IListeningPort, IReadDescriptor
from twisted.python.failure import Failure
from zope.interface.verify import verifyObject

from sockproto.admission.control import AdmissionControl
from sockproto.admission.networks import Networks
from sockproto.admission.policy import Policy
from sockproto.core.errors import ConfigurationError
from sockproto.core.facts import Address
from sockproto.core.outcomes import Accept, Reject
from sockproto.core.peer import Peer
from sockproto.events import ConnectionEnded, ConnectionOpened, HandshakeEnded, RefusalWaived
from sockproto.handshakes.welcome import Welcome
from sockproto.limits import Limits
from sockproto.transport import datagram
from sockproto.transport.datagram import MAX_DATAGRAMS, MAX_SIZE, listen_datagrams

from .crank import cranked
from .kit import Asks, Observed, Tickets, Word, runs

UDP = "udp:0:interface=127.0.0.1"
UDP6 = r"udp:0:interface=\:\:1"
WELCOME, GOODBYE = b"welcome to server!", b"please go out!"


@pytest.fixture
def crank():
    with cranked() as crank:
        yield crank


class Opened(Observed):
    """A port for datagrams on a crank, and all that is told of it."""

    def __init__(self, crank, description=UDP, handshake=None, **terms):
        self.crank = crank
        self.events = []
        self.clients = []
        self.port = listen_datagrams(
            crank, description, handshake or Welcome(), observers=[self.events.append], **terms
        )

    def client(self, bound=True, host=None):
        """A socket that can talk to it."""
        address = self.port.address
        if address.family == "unix":
            made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            if bound:
                made.bind(b"")
            made.connect(address.path)
        else:
            family = socket.AF_INET6 if ":" in (host or address.host) else socket.AF_INET
            made = socket.socket(family, socket.SOCK_DGRAM)
            made.connect((host or address.host, address.port))
        made.setblocking(False)
        self.clients.append(made)
        return made

    def ask(self, data, **kind):
        """Send a datagram; gives what came back, or None."""
        client = self.client(**kind)
        client.send(data)
        return self.answer(client)

    def answer(self, client):
        self.crank.turn(2)
        try:
            return client.recv(100)
        except BlockingIOError:
            return None

    def stop(self):
        self.port.stopListening()
        for each in self.clients:
            each.close()


@pytest.fixture
def opened(crank):
    made = []

    def start(*arguments, **more):
        made.append(Opened(crank, *arguments, **more))
        return made[-1]

    yield start
    for each in made:
        each.stop()


@pytest.fixture
def unix(tmp_path):
    return f"unixgram:{tmp_path}/door"


# What is answered


@pytest.mark.parametrize(
    "description",
    [
        UDP,
        pytest.param(UDP6, marks=pytest.mark.ipv6),
        "udp:0",
        pytest.param("udp:0:dual=1", marks=pytest.mark.ipv6),
    ],
)
def test_a_welcome_one_is_answered_and_any_other_hears_nothing(opened, description):
    server = opened(description)
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(server.port.address.host)

    assert server.ask(b"1", host=host) == WELCOME
    assert server.ask(b"2", host=host) is None
    assert server.ask(b"", host=host) is None
    assert server.verdicts == [
        ("accepted", "handshake", ""),
        ("rejected", "handshake", "expected b'1', got b'2'"),
        ("probe", "handshake", "peer disconnected after 0 bytes, expected at least 1 byte"),
    ]
    assert server.endings == [
        ("accepted", "closing"),
        ("rejected", "handshake"),
        ("probe", "handshake"),
    ]


def test_over_a_unix_socket_whoever_is_rejected_is_told(opened, unix):
    server = opened(unix)

    assert server.ask(b"1") == WELCOME
    assert server.ask(b"2") == GOODBYE
    assert server.endings == [("accepted", "closing"), ("rejected", "closing")]


def test_a_reject_that_says_nothing_is_silent(opened, unix):
    async def rejects(peer):
        return Reject()

    server = opened(unix, runs(rejects))

    assert server.ask(b"2") is None
    assert server.endings == [("rejected", "handshake")]


def test_one_who_has_no_address_cannot_be_answered(opened, unix):
    server = opened(unix)

    for data in (b"1", b"2"):
        assert server.ask(data, bound=False) is None
    assert server.endings == [("accepted", "handshake"), ("rejected", "handshake")]
    assert server.port.dropped == 0


def test_one_who_has_gone_is_no_trouble(opened, crank, unix):
    server = opened(unix)
    gone = server.client()
    gone.send(b"1")
    gone.close()

    assert server.ask(b"1") == WELCOME
    assert server.endings == [("accepted", "closing")] * 2
    assert server.port.dropped == 1


def test_an_answer_that_finds_no_room_is_dropped_and_counted(opened, crank, unix):
    server = opened(unix)
    client = server.client()
    # It reads none of them; how many its queue holds is up to net.unix.max_dgram_qlen.
    for _ in range(10_000):
        crank.now += 1
        client.send(b"1")
        crank.turn()
        if server.port.dropped:
            break

    assert server.port.dropped == 1
    assert server.verdicts[-1] == ("accepted", "handshake", "")


def test_an_accept_without_a_word_is_an_empty_datagram(opened):
    async def accepts(peer):
        await peer.receive_exactly(1)
        return Accept()

    assert opened(UDP, runs(accepts)).ask(b"1") == b""


def test_an_answer_comes_from_where_the_question_went(opened):
    server = opened("udp:0")

    # A connected socket takes it from nowhere else.
    assert server.ask(b"1", host="127.0.0.9") == WELCOME
    assert server.events[0].local == Address("inet", "127.0.0.9", server.port.address.port)


@pytest.mark.ipv6
def test_both_families_come_to_a_dual_socket(opened):
    server = opened("udp:0:dual=1")

    assert server.ask(b"1", host="127.0.0.9") == WELCOME
    assert server.ask(b"1", host="::1") == WELCOME
    opened_events = [each for each in server.events if isinstance(each, ConnectionOpened)]
    assert [each.local.host for each in opened_events] == ["127.0.0.9", "::1"]


@pytest.mark.parametrize("description", ["udp:0", "udp:0:dual=1"])
def test_what_was_sent_to_everybody_is_not_answered(opened, description):
    server = opened(description)
    client = server.client(host="127.0.0.1")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as everybody:
        everybody.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        everybody.sendto(b"1", ("127.255.255.255", server.port.address.port))
        assert server.answer(client) is None
    assert server.verdicts == [("refused", "admission", "it was sent to a group or to everybody")]


def test_one_source_has_ten_answers_a_second(opened, crank):
    server = opened()
    client = server.client()

    def ask_many():
        for _ in range(20):
            client.send(b"1")
        return len([1 for _ in range(20) if server.answer(client) == WELCOME])

    assert ask_many() == 10
    crank.advance(2)
    assert ask_many() == 10
    assert server.verdicts[10] == (
        "refused",
        "handshake",
        "its source has had its answers, 10/1s",
    )
    # Another client of this machine is another source.
    assert server.ask(b"1") == WELCOME


def test_two_servers_do_not_answer_each_other_for_ever(opened, crank):
    one, other = opened(), opened()
    # As if one had been sent something in the other's name.
    one.port._door.socket.sendto(b"1", other.port._door.socket.getsockname())
    crank.turn(10)

    assert other.verdicts == [("accepted", "handshake", "")]
    assert [each[0] for each in one.verdicts] == ["rejected"]


def test_two_servers_at_one_port_that_accept_each_other_send_one_answer_each(opened, crank):
    one = opened(UDP, Welcome(token=b"x", welcome=b"y"))
    port = one.port.address.port
    other = opened(f"udp:{port}:interface=127.0.0.2", Welcome(token=b"y", welcome=b"x"))
    # As if other had been sent something in the name of one.
    one.port._door.socket.sendto(b"y", ("127.0.0.2", port))
    crank.turn(50)

    refused = (
        "refused",
        "handshake",
        f"it sends from port {port}, as another server like this one would, and has had its "
        "answer, 1/1s",
    )
    assert one.verdicts == [("accepted", "handshake", "")]
    assert other.verdicts == [("accepted", "handshake", ""), refused]


def test_an_echo_is_not_made(opened):
    async def echo(peer):
        return Accept(await peer.receive_to_end(99))

    server = opened(UDP, runs(echo))

    assert server.ask(b"hello") is None
    assert server.verdicts[0][0] == "refused"


def test_a_stranger_gets_no_more_than_it_has_sent(opened, crank, monkeypatch):
    # Whose address an envelope has is not in our hands; so nobody is on loopback for once.
    monkeypatch.setattr(
        datagram, "address_from", lambda remote: Address("inet", "192.0.2.1", remote[1])
    )
    word = Welcome(token=b"12345", welcome=b"12346", goodbye=b"no")
    short = Welcome(token=b"1234", welcome=b"12346", goodbye=b"no")

    assert opened(UDP, word).ask(b"12345") == b"12346"
    strict = opened(UDP, short)
    assert strict.ask(b"1234") is None
    assert strict.verdicts == [
        (
            "refused",
            "handshake",
            "the answer has 5 bytes and the question 4, a ratio above the 1 of max_amplification",
        )
    ]
    assert opened(UDP, short, max_amplification=1.25).ask(b"1234") == b"12346"


def test_a_datagram_may_be_as_long_as_a_handshake(opened):
    async def swallow(peer):
        return Accept(str(len(await peer.receive_to_end(9000))).encode())

    server = opened(UDP, runs(swallow), limits=Limits(max_handshake_bytes=5000))

    assert server.ask(bytes(5000)) == b"5000"
    assert server.ask(bytes(5001)) is None
    assert server.verdicts[1] == (
        "limit",
        "handshake",
        "peer sent more than 5000 bytes, the limit set by max_handshake_bytes",
    )


def test_no_datagram_is_longer_than_those_of_udp(opened, unix):
    server = opened(unix, limits=Limits(max_handshake_bytes=10 * MAX_SIZE))

    server.ask(bytes(MAX_SIZE + 1))

    assert server.verdicts[0][0] == "limit"


def test_a_handshake_that_waits_is_rejected(opened):
    server = opened(UDP, Asks(Deferred(), Deferred()))

    assert server.ask(b"1") is None
    assert server.verdicts == [
        ("rejected", "handshake", "Asks.serve waits for a Deferred, and a datagram cannot")
    ]


def test_a_plug_in_that_breaks_is_silent_and_the_port_goes_on(opened):
    async def breaks(peer):
        if await peer.receive_some(9) == b"!":
            raise ZeroDivisionError
        return Accept(b"OK")

    server = opened(UDP, runs(breaks))

    assert server.ask(b"!") is None
    assert server.ask(b".") == b"OK"
    assert [each[0] for each in server.verdicts] == ["crashed", "accepted"]


def test_a_keyboard_interrupt_does_not_close_the_port(opened, logged):
    interrupts = [KeyboardInterrupt()]

    async def interrupted(peer):
        await peer.receive_some(9)
        if interrupts:
            raise interrupts.pop()
        return Accept(b"OK")

    server = opened(UDP, runs(interrupted))

    assert server.ask(b".") is None
    assert logged.take() == ["a datagram broke: KeyboardInterrupt()"]
    assert server.ask(b".") == b"OK"


def test_what_is_known_of_a_sender_is_known_to_the_handshake(opened, unix):
    facts = []

    async def curious(peer: Peer):
        facts.append((peer.address.family, peer.local, peer.uid, peer.sessions))
        return Reject() if await peer.receive_some(9) else Accept()

    server = opened(unix, runs(curious))
    server.ask(b"1", bound=False)

    assert facts[-1] == ("unix", server.port.address, os.getuid(), ())


# Who may start


def test_whoever_is_denied_is_refused(opened):
    policy = Policy(deny=Networks.parse("127.0.0.0/8"))
    server = opened(UDP, admission=AdmissionControl(policy))

    assert server.ask(b"1") is None
    assert server.verdicts == [
        ("refused", "admission", "allow, deny: allowed by a /0, denied by a /8")
    ]
    assert server.endings == [("refused", "admission")]


def test_in_a_dry_run_it_is_only_said(opened):
    policy = Policy(deny=Networks.parse("127.0.0.0/8"))
    server = opened(UDP, admission=AdmissionControl(policy, dry_run=True))

    assert server.ask(b"1") == WELCOME
    assert [type(each) for each in server.events] == [
        ConnectionOpened,
        RefusalWaived,
        HandshakeEnded,
        ConnectionEnded,
    ]


def test_over_udp_nobody_is_blamed_for_what_is_sent_in_its_name(opened):
    tickets = Tickets()
    server = opened(UDP, admission=tickets)
    server.ask(b"2")

    assert tickets.verdicts == []
    assert tickets.released == 1
    assert tickets.facts == [{"uid": None}]


def test_over_a_unix_socket_the_kernel_knows_who_it_was(opened, unix):
    tickets = Tickets()
    server = opened(unix, admission=tickets)
    server.ask(b"2")
    server.ask(b"")

    assert tickets.verdicts == [("rejected", False), ("probe", True)]
    assert tickets.released == 2
    assert tickets.facts == [{"uid": os.getuid()}] * 2


def test_an_admission_that_breaks_lets_nobody_in(opened):
    class Broken:
        def admit(self, address, **facts):
            raise ZeroDivisionError

    server = opened(UDP, admission=Broken())

    assert server.ask(b"1") is None
    assert server.verdicts == [("crashed", "admission", "the admission raised ZeroDivisionError()")]


# As a port


@pytest.mark.ipv6
def test_it_is_a_port_and_a_reader(opened, unix):
    for description, address in (
        (UDP, IPv4Address("UDP", "127.0.0.1", 0)),
        (UDP6, IPv6Address("UDP", "::1", 0)),
        (unix, UNIXAddress(unix.partition(":")[2].encode())),
    ):
        port = opened(description).port
        assert verifyObject(IListeningPort, port)
        assert verifyObject(IReadDescriptor, port)
        host = port.getHost()
        assert type(host) is type(address)
        if description == unix:
            assert host == address
        else:
            assert (host.type, host.host, host.port) == ("UDP", address.host, port.address.port)
        assert port.logPrefix() == f"sockproto at {port.address}"


def test_a_turn_reads_so_many_datagrams_and_no_more(opened, crank):
    server = opened()
    client = server.client()
    for _ in range(2 * MAX_DATAGRAMS + 1):
        client.send(b"")
    # Some turns of the crank see nothing.
    seen = []
    for _ in range(10):
        before = len(server.verdicts)
        crank.turn()
        seen.append(len(server.verdicts) - before)

    assert [each for each in seen if each] == [MAX_DATAGRAMS, MAX_DATAGRAMS, 1]


def test_an_observer_may_stop_it(crank):
    def stop(event):
        if isinstance(event, HandshakeEnded):
            port.stopListening()

    port = listen_datagrams(crank, UDP, Welcome(), observers=[stop])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.connect(port._door.socket.getsockname())
        client.send(b"2")
        client.send(b"2")
        crank.turn(2)
    assert port.fileno() == -1


def test_what_became_of_an_answer_is_no_trouble(opened, crank, monkeypatch):
    class Refused:
        """A socket that tells first of an answer that nobody was there for."""

        def __init__(self, real):
            self.real = real
            self.errors = [ConnectionRefusedError()]

        def recvmsg(self, *sizes):
            if self.errors:
                raise self.errors.pop()
            return self.real.recvmsg(*sizes)

        def __getattr__(self, name):
            return getattr(self.real, name)

    server = opened()
    server.port._door.socket = Refused(server.port._door.socket)

    assert server.ask(b"1") == WELCOME


@pytest.mark.parametrize("kind", ["udp", "unixgram"])
def test_whoever_has_asked_when_it_stops_is_answered(opened, unix, kind):
    server = opened(UDP if kind == "udp" else unix)
    clients = [server.client() for _ in range(5)]
    for each in clients:
        each.send(b"1")

    server.port.stopListening()

    assert [each.recv(100) for each in clients] == [WELCOME] * 5
    assert server.port.fileno() == -1


def test_a_stop_is_over_after_so_many_datagrams(crank, monkeypatch):
    monkeypatch.setattr(datagram, "MAX_QUEUE", 10)
    verdicts = []

    def ask_again(event):
        if isinstance(event, HandshakeEnded):
            verdicts.append(event.reason)
            client.send(b"2")

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        port = listen_datagrams(crank, UDP, Welcome(), observers=[ask_again])
        client.connect(port._door.socket.getsockname())
        client.send(b"2")
        port.stopListening()

    assert verdicts == ["rejected"] * 10
    assert port.fileno() == -1


def test_whoever_sends_to_a_unix_socket_that_stops_is_told_at_once(crank, unix):
    told = []

    def ask_again(event):
        if isinstance(event, HandshakeEnded):
            try:
                client.send(b"2")
            except OSError as error:
                told.append(type(error))

    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as client:
        port = listen_datagrams(crank, unix, Welcome(), observers=[ask_again])
        client.connect(port.address.path)
        client.send(b"2")
        port.stopListening()

    assert told == [BrokenPipeError]


def test_it_stops_once_and_leaves_nothing_behind(opened, tmp_path, unix):
    server = opened(unix)
    assert (tmp_path / "door").stat().st_mode & 0o777 == 0o600

    stopped = []
    for _ in range(2):
        server.port.stopListening().addCallback(stopped.append)

    assert stopped == [None, None]
    assert os.listdir(tmp_path) == []


def test_at_the_end_of_the_reactor_it_stops(opened):
    server = opened()
    server.port.connectionLost(Failure(ConnectionError()))

    assert server.port.fileno() == -1


# What cannot be


async def banner(peer):
    peer.send(b"hello\n")
    return Accept()


@pytest.mark.parametrize(
    ("description", "handshake", "more", "trouble"),
    [
        (
            "stdio:",
            None,
            {},
            "that is not for datagrams; write it like udp:8001:interface=127.0.0.1 or "
            "unixgram:/run/door",
        ),
        (
            "tcp:0",
            None,
            {},
            "tcp is for connections; write udp:8001:interface=127.0.0.1 or "
            "unixgram:/run/door:mode=660",
        ),
        (
            "udp:high",
            None,
            {},
            "its port 'high' is not a whole number from 0 to 65535 "
            "(an endpoint is written like udp:8001:interface=127.0.0.1)",
        ),
        (UDP, None, {"max_amplification": 0}, "an amplification of 0 is not above 0"),
        (
            UDP,
            runs(banner),
            {},
            "banner speaks first, and over datagrams a server is silent until it is asked; "
            "choose a handshake whose client begins",
        ),
    ],
)
def test_what_cannot_be_is_said_in_one_line(crank, description, handshake, more, trouble):
    with pytest.raises(ConfigurationError) as caught:
        listen_datagrams(crank, description, handshake or Welcome(), **more)

    assert str(caught.value) == f"cannot listen on {description}: {trouble}"


def test_a_handshake_that_cannot_serve_is_a_mistake_of_the_program(crank):
    with pytest.raises(TypeError, match="lacks async def serve"):
        listen_datagrams(crank, UDP, object())


def test_its_word_is_as_good_as_over_a_connection(opened):
    server = opened(UDP, Word())

    assert server.ask(b"yes\n") == b"OK\n"
    assert server.ask(b"yes") is None
    assert server.verdicts[1][:2] == ("lost", "handshake")
    assert [each.identity for each in server.events if isinstance(each, ConnectionEnded)] == [
        "ann",
        None,
    ]
