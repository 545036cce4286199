"""An end of the stream costs nobody a byte, whoever has finished, and neither does a stop."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import clientFromString
from twisted.internet.interfaces import IHalfCloseableProtocol, IPullProducer, IPushProducer
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.threads import deferToThread
from zope.interface import implementer

from sockproto import Accept, HandshakeEndpoint, Limits, Peer, ServerFactory
from sockproto.events import Ending
from sockproto.transport.endpoints import listen

from .kit import Where, dial, read_to_end, until, within_patience

PATHS = [f"{path}:{family}" for path in ("portable", "ours") for family in ("tcp", "unix")]
BIG = bytes(range(256)) * 20_000


class Word:
    async def serve(self, peer: Peer) -> Accept:
        await peer.receive_line(64)
        return Accept()


class Greeting:
    """Say something first, and wait for an answer."""

    async def serve(self, peer: Peer) -> Accept:
        peer.send(b"word? ")
        await peer.receive_line(64)
        return Accept()


class Answers(Protocol):
    """Writes more than any buffer takes, and has no ear for the end of the stream."""

    def dataReceived(self, data: bytes) -> None:
        self.transport.write(BIG)


@implementer(IPushProducer)
class Pushes(Answers):
    """The same, as a producer that streams, and has nothing to say when it is resumed."""

    def connectionMade(self) -> None:
        self.transport.registerProducer(self, True)

    def pauseProducing(self) -> None:
        """Nothing more comes anyway."""

    resumeProducing = stopProducing = pauseProducing


@implementer(IPullProducer)
class Pulled(Protocol):
    """Writes a piece whenever it is asked for one."""

    left = BIG

    def dataReceived(self, data: bytes) -> None:
        self.transport.registerProducer(self, False)

    def resumeProducing(self) -> None:
        piece, self.left = self.left[:100_000], self.left[100_000:]
        self.transport.write(piece)
        if not self.left:
            self.transport.unregisterProducer()

    def stopProducing(self) -> None:
        self.left = b""


class Server:
    """A server on a path, and how its connections have ended."""

    def __init__(
        self, where: str, folder: Path, session: type[Protocol] | None, handshake: Any, **terms: Any
    ) -> None:
        path, family = where.split(":")
        self.events: list[Any] = []
        sessions = None
        if session is not None:
            sessions = Factory.forProtocol(session)
            sessions.noisy = False
        self.factory = ServerFactory(handshake, sessions, observers=[self.events.append], **terms)
        self.place: Where = f"{folder}/door"
        if path == "ours":
            door = f"unix:{folder}/door" if family == "unix" else "tcp:0:interface=127.0.0.1"
            self.port: Any = listen(reactor, door, self.factory)
        elif family == "unix":
            self.port = reactor.listenUNIX(f"{folder}/door", self.factory)  # type: ignore[attr-defined]
        else:
            self.port = reactor.listenTCP(0, self.factory, interface="127.0.0.1")  # type: ignore[attr-defined]
        if family == "tcp":
            host = self.port.getHost()
            self.place = (host.host, host.port)

    @property
    def endings(self) -> list[Ending]:
        return [each.ending for each in self.events if hasattr(each, "ending")]

    async def stop(self) -> None:
        await self.port.stopListening()
        await within_patience(self.factory.shut_down())


@pytest.fixture(params=PATHS)
def where(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def finish_and_read(place: Where) -> bytes:
    """Send everything and finish at once, as ``nc -N`` does; then read."""
    with dial(place, buffer=4096) as client:
        client.sendall(b"word\nrequest")
        client.shutdown(socket.SHUT_WR)
        return read_to_end(client)


@pytest.mark.parametrize("session", [Answers, Pulled])
@pytest_twisted.ensureDeferred
async def test_a_client_that_finishes_at_once_gets_all_that_the_session_has_to_say(
    where, tmp_path, session
):
    server = Server(where, tmp_path, session, Word())

    received = await deferToThread(finish_and_read, server.place)
    await until(lambda: server.endings)
    await server.stop()

    assert received == BIG
    assert server.endings == [Ending("accepted", "session")]


@pytest.mark.parametrize("session", [Answers, Pushes])
@pytest_twisted.ensureDeferred
async def test_a_client_that_finishes_and_does_not_read_is_gone_by_the_bound(
    where, tmp_path, session
):
    server = Server(where, tmp_path, session, Word(), limits=Limits(close_timeout=0.3))

    with dial(server.place, buffer=4096) as client:
        client.sendall(b"word\nrequest")
        client.shutdown(socket.SHUT_WR)
        await until(lambda: server.endings)
    await server.stop()

    assert server.endings == [Ending("accepted", "session")]


# From the other side


class Open:
    async def connect(self, peer: Peer) -> Accept:
        return Accept()


@implementer(IHalfCloseableProtocol)
class Hears(Protocol):
    def __init__(self) -> None:
        self.told: list[object] = []

    def dataReceived(self, data: bytes) -> None:
        self.told.append(data)

    def readConnectionLost(self) -> None:
        self.told.append("eof")

    def writeConnectionLost(self) -> None:
        """We write until the end."""

    def connectionLost(self, reason: Any) -> None:
        self.told.append("lost")


@pytest.mark.parametrize("family", ["tcp", "unix"])
@pytest_twisted.ensureDeferred
async def test_a_session_hears_through_an_endpoint_that_the_server_has_finished(tmp_path, family):
    if family == "tcp":
        listening = socket.create_server(("127.0.0.1", 0))
        description = f"tcp:127.0.0.1:{listening.getsockname()[1]}"
    else:
        listening = socket.socket(socket.AF_UNIX)
        listening.bind(f"{tmp_path}/door")
        listening.listen()
        description = f"unix:{tmp_path}/door"
    session = Factory.forProtocol(Hears)
    session.noisy = False
    with listening:
        shaking = HandshakeEndpoint(clientFromString(reactor, description), Open())
        found: Any = await within_patience(shaking.connect(session))
        there, _ = await deferToThread(listening.accept)
    with there:
        there.settimeout(30)
        there.sendall(b"hello")
        there.shutdown(socket.SHUT_WR)
        await until(lambda: "eof" in found.told)
        found.transport.write(b"and goodbye")
        found.transport.loseConnection()
        received = await deferToThread(read_to_end, there)
    await until(lambda: "lost" in found.told)

    assert found.told == [b"hello", "eof", "lost"]
    assert received == b"and goodbye"


# A stop


@pytest.mark.parametrize("handshake", [Word(), Greeting()])
@pytest_twisted.ensureDeferred
async def test_a_stop_resets_nobody_who_is_about_to_speak(where, tmp_path, handshake):
    server = Server(where, tmp_path, Answers, handshake)
    spoken = b"word? " if isinstance(handshake, Greeting) else b""

    with dial(server.place) as client, dial(server.place) as talkative:
        for each in (client, talkative):
            if spoken:
                assert await deferToThread(each.recv, 6) == spoken
        await until(lambda: len(server.events) == 2)
        if where.startswith("ours"):
            # In the kernel's queue, when it stops. Twisted closes without having read that, which
            # over a unix socket is a reset, whatever was sent before.
            talkative.sendall(b"wo")
        stopping = Deferred.fromCoroutine(server.stop())
        for each in (client, talkative):
            assert await deferToThread(read_to_end, each) == b""
            each.close()
    await stopping

    assert [each.reason for each in server.endings] == ["shutdown"] * 2
