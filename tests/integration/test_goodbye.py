"""A goodbye is heard, and it ends by a bound, whatever the peer does or leaves undone."""

from __future__ import annotations

import signal
import ssl
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from zope.interface import implementer

from sockproto import Accept, Limits, Peer, Reject
from sockproto.events import Ending
from sockproto.handshakes.welcome import Welcome
from sockproto.sessions.echo import Echo
from sockproto.testing import RunningServer

from .kit import dial, fill, flood, read_to_end, until, within_patience

pytestmark = pytest.mark.filterwarnings("ignore:Passing pyOpenSSL")

GOODBYE = b"please go out!"
FLOOD = 10_000_000

SHORT = Limits(idle_timeout=0.4, handshake_timeout=0.8, close_timeout=0.5)
PATIENT = Limits(close_timeout=0.5)


# A rejection arrives whole


def rejected_while_flooding(place: Any, tls: ssl.SSLContext | None, times: int) -> int:
    """How many of so many clients receive the whole rejection while they send 10 MB."""
    whole = 0
    for _ in range(times):
        with dial(place, tls) as client:
            received, unsent = flood(client, b"no", FLOOD)
            whole += received == GOODBYE and not unsent
    return whole


@pytest.mark.parametrize("kind", ["tcp", "unix", "tls"])
def test_a_rejection_arrives_whole_while_the_client_keeps_sending(start, loopback_identity, kind):
    listen = {
        "tcp": "tcp:0:interface=127.0.0.1",
        "unix": f"unix:{start.cwd}/door",
        "tls": loopback_identity.endpoint,
    }[kind]
    server = start.sockserver("--listen", listen)
    tls = loopback_identity.context if kind == "tls" else None
    times = 20 if kind == "tcp" else 5

    assert rejected_while_flooding(server.place, tls, times) == times


@pytest.mark.slow
def test_200_of_200_rejections_arrive_whole_while_the_client_keeps_sending(start):
    server = start.sockserver()

    assert rejected_while_flooding(server.place, None, 200) == 200


@pytest.mark.slow
def test_100_of_100_rejections_arrive_whole_over_tls(start, loopback_identity):
    server = start.sockserver("--listen", loopback_identity.endpoint)

    assert rejected_while_flooding(server.place, loopback_identity.context, 100) == 100


# Seven ways to be kept from closing, each of which hung for ever in plain Twisted or was closed
# by nobody. Each is met by a handshake or a session that brings it about, and by a stop.


class Chatty:
    """Says a banner, and then waits for an answer."""

    async def serve(self, peer: Peer) -> Accept | Reject:
        peer.send(b"hello\n")
        await peer.receive_line(64)
        return Reject(GOODBYE)


class Endless:
    """Sends without an end to a peer that does not read."""

    async def serve(self, peer: Peer) -> Accept | Reject:
        while True:
            peer.send(bytes(60_000))
            await deferLater(reactor, 0, lambda: None)


class Open:
    """Lets everybody in."""

    async def serve(self, peer: Peer) -> Accept | Reject:
        return Accept()


class Full(Protocol):
    """Has written more than any peer would take."""

    def connectionMade(self) -> None:
        self.transport.write(bytes(20_000_000))


@implementer(IPushProducer)
class Streaming(Protocol):
    """Is registered as a streaming producer, and is paused."""

    def connectionMade(self) -> None:
        self.paused = False
        self.transport.registerProducer(self, True)
        while not self.paused:
            self.transport.write(bytes(65536))

    def pauseProducing(self) -> None:
        self.paused = True

    def resumeProducing(self) -> None:
        pass

    def stopProducing(self) -> None:
        pass


class Quiet(Protocol):
    """Does nothing."""


async def all_ended(server: RunningServer, count: int = 1) -> list[Ending]:
    """Wait until so many connections are over."""
    await until(lambda: len(server.endings) >= count)
    assert not server.factory.terms.live
    return [each.ending for each in server.endings]


async def silent_client(server: RunningServer, tls: ssl.SSLContext | None = None) -> Any:
    """A client that has connected, and established TLS if it speaks it; it reads nothing."""
    place = ("127.0.0.1", server.port)
    return await deferToThread(dial, place, tls, buffer=4096)


@pytest_twisted.ensureDeferred
async def test_plain_and_idle_ends(sockproto_server):
    server = await sockproto_server(Chatty(), limits=SHORT)

    with await silent_client(server):
        assert await all_ended(server) == [Ending("timeout", "handshake")]


@pytest_twisted.ensureDeferred
async def test_unsent_data_and_a_peer_that_does_not_read_end(sockproto_server):
    server = await sockproto_server(Endless(), limits=Limits(handshake_timeout=60))

    with await silent_client(server):
        assert await all_ended(server) == [Ending("limit", "handshake")]


@pytest_twisted.ensureDeferred
async def test_a_rejection_that_is_never_read_ends(sockproto_server):
    server = await sockproto_server(Welcome(goodbye=bytes(65_000)), limits=PATIENT)

    with await silent_client(server) as client:
        client.sendall(b"no")
        assert await all_ended(server) == [Ending("rejected", "closing")]


@pytest.mark.parametrize("session", [Quiet, Full, Streaming, Echo])
@pytest.mark.parametrize("tls", [False, True])
@pytest_twisted.ensureDeferred
async def test_a_session_whose_peer_does_nothing_ends_when_we_stop(
    sockproto_server, loopback_identity, session, tls
):
    listen = loopback_identity.endpoint if tls else "tcp:0:interface=127.0.0.1"
    server = await sockproto_server(
        Open(), Factory.forProtocol(session), limits=PATIENT, listen=listen
    )
    client = await silent_client(server, loopback_identity.context if tls else None)
    with client:
        if session is Echo:
            # More than comes back, so that the echo is paused.
            await fill(client)
        await until(lambda: server.verdicts)
        await within_patience(server.stop())
        assert await all_ended(server) == [Ending("shutdown", "session")]


@pytest.mark.parametrize("handshake", [Welcome(), Chatty()])
@pytest_twisted.ensureDeferred
async def test_tls_whose_peer_never_says_a_word_ends(
    sockproto_server, loopback_identity, handshake
):
    server = await sockproto_server(handshake, limits=SHORT, listen=loopback_identity.endpoint)

    with await silent_client(server):
        assert await all_ended(server) == [Ending("timeout", "tls")]


@pytest_twisted.ensureDeferred
async def test_tls_that_is_silent_after_a_banner_ends(sockproto_server, loopback_identity):
    # However long TLS may take.
    limits = Limits(idle_timeout=0.4, handshake_timeout=60)
    server = await sockproto_server(Chatty(), limits=limits, listen=loopback_identity.endpoint)

    with await silent_client(server, loopback_identity.context):
        assert await all_ended(server) == [Ending("timeout", "handshake")]


@pytest_twisted.ensureDeferred
async def test_tls_whose_peer_ignores_close_notify_ends(sockproto_server, loopback_identity):
    server = await sockproto_server(Welcome(), limits=PATIENT, listen=loopback_identity.endpoint)

    with await silent_client(server, loopback_identity.context) as client:
        client.sendall(b"no")
        assert await all_ended(server) == [Ending("rejected", "closing")]


@pytest_twisted.ensureDeferred
async def test_handshakes_end_at_once_when_we_stop(sockproto_server, loopback_identity):
    plain = await sockproto_server(Chatty(), limits=Limits(close_timeout=1000))
    secret = await sockproto_server(
        Chatty(), limits=Limits(close_timeout=1000), listen=loopback_identity.endpoint
    )

    with (
        await silent_client(plain),
        await silent_client(secret),
        await silent_client(secret, loopback_identity.context),
    ):
        await until(lambda: len(plain.factory.terms.live) == 1)
        await until(lambda: len(secret.factory.terms.live) == 2)
        await within_patience(plain.stop())
        await within_patience(secret.stop())
        assert await all_ended(plain) == [Ending("shutdown", "handshake")]
        assert sorted(await all_ended(secret, 2), key=lambda each: each.phase) == [
            Ending("shutdown", "handshake"),
            Ending("shutdown", "tls"),
        ]


@pytest_twisted.ensureDeferred
async def test_a_goodbye_keeps_its_bound_when_we_stop(sockproto_server):
    server = await sockproto_server(Welcome(), limits=PATIENT)

    with await silent_client(server) as client:
        client.sendall(b"no")
        await until(lambda: server.verdicts)
        await within_patience(server.stop())
        assert await all_ended(server) == [Ending("rejected", "closing")]
        assert await deferToThread(read_to_end, client) == GOODBYE


STUBBORN = '''
from twisted.internet.protocol import Factory, Protocol

from sockproto import Accept, Reject


class Choosing:
    """The peer says which session it wants; one that says nothing else is waited for."""

    async def serve(self, peer):
        peer.send(b"which?\\n")
        name = (await peer.receive_line(64)).decode()
        if name not in peer.sessions:
            return Reject(b"please go out!", reason=name)
        return Accept(b"begin\\n", session=name)


class Full(Protocol):
    def connectionMade(self):
        self.transport.write(bytes(20_000_000))


class Streaming(Protocol):
    def connectionMade(self):
        self.paused = False
        self.transport.registerProducer(self, True)
        while not self.paused:
            self.transport.write(bytes(65536))

    def pauseProducing(self):
        self.paused = True

    def resumeProducing(self):
        pass

    def stopProducing(self):
        pass


full = Factory.forProtocol(Full)
streaming = Factory.forProtocol(Streaming)
'''


def test_a_stop_ends_all_seven_situations_within_the_close_timeout(start, loopback_identity):
    (start.cwd / "stubborn.py").write_text(STUBBORN)
    server = start.sockserver(
        *("--listen", "tcp:0:interface=127.0.0.1", "--listen", loopback_identity.endpoint),
        *("--handshake", "stubborn:Choosing", "--close-timeout", "1s"),
        *("--idle-timeout", "off", "--handshake-timeout", "off"),
        *("--session", "echo=echo", "--session", "full=stubborn:full"),
        *("--session", "streaming=stubborn:streaming"),
    )
    plain, secret = server.places
    tls = loopback_identity.context
    wishes = [(plain, None, None), (secret, None, None), (secret, tls, None)] + [
        (place, context, wish)
        for place, context in ((plain, None), (secret, tls))
        for wish in (b"echo\n", b"full\n", b"streaming\n", b"nothing\n")
    ]
    clients = []
    try:
        for place, context, wish in wishes:
            client = dial(place, context, buffer=4096)
            clients.append(client)
            if wish is not None:
                client.sendall(wish)
        server.wait_for("accepted .* into (echo|full|streaming)", 6)
        server.wait_for("rejected .*: nothing", 2)

        server.send(signal.SIGTERM)

        # Left to themselves, four of these would take for ever.
        assert server.wait() == -signal.SIGTERM
        server.wait_for("Server Shut Down")
        server.wait_for("shutdown .*: we are shutting down", 3)
        assert not server.matching("Traceback|Unhandled")
    finally:
        for each in clients:
            each.close()
