import gc
import os
import socket
import ssl
import struct
import warnings
from contextlib import contextmanager
from math import inf
from threading import Thread
from typing import ClassVar

import pytest
from integration.kit import PATIENCE, identity
from twisted.internet.defer import Deferred

from sockproto import (
    Accept,
    Address,
    HandshakeFailed,
    HandshakeTimeout,
    PeerDisconnected,
    PeerFacts,
    ProtocolViolation,
    Reject,
    Rejected,
    TlsFacts,
)
from sockproto.blocking import connect, shake_hands
from sockproto.core.end_point import end_point_of
from sockproto.core.exchange import Exchange
from sockproto.handshakes.chain import Chain
from sockproto.handshakes.negotiate import Negotiate
from sockproto.handshakes.none import NoHandshake
from sockproto.handshakes.passphrase import Passphrase
from sockproto.handshakes.welcome import Welcome
from sockproto.testing import every_cut

SESAME = Passphrase(b"sesame")
NO_TIME = 1e-9


class Side:
    """A handshake of a client that is one function."""

    def __init__(self, connect):
        self.connect = connect


@contextmanager
def talking_to(said=b"", *, end=True):
    """Our end of a connection whose other end has said something; gives both."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.settimeout(PATIENCE)
        theirs.sendall(said)
        if end:
            theirs.shutdown(socket.SHUT_WR)
        yield ours, theirs


def read(connected):
    """All that is left to read."""
    with connected.makefile("rb") as stream:
        return stream.read()


@pytest.fixture(scope="module")
def certified(tmp_path_factory):
    """A certificate for 127.0.0.1."""
    return identity(tmp_path_factory.mktemp("identity"))


@pytest.fixture
def nothing_left_open():
    """Nobody but the garbage collector would close what a failure has left open, and it tells."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ResourceWarning)
        yield
        gc.collect()
    assert [str(each.message) for each in caught] == []


@contextmanager
def serving(handshake, door, *, tls=None, sessions=()):
    """A server for one client: the same exchange on the other side of a real socket."""

    def serve():
        with door, door.accept()[0] as client:
            client.settimeout(PATIENCE)
            with tls.wrap_socket(client, server_side=True) if tls else client as speaking:
                exchange = Exchange(handshake.serve, PeerFacts(sessions=sessions))
                while exchange.outcome is None:
                    exchange.receive_data(speaking.recv(65536))
                    speaking.sendall(exchange.data_to_send())
                if isinstance(exchange.outcome, Accept):
                    speaking.sendall(b"hello")
                heard.append(exchange.unread() + speaking.recv(65536))

    heard = []
    door.settimeout(PATIENCE)
    thread = Thread(target=serve)
    thread.start()
    yield heard
    thread.join()


def greeting_of(made):
    """What the server has said, which may go then."""
    data = b""
    while len(data) < 5:
        data += made.recv(5)
    made.sendall(b"x")
    return data


@pytest.fixture
def door():
    return socket.create_server(("127.0.0.1", 0))


# What the caller gets


@pytest.mark.parametrize("cut", list(every_cut(b"OK\nhello")), ids=str)
def test_the_sessions_first_byte_is_the_next_that_is_read(cut):
    ours, theirs = socket.socketpair()
    with ours, theirs:

        def say():
            theirs.recv(100)
            for chunk in cut:
                theirs.sendall(chunk)
            theirs.close()

        thread = Thread(target=say)
        thread.start()
        accept = shake_hands(ours, SESAME)
        thread.join()

        assert accept == Accept()
        assert read(ours) == b"hello"


def test_what_the_handshake_has_found_out_is_in_the_accept():
    with talking_to(b"OK\nOK chat/1\nhello") as (ours, theirs):
        accept = shake_hands(ours, Chain(SESAME, Negotiate("chat/2,chat/1")))

        assert accept == Accept(result="chat/1")
        assert theirs.recv(100) == b"sesame\nchat/2 chat/1\n"
        assert read(ours) == b"hello"


def test_without_a_handshake_nothing_is_read():
    with talking_to(b"hello") as (ours, _):
        assert shake_hands(ours, NoHandshake()) == Accept()
        assert read(ours) == b"hello"


def test_a_handshake_may_read_to_the_end():
    with talking_to(b"welcome to server!") as (ours, _):
        assert shake_hands(ours, Welcome()) == Accept(result=b"welcome to server!")


def test_the_last_words_of_the_client_are_sent():
    async def side(peer):
        return Accept(b"thanks\n") if await peer.expect(b"OK\n") else Reject(b"bye\n")

    for said, answered in ((b"OK\n", b"thanks\n"), (b"NO\n", b"bye\n")):
        with talking_to(said) as (ours, theirs):
            try:
                shake_hands(ours, Side(side))
            except Rejected:
                assert answered == b"bye\n"
            assert theirs.recv(100) == answered


@pytest.mark.parametrize("timeout", [None, 7.0, 0.0])
def test_the_timeout_of_the_callers_socket_is_what_it_was(timeout):
    with talking_to(b"OK\n") as (ours, _):
        ours.settimeout(timeout)
        shake_hands(ours, SESAME)
        assert ours.gettimeout() == timeout
    with talking_to(b"NO\n") as (ours, _):
        ours.settimeout(timeout)
        with pytest.raises(Rejected):
            shake_hands(ours, SESAME, timeout=inf)
        assert ours.gettimeout() == timeout


# What goes wrong


def test_a_server_that_says_no_is_told_of_by_its_reason():
    with talking_to(b"NO\n") as (ours, _), pytest.raises(Rejected) as caught:
        shake_hands(ours, SESAME)

    assert str(caught.value) == "peer rejected the handshake: wrong word"


def test_a_server_that_leaves_is_a_disconnect():
    with talking_to(b"O") as (ours, _), pytest.raises(PeerDisconnected) as caught:
        shake_hands(ours, SESAME)

    assert str(caught.value) == "peer disconnected after 1 bytes, expected 3 bytes"


def test_a_server_that_is_gone_is_a_disconnect():
    with talking_to() as (ours, theirs):
        theirs.close()
        with pytest.raises(PeerDisconnected) as caught:
            shake_hands(ours, SESAME)

    told = "peer disconnected after 0 bytes, expected expect(<3 bytes>)"
    assert str(caught.value) == told
    assert isinstance(caught.value.__cause__, BrokenPipeError)


def test_a_server_that_has_cut_us_off_before_the_handshake_is_a_disconnect(door):
    with door, socket.create_connection(door.getsockname()) as made:
        theirs, _ = door.accept()
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        theirs.close()
        with pytest.raises(PeerDisconnected) as caught:
            shake_hands(made, SESAME)

    assert str(caught.value) == "peer disconnected after 0 bytes, expected a handshake"


def test_what_is_no_socket_any_more_is_the_callers_mistake():
    with talking_to() as (ours, _):
        ours.close()
        with pytest.raises(OSError, match="Bad file descriptor"):
            shake_hands(ours, SESAME)


def test_a_server_that_cannot_be_thanked_any_more_is_a_disconnect():
    async def side(peer):
        return Accept(b"thanks\n")

    with talking_to() as (ours, theirs):
        theirs.close()
        with pytest.raises(PeerDisconnected) as caught:
            shake_hands(ours, Side(side))

    assert str(caught.value) == "peer disconnected after 0 bytes, expected a session to begin"


def test_a_server_that_is_too_slow_is_told_of_by_what_was_waited_for():
    with talking_to(b"O", end=False) as (ours, _), pytest.raises(HandshakeTimeout) as caught:
        shake_hands(ours, SESAME, timeout=0.02)

    assert str(caught.value) == (
        "not finished after 0.02 s in expect(<3 bytes>), the limit set by timeout"
    )


def test_when_time_is_over_nothing_is_said_any_more():
    with talking_to(b"OK\n") as (ours, theirs):
        with pytest.raises(HandshakeTimeout):
            shake_hands(ours, SESAME, timeout=NO_TIME)
        theirs.setblocking(False)
        with pytest.raises(BlockingIOError):
            theirs.recv(100)


def test_what_the_server_may_not_say_is_a_violation():
    async def side(peer):
        await peer.receive_netstring(10)

    with talking_to(b"GET / HTTP/1.1\r\n") as (ours, _), pytest.raises(ProtocolViolation) as caught:
        shake_hands(ours, Side(side))

    # One byte at a time is enough to know.
    assert str(caught.value) == "expected a netstring, got b'G'"


def test_a_handshake_hears_of_its_end_and_is_not_left_behind():
    told = []

    async def side(peer):
        try:
            await peer.receive_line(10)
        except HandshakeTimeout as error:
            told.append(error)
            raise
        finally:
            told.append("over")

    with talking_to(end=False) as (ours, _), pytest.raises(HandshakeTimeout) as caught:
        shake_hands(ours, Side(side), timeout=NO_TIME)

    assert told == [caught.value, "over"]


def test_a_handshake_that_breaks_is_named():
    async def side(peer):
        raise ValueError("no")

    with talking_to() as (ours, _), pytest.raises(HandshakeFailed) as caught:
        shake_hands(ours, Side(side))

    assert " raised ValueError: no at test_blocking.py:" in str(caught.value)


def test_a_script_that_is_interrupted_is_interrupted():
    async def side(peer):
        await peer.receive_exactly(1)
        raise KeyboardInterrupt

    with talking_to(b"x") as (ours, _), pytest.raises(KeyboardInterrupt):
        shake_hands(ours, Side(side))


def test_a_handshake_that_waits_for_a_deferred_is_refused_and_the_deferred_cancelled():
    cancelled = []

    async def side(peer):
        await peer.receive_exactly(1)
        await Deferred(cancelled.append)

    with talking_to(b"x") as (ours, _), pytest.raises(HandshakeFailed) as caught:
        shake_hands(ours, Side(side))

    assert str(caught.value).endswith(
        "side awaited a Deferred, and without Twisted nobody fires it"
    )
    assert len(cancelled) == 1


def test_a_handshake_that_changes_to_tls_in_the_middle_is_refused():
    async def side(peer):
        await peer.start_tls()

    with talking_to() as (ours, _), pytest.raises(HandshakeFailed) as caught:
        shake_hands(ours, Side(side))

    assert str(caught.value).endswith(
        "side called start_tls(), and without Twisted TLS comes first or not at all"
    )


def test_a_handshake_that_accepts_what_it_has_looked_at_only_is_refused():
    async def side(peer):
        return Accept(result=await peer.expect(b"banner"))

    with talking_to(b"bahn") as (ours, _), pytest.raises(HandshakeFailed) as caught:
        shake_hands(ours, Side(side))

    assert str(caught.value).endswith(
        "side accepted, and left what it had looked at, which no socket takes back"
    )


# To connect, too


async def facts(peer):
    return Accept(result=(peer.address, peer.local, peer.tls, peer.uid, peer.sessions))


def test_connect_gives_a_socket_that_has_shaken_hands(door):
    place = door.getsockname()
    with serving(SESAME, door) as heard, connect(place, SESAME) as made:
        assert type(made) is socket.socket
        assert made.gettimeout() is None
        made.sendall(b"hi")
        assert read(made) == b"hello"

    assert heard == [b"hi"]


def test_connect_finds_its_way_to_a_unix_socket(tmp_path):
    path = str(tmp_path / "door")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen()
        with serving(SESAME, listening.dup()), connect(path, SESAME) as made:
            assert made.family == socket.AF_UNIX
            assert greeting_of(made) == b"hello"


@pytest.mark.usefixtures("nothing_left_open")
def test_connect_closes_what_it_gives_nobody(door):
    place = door.getsockname()
    with serving(SESAME, door) as heard, pytest.raises(Rejected):
        connect(place, Passphrase(b"simsim"))

    # The end came at once.
    assert heard == [b""]


@pytest.mark.usefixtures("nothing_left_open")
def test_connect_says_what_the_system_says_of_a_server_that_is_not_there(door, tmp_path):
    place = door.getsockname()
    door.close()

    with pytest.raises(ConnectionRefusedError):
        connect(place, SESAME)
    with pytest.raises(FileNotFoundError):
        connect(str(tmp_path / "door"), SESAME)


@pytest.mark.usefixtures("nothing_left_open")
def test_connect_has_one_bound_for_everything(door, tmp_path):
    with door:
        for place in (door.getsockname(), str(tmp_path / "door")):
            with pytest.raises(HandshakeTimeout) as caught:
                connect(place, SESAME, timeout=NO_TIME)
            assert str(caught.value) == (
                "not finished after 1e-09 s in connecting, the limit set by timeout"
            )


class Unresponsive(socket.socket):
    """What is tried on a host that does not answer."""

    timeouts: ClassVar[list[float]] = []

    def connect(self, place):
        self.timeouts.append(self.gettimeout())
        raise TimeoutError


@pytest.mark.usefixtures("nothing_left_open")
def test_all_addresses_of_a_host_have_one_bound(monkeypatch):
    found = [(socket.AF_INET, None, None, None, ("192.0.2.1", each)) for each in range(3)]
    times = iter([0.0, 0.0, 4.0, 9.0])
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    monkeypatch.setattr(socket, "socket", Unresponsive)
    monkeypatch.setattr("sockproto.blocking.monotonic", lambda: next(times))

    with pytest.raises(HandshakeTimeout):
        connect(("door.example", 8471), SESAME)

    assert Unresponsive.timeouts == [10.0, 6.0, 1.0]


@pytest.mark.usefixtures("nothing_left_open")
def test_another_address_of_a_host_is_tried(monkeypatch, door):
    host, port = door.getsockname()
    found = [(socket.AF_INET, None, None, None, (each, port)) for each in ("127.0.0.9", host)]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    with serving(SESAME, door), connect(("door.example", port), SESAME) as made:
        assert greeting_of(made) == b"hello"


def test_what_has_no_clients_side_is_not_connected():
    with pytest.raises(AttributeError):
        connect(("127.0.0.1", 9), object())


def test_a_handshake_knows_where_both_ends_are(door):
    with door, socket.create_connection(door.getsockname()) as made:
        known = shake_hands(made, Side(facts)).result
        ends = Address("inet", *made.getpeername()), Address("inet", *made.getsockname())

    assert known == (*ends, None, None, ())


def test_a_handshake_knows_whose_a_unix_socket_is(tmp_path):
    with talking_to() as (ours, _):
        known = shake_hands(ours, Side(facts)).result

    assert known == (Address("unix"), Address("unix"), None, os.getuid(), ())


def test_a_system_that_does_not_tell_whose_a_socket_is_is_not_asked(monkeypatch):
    monkeypatch.delattr(socket, "SO_PEERCRED")
    with talking_to() as (ours, _):
        known = shake_hands(ours, Side(facts)).result

    assert known == (Address("unix"), Address("unix"), None, None, ())


def test_a_system_without_unix_sockets_does_not_miss_them(monkeypatch, door):
    with door, socket.create_connection(door.getsockname()) as made:
        monkeypatch.delattr(socket, "AF_UNIX")
        known = shake_hands(made, Side(facts)).result

    assert known[0].family == "inet"


def test_an_abstract_name_is_shown_as_text():
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(b"\0sockproto-test-%d" % os.getpid())
        door.listen()
        with socket.socket(socket.AF_UNIX) as made:
            made.connect(door.getsockname())
            address, *_ = shake_hands(made, Side(facts)).result

    assert str(address) == f"unix:@sockproto-test-{os.getpid()}"


# TLS


def server_tls(certified):
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certified.certificate, certified.key)
    tls.set_alpn_protocols(["chat"])
    return tls


def test_over_tls_the_sessions_first_byte_is_the_next_too(certified, door):
    place = door.getsockname()
    with (
        serving(SESAME, door, tls=server_tls(certified)),
        connect(place, SESAME, tls=certified.context) as made,
    ):
        assert isinstance(made, ssl.SSLSocket)
        assert greeting_of(made) == b"hello"


@pytest.mark.parametrize("verified", [True, False])
def test_a_handshake_knows_what_tls_has_established(certified, door, verified):
    tls = certified.context
    tls.set_alpn_protocols(["chat"])
    if not verified:
        tls.check_hostname = False
        tls.verify_mode = ssl.CERT_NONE
    place = door.getsockname()
    with (
        serving(NoHandshake(), door, tls=server_tls(certified)),
        connect(place, NoHandshake(), tls=tls, server_name="localhost") as made,
    ):
        known = shake_hands(made, Side(facts)).result[2]
        greeting_of(made)

    der = ssl.PEM_cert_to_DER_cert(certified.certificate.read_text())
    assert known == TlsFacts(
        alpn="chat",
        names=("localhost",) if verified else (),
        certificate=der if verified else None,
        end_point=end_point_of(der),
    )
    assert known.end_point


def test_a_server_whose_certificate_is_not_believed_hears_nothing(certified, door):
    def serve():
        with door, door.accept()[0] as client, pytest.raises(ssl.SSLError):
            server_tls(certified).wrap_socket(client, server_side=True)

    place = door.getsockname()
    door.settimeout(PATIENCE)
    thread = Thread(target=serve)
    thread.start()
    with pytest.raises(ssl.SSLCertVerificationError):
        connect(place, SESAME, tls=ssl.create_default_context())
    thread.join()


@pytest.mark.usefixtures("nothing_left_open")
def test_a_server_that_does_not_speak_tls_in_time_is_too_slow(certified, door):
    with door, pytest.raises(HandshakeTimeout) as caught:
        connect(door.getsockname(), SESAME, tls=certified.context, timeout=0.05)

    assert str(caught.value) == (
        "not finished after 0.05 s in the TLS handshake, the limit set by timeout"
    )


@pytest.mark.usefixtures("nothing_left_open")
def test_tls_over_a_unix_socket_needs_the_name_of_the_server(certified, tmp_path):
    path = str(tmp_path / "door")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen()
        with pytest.raises(ValueError, match="check_hostname requires server_hostname"):
            connect(path, SESAME, tls=certified.context)
        listening.accept()[0].close()
        with (
            serving(SESAME, listening.dup(), tls=server_tls(certified)),
            connect(path, SESAME, tls=certified.context, server_name="localhost") as made,
        ):
            assert greeting_of(made) == b"hello"
