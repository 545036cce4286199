"""A connection is upgraded to TLS in the middle of its handshake, on every path."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.endpoints import clientFromString
from twisted.internet.interfaces import IListeningPort
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.threads import deferToThread

from sockproto import Accept, Limits, Peer, Reject, ServerFactory, TlsFacts, connect
from sockproto.events import Ending, HandshakeEnded
from sockproto.sessions.echo import Echo
from sockproto.transport.endpoints import listen
from sockproto.transport.tls import ClientTls, ServerTls

from .kit import Identity, Where, dial, read_to_end, until, within_patience

PATHS = [f"{path}:{family}" for path in ("portable", "ours") for family in ("tcp", "unix")]
MEGABYTE = bytes(range(256)) * 4096


class StartTls:
    """Upgrade at a word, as SMTP does (RFC 3207), and take the next one as a secret."""

    async def serve(self, peer: Peer) -> Accept | Reject:
        if await peer.receive_line(64) != b"STARTTLS":
            return Reject(b"500 say STARTTLS\n", reason="no TLS")
        peer.send(b"220 go ahead\n")
        await peer.start_tls()
        if await peer.receive_line(64) == b"sesame":
            return Accept(b"OK\n", identity="ann")
        return Reject(b"NO\n", reason="wrong word")

    async def connect(self, peer: Peer) -> Accept | Reject:
        peer.send(b"STARTTLS\n")
        if not await peer.expect(b"220 go ahead\n"):
            return Reject(reason="no TLS")
        established = await peer.start_tls()
        peer.send(b"sesame\n")
        if not await peer.expect(b"OK\n"):
            return Reject(reason="wrong word")
        return Accept(result=established)


class Server:
    """A server on a path, and what has come of its connections."""

    def __init__(self, where: str, folder: Path, identity: Identity, **terms: Any) -> None:
        path, family = where.split(":")
        self.events: list[Any] = []
        tls = ServerTls(identity.certificate, identity.key)
        session = Factory.forProtocol(Echo)
        session.noisy = False
        self.factory = ServerFactory(
            StartTls(), session, tls=tls, observers=[self.events.append], **terms
        )
        door = f"unix:{folder}/door" if family == "unix" else "tcp:0:interface=127.0.0.1"
        self.port: IListeningPort
        if path == "ours":
            self.port = listen(reactor, door, self.factory)
        elif family == "unix":
            self.port = reactor.listenUNIX(f"{folder}/door", self.factory)  # type: ignore[attr-defined]
        else:
            self.port = reactor.listenTCP(0, self.factory, interface="127.0.0.1")  # type: ignore[attr-defined]
        self.place: Where = f"{folder}/door"
        self.endpoint = f"unix:{folder}/door"
        if family == "tcp":
            host: Any = self.port.getHost()
            self.place = (host.host, host.port)
            self.endpoint = f"tcp:{host.host}:{host.port}"

    @property
    def verdicts(self) -> list[tuple[str, str]]:
        return [
            (each.reason, each.phase) for each in self.events if isinstance(each, HandshakeEnded)
        ]

    @property
    def endings(self) -> list[Ending]:
        return [each.ending for each in self.events if hasattr(each, "ending")]

    async def stop(self) -> None:
        await self.port.stopListening()
        await within_patience(self.factory.shut_down())


@pytest.fixture(params=PATHS)
def where(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@contextmanager
def upgraded(place: Where, trusted: ssl.SSLContext) -> Iterator[ssl.SSLSocket]:
    """A client made of nothing but Python's ``ssl``, behind the upgrade."""
    with dial(place) as plain:
        plain.sendall(b"STARTTLS\n")
        assert plain.recv(64) == b"220 go ahead\n"
        with trusted.wrap_socket(plain, server_hostname="127.0.0.1") as client:
            yield client


def tell(place: Where, trusted: ssl.SSLContext, word: bytes) -> bytes:
    with upgraded(place, trusted) as client:
        client.sendall(word)
        return read_to_end(client)


def echoed(place: Where, trusted: ssl.SSLContext, data: bytes) -> bytes:
    """What comes back of bytes that are sent together with the last word of the handshake."""
    with upgraded(place, trusted) as client:
        client.sendall(b"sesame\n" + data[:100])
        received = b""
        for at in range(100, len(data), 20_000):
            client.sendall(data[at : at + 20_000])
            while len(received) < at:
                received += client.recv(65536)
        while len(received) < len(b"OK\n" + data):
            received += client.recv(65536)
        return received


@pytest_twisted.ensureDeferred
async def test_a_client_is_upgraded_and_its_session_gets_every_byte(
    where, tmp_path, loopback_identity
):
    server = Server(where, tmp_path, loopback_identity)

    received = await deferToThread(
        echoed, server.place, loopback_identity.context, MEGABYTE[:400_000]
    )
    await until(lambda: server.endings)
    await server.stop()

    assert received == b"OK\n" + MEGABYTE[:400_000]
    assert server.verdicts == [("accepted", "handshake")]
    assert server.endings[0].phase == "session"


@pytest_twisted.ensureDeferred
async def test_a_client_that_is_rejected_behind_the_upgrade_hears_why(
    where, tmp_path, loopback_identity
):
    server = Server(where, tmp_path, loopback_identity)

    received = await deferToThread(tell, server.place, loopback_identity.context, b"open up\n")
    await server.stop()

    assert received == b"NO\n"
    assert server.verdicts == [("rejected", "handshake")]


@pytest_twisted.ensureDeferred
async def test_our_client_upgrades_and_knows_what_was_established(
    where, tmp_path, loopback_identity
):
    server = Server(where, tmp_path, loopback_identity)
    heard: list[bytes] = []

    class Hears(Protocol):
        def handshake_accepted(self, accept: Accept) -> None:
            self.established: TlsFacts = accept.result

        def dataReceived(self, data: bytes) -> None:
            heard.append(data)

    session = Factory.forProtocol(Hears)
    session.noisy = False
    found = await within_patience(
        connect(
            clientFromString(reactor, server.endpoint),
            StartTls(),
            session,
            tls=ClientTls("127.0.0.1", ca=loopback_identity.certificate),
        )
    )
    found.transport.write(b"hello")
    await until(lambda: heard == [b"hello"])
    found.transport.loseConnection()
    await server.stop()

    assert found.established.names == ("localhost",)
    assert server.verdicts == [("accepted", "handshake")]


def inject(place: Where, *pieces: bytes) -> bytes:
    """Say things in the clear, each behind an answer to the one before."""
    received = b""
    with dial(place) as client:
        for piece in pieces:
            client.sendall(piece)
            if piece is not pieces[-1]:
                received += client.recv(64)
        try:
            while part := client.recv(4096):
                received += part
        except ConnectionResetError:
            # What was not read when it was closed.
            pass
        return received


@pytest.mark.parametrize(
    ("pieces", "phase"),
    [((b"STARTTLS\nsesame\n",), "handshake"), ((b"STARTTLS\n", b"sesame\n" + bytes(99)), "tls")],
)
@pytest_twisted.ensureDeferred
async def test_what_was_said_in_the_clear_is_never_taken_for_what_came_through_tls(
    where, tmp_path, loopback_identity, pieces, phase
):
    # CVE-2011-0411: commands that were injected before the upgrade were run behind it.
    server = Server(where, tmp_path, loopback_identity)

    received = await deferToThread(inject, server.place, *pieces)
    await until(lambda: server.endings)
    await server.stop()

    # At most the question, and an alert.
    assert b"OK" not in received
    assert server.verdicts == [("violation", phase)]


@pytest_twisted.ensureDeferred
async def test_a_peer_that_is_told_to_speak_tls_and_is_silent_ends_with_the_handshake_clock(
    where, tmp_path, loopback_identity
):
    limits = Limits(idle_timeout=0.6, handshake_timeout=0.8, close_timeout=0.3)
    server = Server(where, tmp_path, loopback_identity, limits=limits)

    received = await deferToThread(inject, server.place, b"STARTTLS\n", b"")
    await until(lambda: server.endings)
    await server.stop()

    assert received == b"220 go ahead\n"
    assert server.verdicts == [("timeout", "tls")]


@pytest_twisted.ensureDeferred
async def test_a_peer_that_leaves_instead_of_speaking_tls_is_lost(
    where, tmp_path, loopback_identity
):
    server = Server(where, tmp_path, loopback_identity)

    with dial(server.place) as client:
        client.sendall(b"STARTTLS\n")
        assert await deferToThread(client.recv, 64) == b"220 go ahead\n"
    await until(lambda: server.endings)
    await server.stop()

    assert server.verdicts == [("lost", "tls")]
