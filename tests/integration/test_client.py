"""The client's side against real servers."""

from __future__ import annotations

import socket
import time
from contextlib import suppress
from typing import Any

import pytest
import pytest_twisted
from twisted.application.internet import ClientService, backoffPolicy
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import (
    TCP4ClientEndpoint,
    UNIXClientEndpoint,
    clientFromString,
    wrapClientTLS,
)
from twisted.internet.error import ConnectingCancelledError, ConnectionRefusedError
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.ssl import Certificate, optionsForClientTLS
from twisted.internet.threads import deferToThread

from sockproto import Accept, ClientFactory, HandshakeEndpoint, Limits, Peer, Reject, connect
from sockproto.core.errors import HandshakeTimeout, PeerDisconnected, Rejected
from sockproto.handshakes.passphrase import Passphrase
from sockproto.handshakes.welcome import Welcome
from sockproto.sessions.echo import Echo

from .kit import PATIENCE, free_port, read_to_end, turns, until, within_patience

pytestmark = pytest.mark.filterwarnings("ignore:Passing pyOpenSSL")

SESAME = Passphrase(b"sesame")
MELLON = Passphrase(b"mellon")


class Chat(Protocol):
    """Keeps what it hears."""

    def __init__(self) -> None:
        self.heard = b""
        self.lost: Deferred[Any] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        self.heard += data

    def connectionLost(self, reason: Any = None) -> None:
        self.lost.callback(reason.value)

    async def say(self, data: bytes) -> bytes:
        """Say something to an echo, and hear it."""
        expected = len(self.heard) + len(data)
        self.transport.write(data)
        await until(lambda: len(self.heard) == expected)
        return self.heard[-len(data) :]

    async def leave(self) -> None:
        self.transport.loseConnection()
        await self.lost


def tls(endpoint: Any, identity: Any) -> Any:
    """The same endpoint, with TLS."""
    root = Certificate.loadPEM(identity.certificate.read_bytes())
    return wrapClientTLS(optionsForClientTLS("localhost", trustRoot=root), endpoint)


@pytest.fixture(params=["tcp", pytest.param("tcp6", marks=pytest.mark.ipv6), "unix", "tls"])
def reach(request, tmp_path, loopback_identity):
    """Where to listen, and how to connect there."""
    listen = {
        "tcp": "tcp:0:interface=127.0.0.1",
        "tcp6": "tcp6:0:interface=\\:\\:1",
        "unix": f"unix:{tmp_path}/door:mode=600",
        "tls": loopback_identity.endpoint,
    }[request.param]

    def endpoint(server: Any) -> Any:
        if request.param == "unix":
            return UNIXClientEndpoint(reactor, f"{tmp_path}/door")
        if request.param == "tls":
            return tls(server.endpoint, loopback_identity)
        return server.endpoint

    return listen, endpoint


@pytest_twisted.ensureDeferred
async def test_a_session_comes_out_only_after_accept(sockproto_server, reach):
    listen, endpoint = reach
    server = await sockproto_server(SESAME, Factory.forProtocol(Echo), listen=listen)

    shaking = HandshakeEndpoint(endpoint(server), SESAME)
    chat = await shaking.connect(Factory.forProtocol(Chat))

    assert await chat.say(b"hello") == b"hello"
    await chat.leave()


@pytest_twisted.ensureDeferred
async def test_a_wrong_word_is_rejected_in_words(sockproto_server, reach):
    listen, endpoint = reach
    server = await sockproto_server(SESAME, Factory.forProtocol(Echo), listen=listen)

    with pytest.raises(Rejected) as caught:
        await HandshakeEndpoint(endpoint(server), MELLON).connect(Factory.forProtocol(Chat))

    assert str(caught.value) == "peer rejected the handshake: wrong word"
    await until(lambda: server.endings)


@pytest_twisted.ensureDeferred
async def test_connect_without_a_session_gives_the_accept(sockproto_server, reach):
    listen, endpoint = reach
    server = await sockproto_server(Welcome(), listen=listen)

    accept = await connect(endpoint(server), Welcome())

    assert accept == Accept(result=b"welcome to server!")
    await until(lambda: server.endings)


@pytest_twisted.ensureDeferred
async def test_several_sessions_are_chosen_from_by_the_client(sockproto_server):
    class Second:
        async def connect(self, peer: Peer) -> Accept | Reject:
            return Accept(session="second")

    server = await sockproto_server(SESAME)
    made = []

    class First(Chat):
        pass

    sessions = {"first": Factory.forProtocol(First), "second": Factory.forProtocol(Chat)}
    made.append(await connect(server.endpoint, Second(), sessions))

    assert type(made[0]) is Chat
    await made[0].leave()


@pytest_twisted.ensureDeferred
async def test_nobody_there_is_the_endpoints_own_error():
    endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", free_port())

    with pytest.raises(ConnectionRefusedError):
        await connect(endpoint, SESAME)


@pytest_twisted.ensureDeferred
async def test_a_server_that_leaves_in_the_middle_is_said_to_have(sockproto_server):
    class Leaving:
        async def serve(self, peer: Peer) -> Accept | Reject:
            return Reject(b"O")

    server = await sockproto_server(Leaving())

    with pytest.raises(PeerDisconnected):
        await connect(server.endpoint, SESAME)


@pytest_twisted.ensureDeferred
async def test_a_server_that_says_nothing_is_not_waited_for(sockproto_server):
    class Silent:
        async def serve(self, peer: Peer) -> Accept | Reject:
            await peer.receive_exactly(4000)
            return Accept()

    server = await sockproto_server(Silent())

    with pytest.raises(HandshakeTimeout, match="nothing heard for"):
        await connect(server.endpoint, SESAME, limits=Limits(idle_timeout=0.2))


@pytest_twisted.ensureDeferred
async def test_a_server_that_never_speaks_tls_is_not_waited_for(loopback_identity):
    # The kernel accepts, and that is all that happens.
    with socket.create_server(("127.0.0.1", 0)) as listening:
        plain = TCP4ClientEndpoint(reactor, *listening.getsockname())
        limits = Limits(handshake_timeout=0.3)

        with pytest.raises(HandshakeTimeout, match="in the TLS handshake"):
            await connect(tls(plain, loopback_identity), SESAME, limits=limits)


@pytest.mark.parametrize("with_tls", [False, True])
@pytest_twisted.ensureDeferred
async def test_an_attempt_can_be_given_up_at_any_time(loopback_identity, with_tls):
    with socket.create_server(("127.0.0.1", 0)) as listening:
        endpoint = TCP4ClientEndpoint(reactor, *listening.getsockname())
        if with_tls:
            endpoint = tls(endpoint, loopback_identity)
        for wait in (None, 0.0, 0.05):
            attempt = connect(endpoint, SESAME)
            if wait is not None:
                await turns(wait)

            attempt.cancel()

            with pytest.raises((CancelledError, ConnectingCancelledError)):
                await attempt
        # Those that had got through have hung up, too.
        listening.setblocking(False)
        reached = 0
        with suppress(BlockingIOError):
            while True:
                accepted, _ = listening.accept()
                reached += 1
                with accepted:
                    accepted.settimeout(PATIENCE)
                    with suppress(ConnectionResetError):
                        await deferToThread(read_to_end, accepted)
        assert reached


@pytest.mark.slow
@pytest_twisted.ensureDeferred
async def test_a_client_service_backs_off_from_a_server_that_rejects_it(sockproto_server):
    times: list[float] = []
    server = await sockproto_server(SESAME, observers=[lambda _: times.append(time.monotonic())])
    policy = backoffPolicy(initialDelay=0.05, maxDelay=60, factor=2, jitter=lambda: 0)
    failures: list[Any] = []
    service = ClientService(
        HandshakeEndpoint(server.endpoint, MELLON), Factory.forProtocol(Chat), policy
    )
    service.whenConnected(failAfterFailures=4).addErrback(failures.append)

    service.startService()
    await until(lambda: failures)
    attempts = len(server.verdicts)
    # 0.05, 0.1 and 0.2 s between the first four; 0.4 s until the next, 0.8 s until the one after.
    await turns(0.6)
    later = len(server.verdicts)
    await service.stopService()

    assert failures[0].check(Rejected)
    assert attempts == 4
    assert later <= 6
    first, second, third, fourth, *_ = opened(server, times)
    # Not to the last microsecond: what the reactor goes by is not the clock that this is read from.
    assert second - first >= 0.049
    assert third - second >= 0.099
    assert fourth - third >= 0.199


def opened(server: Any, times: list[float]) -> list[float]:
    """When each connection was opened, among the times of all events."""
    kinds = [type(event).__name__ for event in server.events]
    return [at for kind, at in zip(kinds, times, strict=True) if kind == "ConnectionOpened"]


@pytest_twisted.ensureDeferred
async def test_a_client_service_gives_the_session_and_comes_back_when_it_is_lost(sockproto_server):
    server = await sockproto_server(SESAME, Factory.forProtocol(Echo))
    service = ClientService(
        HandshakeEndpoint(server.endpoint, SESAME),
        Factory.forProtocol(Chat),
        lambda failures: 0.01,
    )
    service.startService()

    first = await service.whenConnected()
    assert await first.say(b"hello") == b"hello"
    first.transport.abortConnection()
    await first.lost
    # The session hears of it before the service does.
    await turns()
    second = await service.whenConnected()
    assert second is not first
    assert await second.say(b"again") == b"again"

    await service.stopService()


class Told(ClientFactory):
    """A factory for ``reactor.connectTCP`` that keeps what it is told."""

    def __init__(self, *arguments: Any, **terms: Any) -> None:
        super().__init__(*arguments, **terms)
        self.told: list[Any] = []

    def handshake_failed(self, error: BaseException) -> None:
        self.told.append(error)

    def clientConnectionFailed(self, connector: Any, reason: Any) -> None:
        self.told.append(reason.value)

    def clientConnectionLost(self, connector: Any, reason: Any) -> None:
        self.told.append("lost")


@pytest_twisted.ensureDeferred
async def test_reactor_connect_tcp_works_with_a_client_factory(sockproto_server):
    server = await sockproto_server(SESAME, Factory.forProtocol(Echo))
    chats: list[Chat] = []

    class Chats(Factory):
        def buildProtocol(self, addr: Any) -> Chat:
            chats.append(Chat())
            return chats[-1]

    factory = Told(SESAME, Chats())
    reactor.connectTCP("127.0.0.1", server.port, factory)
    await until(lambda: chats and chats[0].transport)

    assert await chats[0].say(b"hello") == b"hello"
    await chats[0].leave()
    await until(lambda: factory.told)
    assert factory.told == ["lost"]


@pytest_twisted.ensureDeferred
async def test_a_client_factory_is_told_why_there_is_no_session(sockproto_server):
    server = await sockproto_server(SESAME, Factory.forProtocol(Echo))
    rejected = Told(MELLON, Factory.forProtocol(Chat))
    refused = Told(MELLON, Factory.forProtocol(Chat))

    reactor.connectTCP("127.0.0.1", server.port, rejected)
    reactor.connectTCP("127.0.0.1", free_port(), refused)
    await until(lambda: len(rejected.told) == 2 and refused.told)

    assert [str(each) for each in rejected.told] == [
        "peer rejected the handshake: wrong word",
        "lost",
    ]
    assert isinstance(refused.told[0], ConnectionRefusedError)


@pytest_twisted.ensureDeferred
async def test_a_session_hears_that_its_server_was_killed(sockproto_server, start):
    server = start.sockserver("--handshake", "passphrase:sesame", "--session", "echo")
    host, port = server.place
    endpoint = clientFromString(reactor, f"tcp:{host}:{port}")
    chat = await connect(endpoint, SESAME, Factory.forProtocol(Chat))
    assert await chat.say(b"hello") == b"hello"

    server.discard()

    await within_patience(chat.lost)
