"""
What bounds a session, on the network itself: real sockets, and time that passes when we say so.

Every door is tried twice, as Twisted opens it and as our own listener does.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.endpoints import serverFromString
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.internet.threads import deferToThread

from sockproto import Accept, HandshakeEndpoint, Limits, Peer, ServerFactory
from sockproto.events import ConnectionEnded, Ending, Event
from sockproto.sessions.echo import Echo
from sockproto.transport.endpoints import listen

from .kit import Identity, dial, fill, turns, until, within_patience

pytestmark = pytest.mark.filterwarnings("ignore:Passing pyOpenSSL")

IDLE = 60.0
LIFETIME = 600.0


class Open:
    """Lets everybody in."""

    async def serve(self, peer: Peer) -> Accept:
        return Accept(b"OK\n")

    async def connect(self, peer: Peer) -> Accept:
        await peer.receive_exactly(3)
        return Accept()


class Quiet(Protocol):
    """Counts what it is given."""

    received = 0

    def dataReceived(self, data: bytes) -> None:
        self.received += len(data)


class Full(Quiet):
    """Has written more than any kernel would take."""

    def connectionMade(self) -> None:
        transport: Any = self.transport
        transport.write(bytes(20_000_000))


class Paused(Quiet):
    """Does not read."""

    def connectionMade(self) -> None:
        transport: Any = self.transport
        transport.pauseProducing()


class Sessions(Factory):
    """Builds sessions, and knows the last one."""

    noisy = False
    last: Any = None

    def __init__(self, kind: type[Protocol]) -> None:
        self.protocol = kind

    def buildProtocol(self, addr: Any) -> Any:
        self.last = super().buildProtocol(addr)
        return self.last


class Door:
    """
    A server behind a door, and its clock.

    Args:
        session: What is behind the handshake.
        limits: Its bounds.
    """

    def __init__(self, session: type[Protocol], limits: Limits) -> None:
        self.clock = Clock()
        self.events: list[Event] = []
        self.sessions = Sessions(session)
        self.factory = ServerFactory(
            Open(),
            self.sessions,
            limits=limits,
            observers=[self.events.append],
            clock=self.clock,
        )
        self.port: Any = None
        self.tls: ssl.SSLContext | None = None

    @property
    def session(self) -> Any:
        return self.sessions.last

    @property
    def endings(self) -> list[Ending]:
        return [each.ending for each in self.events if isinstance(each, ConnectionEnded)]

    async def dial(self) -> socket.socket:
        """A client that has been let in, and keeps little of what it does not read."""
        host = self.port.getHost()
        place = (host.host, host.port) if hasattr(host, "host") else host.name.decode()
        dialling = deferToThread(dial, place, self.tls, buffer=16384)
        await self.until(lambda: dialling.called)
        client: socket.socket = await dialling
        client.setblocking(False)
        assert await self.read(client, len(b"OK\n")) == len(b"OK\n")
        return client

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait until something is so, while no time passes."""
        await until(lambda: self.clock.advance(0) or condition())  # type: ignore[func-returns-value]

    async def wait(self, seconds: int) -> None:
        """Let time pass."""
        for _ in range(seconds):
            self.clock.advance(1)
            await turns()

    async def wait_for_the_end(self) -> None:
        """Let as much time pass as it takes."""
        while not self.endings:
            assert self.clock.seconds() < 10 * LIFETIME
            await self.wait(1)

    async def read(self, client: socket.socket, amount: int) -> int:
        """Read so much, or to the end, while no time passes; gives how much it was."""
        received = 0
        ended = False

        def done() -> bool:
            nonlocal received, ended
            try:
                while received < amount and not ended:
                    part = client.recv(amount - received)
                    received += len(part)
                    ended = not part
            except (BlockingIOError, ssl.SSLWantReadError):
                return False
            return True

        await self.until(done)
        return received

    async def close(self) -> None:
        await self.port.stopListening()
        gone = self.factory.shut_down()
        await until(lambda: self.clock.advance(1) or gone.called)  # type: ignore[func-returns-value]


class Doors:
    """Opens doors of one kind, by one of the two paths."""

    def __init__(self, kind: str, path: str, identity: Identity, folder: Path) -> None:
        self._portable = path == "portable"
        self._tls = identity.context if kind == "tls" else None
        files = f"key={identity.key}:cert={identity.certificate}"
        self._description = {
            "tcp": "tcp:0:interface=127.0.0.1",
            "tcp6": r"tcp:0:interface=\:\:1",
            "unix": f"unix:{folder}/door",
            "tls": identity.endpoint if self._portable else f"tls:0:interface=127.0.0.1:{files}",
        }[kind]

    @asynccontextmanager
    async def open(self, session: type[Protocol], **bounds: float) -> AsyncIterator[Door]:
        door = Door(session, Limits(**bounds))
        door.tls = self._tls
        if self._portable:
            door.port = await serverFromString(reactor, self._description).listen(door.factory)
        else:
            door.port = listen(reactor, self._description, door.factory)
        try:
            yield door
        finally:
            await door.close()


@pytest.fixture(params=["tcp", pytest.param("tcp6", marks=pytest.mark.ipv6), "unix", "tls"])
def kind(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture(params=["portable", "adopted"])
def doors(
    request: pytest.FixtureRequest, kind: str, loopback_identity: Identity, tmp_path: Path
) -> Doors:
    return Doors(kind, request.param, loopback_identity, tmp_path)


@pytest_twisted.ensureDeferred
async def test_a_session_with_whom_nothing_moves_is_closed(doors):
    async with doors.open(Quiet, session_idle_timeout=IDLE) as door:
        with await door.dial() as client:
            await door.wait(59)
            assert door.endings == []

            await door.wait_for_the_end()

            assert door.endings == [Ending("timeout", "session")]
            assert await door.read(client, 1) == 0


@pytest_twisted.ensureDeferred
async def test_a_peer_that_never_reads_does_not_keep_a_session(doors):
    async with doors.open(Full, session_idle_timeout=IDLE) as door:
        with await door.dial():
            await door.wait_for_the_end()

            assert door.endings == [Ending("timeout", "session")]


@pytest_twisted.ensureDeferred
async def test_a_slow_drip_keeps_a_session(doors):
    async with doors.open(Quiet, session_idle_timeout=IDLE) as door:
        with await door.dial() as client:
            for count in range(1, 11):
                await door.wait(55)
                client.send(b"x")
                await door.until(lambda wanted=count: door.session.received == wanted)

            assert door.endings == []
            await door.wait_for_the_end()
            assert door.endings == [Ending("timeout", "session")]


@pytest_twisted.ensureDeferred
async def test_a_slow_reader_keeps_a_session(doors):
    async with doors.open(Full, session_idle_timeout=IDLE) as door:
        with await door.dial() as client:
            for _ in range(10):
                await door.wait(55)
                assert await door.read(client, 200_000) == 200_000

            assert door.endings == []
            await door.wait_for_the_end()
            assert door.endings == [Ending("timeout", "session")]


@pytest_twisted.ensureDeferred
async def test_what_arrives_keeps_a_session_that_has_paused_until_nothing_more_fits(doors):
    async with doors.open(Paused, session_idle_timeout=IDLE) as door:
        with await door.dial() as client:
            for _ in range(10):
                await door.wait(55)
                client.send(b"x")

            assert door.endings == []
            assert door.session.received == 0
            await fill(client)
            await door.wait_for_the_end()
            assert door.endings == [Ending("timeout", "session")]


@pytest_twisted.ensureDeferred
async def test_a_lifetime_ends_also_a_session_that_is_busy(doors):
    async with doors.open(Echo, session_lifetime=LIFETIME) as door:
        with await door.dial() as client:
            for _ in range(59):
                await door.wait(10)
                client.send(b"still here")
                assert await door.read(client, 10) == 10
            assert door.endings == []

            await door.wait_for_the_end()

            assert door.endings == [Ending("timeout", "session")]
            assert await door.read(client, 1) == 0


@pytest_twisted.ensureDeferred
async def test_a_session_that_the_peer_ends_meanwhile_has_not_timed_out(doors):
    bounds = {"session_idle_timeout": IDLE, "session_lifetime": LIFETIME}
    async with doors.open(Quiet, **bounds) as door:
        client = await door.dial()
        await door.wait(30)

        client.close()
        await door.until(lambda: door.endings)
        await door.wait(700)

        # Whether that was a farewell is another matter: over TLS there was no close_notify.
        (ending,) = door.endings
        assert ending in (Ending("accepted", "session"), Ending("lost", "session"))


@pytest_twisted.ensureDeferred
async def test_a_stop_ends_a_session_that_has_bounds(doors):
    bounds = {"session_idle_timeout": IDLE, "session_lifetime": LIFETIME}
    async with doors.open(Quiet, **bounds) as door:
        with await door.dial() as client:
            await door.wait(30)
            door.factory.shut_down()
            await door.until(lambda: door.session.transport.disconnecting)
            await door.wait_for_the_end()

            assert door.endings == [Ending("shutdown", "session")]
            assert await door.read(client, 1) == 0


@pytest_twisted.ensureDeferred
async def test_a_client_bounds_its_sessions_too(sockproto_server):
    server = await sockproto_server(Open(), Factory.forProtocol(Quiet))
    clock = Clock()
    events: list[Event] = []
    endpoint = HandshakeEndpoint(
        server.endpoint,
        Open(),
        limits=Limits(session_idle_timeout=IDLE),
        observers=[events.append],
        clock=clock,
    )
    await within_patience(endpoint.connect(Factory.forProtocol(Quiet)))

    def ended() -> list[Ending]:
        clock.advance(1)
        return [each.ending for each in events if isinstance(each, ConnectionEnded)]

    await until(ended)

    assert ended() == [Ending("timeout", "session")]
