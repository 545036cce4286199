import asyncio
import gc
import os
import socket
import ssl
import warnings
from contextlib import asynccontextmanager, suppress
from functools import wraps

import pytest
from integration.kit import PATIENCE, identity
from twisted.internet.defer import Deferred

from sockproto import (
    Accept,
    Address,
    HandshakeFailed,
    HandshakeTimeout,
    PeerDisconnected,
    Reject,
    Rejected,
    TlsFacts,
)
from sockproto.aio import connect, shake_hands
from sockproto.core.end_point import end_point_of
from sockproto.core.exchange import Exchange
from sockproto.handshakes.chain import Chain
from sockproto.handshakes.negotiate import Negotiate
from sockproto.handshakes.none import NoHandshake
from sockproto.handshakes.passphrase import Passphrase
from sockproto.handshakes.welcome import Welcome
from sockproto.testing import every_cut

SESAME = Passphrase(b"sesame")
NO_TIME = 0.0


def in_a_loop(test):
    """Run a test in a loop of its own, which has to be left as it was made."""

    @wraps(test)
    def run(*arguments, **more):
        async def whole():
            await asyncio.wait_for(test(*arguments, **more), PATIENCE)
            # What was closed says so in the next turns.
            for _ in range(5):
                await asyncio.sleep(0)
            assert asyncio.all_tasks() == {asyncio.current_task()}

        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", ResourceWarning)
            asyncio.run(whole())
            gc.collect()
        assert [str(each.message) for each in caught] == []

    return run


class Side:
    """A handshake of a client that is one function."""

    def __init__(self, connect):
        self.connect = connect


@asynccontextmanager
async def talking_to(said=b"", *, end=True):
    """Our end of a connection whose other end has said something; gives both."""
    ours, theirs = socket.socketpair()
    theirs.sendall(said)
    if end:
        theirs.shutdown(socket.SHUT_WR)
    theirs.setblocking(False)
    reader, writer = await asyncio.open_connection(sock=ours)
    try:
        yield reader, writer, theirs
    finally:
        writer.transport.abort()
        theirs.close()


@pytest.fixture(scope="module")
def certified(tmp_path_factory):
    """A certificate for 127.0.0.1."""
    return identity(tmp_path_factory.mktemp("identity"))


@asynccontextmanager
async def serving(handshake, path=None, tls=None):
    """A server: the same exchange on the other side of a real socket; where, and what it heard."""

    async def serve(reader, writer):
        exchange = Exchange(handshake.serve)
        while exchange.outcome is None:
            exchange.receive_data(await reader.read(65536))
            writer.write(exchange.data_to_send())
        if isinstance(exchange.outcome, Accept):
            writer.write(b"hello")
        with suppress(ConnectionError):
            heard.append(exchange.unread() + await reader.read())
        writer.close()
        over.set()

    heard, over = [], asyncio.Event()
    if path is None:
        server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
        where = server.sockets[0].getsockname()
    else:
        server = await asyncio.start_unix_server(serve, path, ssl=tls)
        where = path
    async with server:
        yield where, heard
        await over.wait()


async def leave(writer):
    writer.write(b"bye")
    writer.close()
    await writer.wait_closed()


# What the caller gets


@pytest.mark.parametrize("cut", list(every_cut(b"OK\nhello")), ids=str)
@in_a_loop
async def test_the_sessions_first_byte_is_the_next_that_is_read(cut):
    async with talking_to(end=False) as (reader, writer, theirs):
        shaking = asyncio.create_task(shake_hands(reader, writer, SESAME))
        for chunk in cut:
            theirs.send(chunk)
            for _ in range(3):
                await asyncio.sleep(0)
        theirs.shutdown(socket.SHUT_WR)

        assert await shaking == Accept()
        assert await reader.read() == b"hello"
        assert theirs.recv(100) == b"sesame\n"


@in_a_loop
async def test_what_the_handshake_has_found_out_is_in_the_accept():
    async with talking_to(b"OK\nOK chat/1\nhello") as (reader, writer, theirs):
        accept = await shake_hands(reader, writer, Chain(SESAME, Negotiate("chat/2,chat/1")))

        assert accept == Accept(result="chat/1")
        assert theirs.recv(100) == b"sesame\nchat/2 chat/1\n"
        assert await reader.read() == b"hello"


@in_a_loop
async def test_a_handshake_may_read_to_the_end():
    async with talking_to(b"welcome to server!") as (reader, writer, _):
        accept = await shake_hands(reader, writer, Welcome(), timeout=float("inf"))

    assert accept == Accept(result=b"welcome to server!")


@in_a_loop
async def test_the_last_words_of_the_client_are_sent():
    async def side(peer):
        return Accept(b"thanks\n") if await peer.expect(b"OK\n") else Reject(b"bye\n")

    async with talking_to(b"OK\n") as (reader, writer, theirs):
        await shake_hands(reader, writer, Side(side))
        assert theirs.recv(100) == b"thanks\n"
    async with talking_to(b"NO\n") as (reader, writer, theirs):
        with pytest.raises(Rejected):
            await shake_hands(reader, writer, Side(side))
        assert theirs.recv(100) == b"bye\n"


# What goes wrong


@in_a_loop
async def test_a_server_that_says_no_is_told_of_by_its_reason():
    async with talking_to(b"NO\n") as (reader, writer, _):
        with pytest.raises(Rejected) as caught:
            await shake_hands(reader, writer, SESAME)

    assert str(caught.value) == "peer rejected the handshake: wrong word"


@in_a_loop
async def test_a_server_that_leaves_is_a_disconnect():
    async with talking_to(b"O") as (reader, writer, _):
        with pytest.raises(PeerDisconnected) as caught:
            await shake_hands(reader, writer, SESAME)

    assert str(caught.value) == "peer disconnected after 1 bytes, expected 3 bytes"


@in_a_loop
async def test_a_server_that_is_gone_is_a_disconnect():
    async with talking_to(end=False) as (reader, writer, _):
        shaking = asyncio.create_task(shake_hands(reader, writer, SESAME))
        await asyncio.sleep(0)
        reader.set_exception(ConnectionResetError(104, "Connection reset by peer"))
        with pytest.raises(PeerDisconnected) as caught:
            await shaking

    assert str(caught.value) == ("peer disconnected after 0 bytes, expected expect(<3 bytes>)")
    assert isinstance(caught.value.__cause__, ConnectionResetError)


@in_a_loop
async def test_a_server_that_is_too_slow_is_told_of_by_what_was_waited_for():
    async with talking_to(b"O", end=False) as (reader, writer, _):
        with pytest.raises(HandshakeTimeout) as caught:
            await shake_hands(reader, writer, SESAME, timeout=0.02)

    assert str(caught.value) == (
        "not finished after 0.02 s in expect(<3 bytes>), the limit set by timeout"
    )


@in_a_loop
async def test_a_handshake_hears_that_its_task_is_cancelled():
    told = []

    async def side(peer):
        try:
            await peer.receive_line(10)
        finally:
            told.append("over")

    async with talking_to(end=False) as (reader, writer, _):
        shaking = asyncio.create_task(shake_hands(reader, writer, Side(side)))
        await asyncio.sleep(0)
        shaking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await shaking

    assert told == ["over"]


@in_a_loop
async def test_a_handshake_that_waits_for_a_deferred_is_refused_and_the_deferred_cancelled():
    cancelled = []

    async def side(peer):
        await Deferred(cancelled.append)

    async with talking_to() as (reader, writer, _):
        with pytest.raises(HandshakeFailed) as caught:
            await shake_hands(reader, writer, Side(side))

    assert str(caught.value).endswith(
        "side awaited a Deferred, and without Twisted nobody fires it"
    )
    assert len(cancelled) == 1


@in_a_loop
async def test_a_handshake_that_awaits_a_future_of_the_loop_is_refused():
    async def side(peer):
        await asyncio.get_running_loop().create_future()

    async with talking_to() as (reader, writer, _):
        with pytest.raises(HandshakeFailed) as caught:
            await shake_hands(reader, writer, Side(side))

    assert "which nobody here can resume" in str(caught.value)


# To connect, too


@in_a_loop
async def test_connect_gives_streams_that_have_shaken_hands():
    async with serving(SESAME) as (place, heard):
        reader, writer = await connect(place, SESAME)
        assert await reader.readexactly(5) == b"hello"
        await leave(writer)

    assert heard == [b"bye"]


def server_tls(certified):
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certified.certificate, certified.key)
    tls.set_alpn_protocols(["chat"])
    return tls


@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "tls"])
@in_a_loop
async def test_connect_finds_its_way_to_a_unix_socket(tmp_path, certified, encrypted):
    more = {"tls": certified.context, "server_name": "localhost"} if encrypted else {}
    tls = server_tls(certified) if encrypted else None
    async with serving(SESAME, str(tmp_path / "door"), tls) as (place, heard):
        reader, writer = await connect(place, SESAME, **more)
        assert await reader.readexactly(5) == b"hello"
        await leave(writer)

    assert heard == [b"bye"]


@in_a_loop
async def test_connect_closes_what_it_gives_nobody():
    async with serving(SESAME) as (place, _):
        with pytest.raises(Rejected):
            await connect(place, Passphrase(b"simsim"))


@in_a_loop
async def test_connect_closes_what_nobody_waits_for_any_more():
    began = asyncio.Event()

    async def side(peer):
        began.set()
        # The server will have had a word, and so an end.
        peer.send(b"sesame\n")
        await peer.receive_exactly(100)

    async with serving(SESAME) as (place, _):
        shaking = asyncio.create_task(connect(place, Side(side)))
        await began.wait()
        shaking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await shaking


@in_a_loop
async def test_connect_says_what_the_system_says_of_a_server_that_is_not_there(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as door:
        place = door.getsockname()

    with pytest.raises(ConnectionRefusedError):
        await connect(place, SESAME)
    with pytest.raises(FileNotFoundError):
        await connect(str(tmp_path / "door"), SESAME)


@in_a_loop
async def test_connect_has_one_bound_for_everything(certified):
    with socket.create_server(("127.0.0.1", 0)) as door:
        with pytest.raises(HandshakeTimeout) as plain:
            await connect(door.getsockname(), SESAME, timeout=NO_TIME)
        with pytest.raises(HandshakeTimeout) as encrypted:
            await connect(door.getsockname(), SESAME, tls=certified.context, timeout=0.05)

    assert str(plain.value) == "not finished after 0 s in connecting, the limit set by timeout"
    assert str(encrypted.value) == (
        "not finished after 0.05 s in connecting over TLS, the limit set by timeout"
    )


@in_a_loop
async def test_a_timeout_of_the_systems_is_told_in_its_own_words(monkeypatch):
    async def fail(*_, **__):
        raise TimeoutError(110, "Connection timed out")

    monkeypatch.setattr(asyncio, "open_connection", fail)
    with pytest.raises(TimeoutError) as caught:
        await connect(("127.0.0.1", 9), SESAME)

    assert type(caught.value) is TimeoutError
    assert str(caught.value) == "[Errno 110] Connection timed out"


# What a handshake knows


async def facts(peer):
    return Accept(result=(peer.address, peer.local, peer.tls, peer.uid, peer.sessions))


@in_a_loop
async def test_a_handshake_knows_whose_a_unix_socket_is():
    async with talking_to() as (reader, writer, _):
        known = (await shake_hands(reader, writer, Side(facts))).result

    assert known == (Address("unix"), Address("unix"), None, os.getuid(), ())


@in_a_loop
async def test_a_handshake_knows_what_tls_has_established(certified):
    tls = certified.context
    tls.set_alpn_protocols(["chat"])
    async with serving(NoHandshake(), tls=server_tls(certified)) as (place, _):
        reader, writer = await connect(place, NoHandshake(), tls=tls)
        accept = await shake_hands(reader, writer, Side(facts))
        ends = writer.get_extra_info("peername"), writer.get_extra_info("sockname")
        await leave(writer)

    der = ssl.PEM_cert_to_DER_cert(certified.certificate.read_text())
    known = TlsFacts("chat", ("localhost",), der, end_point_of(der))
    assert accept.result == (*(Address("inet", *each) for each in ends), known, None, ())


@in_a_loop
async def test_a_server_whose_certificate_is_not_believed_hears_nothing(certified):
    heard = []
    tls = server_tls(certified)
    server = await asyncio.start_server(heard.append, "127.0.0.1", 0, ssl=tls)
    async with server:
        place = server.sockets[0].getsockname()
        with pytest.raises(ssl.SSLCertVerificationError):
            await connect(place, SESAME, tls=ssl.create_default_context())

    assert heard == []
