"""A real server for a test: on loopback, since that is what it is for."""

from __future__ import annotations

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectError
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import MemoryReactorClock

from sockproto import Accept, ConnectionEnded, ConnectionOpened, HandshakeEnded, Limits, connect
from sockproto.handshakes.passphrase import Passphrase
from sockproto.handshakes.welcome import Welcome
from sockproto.sessions.echo import Echo
from sockproto.testing import serve

WORD = Passphrase(b"sesame")
ECHO = Factory.forProtocol(Echo)


class Waiting:
    """A handshake that says when it has begun, and then waits for a word."""

    def __init__(self):
        self.begun = Deferred()

    async def serve(self, peer):
        self.begun.callback(None)
        await peer.receive_line(64)


@pytest_twisted.ensureDeferred
async def test_what_the_server_says_is_given_to_its_end(sockproto_server):
    server = await sockproto_server(Welcome())

    assert server.port > 0
    assert await server.say(b"1") == b"welcome to server!"
    assert await server.say(b"2") == b"please go out!"


@pytest_twisted.ensureDeferred
async def test_a_client_may_half_close_after_what_it_says(sockproto_server):
    server = await sockproto_server(WORD, ECHO)

    assert await server.say(b"sesame\nhello", finish=True) == b"OK\nhello"


@pytest_twisted.ensureDeferred
async def test_several_clients_may_talk_at_once(sockproto_server):
    server = await sockproto_server(Welcome())

    answers = [server.say(b"1") for _ in range(3)]

    assert [await each for each in answers] == [b"welcome to server!"] * 3


@pytest_twisted.ensureDeferred
async def test_every_event_is_kept_and_told_to_others_too(sockproto_server):
    seen = []
    server = await sockproto_server(Welcome(), observers=[seen.append])

    await server.say(b"1")
    await server.say(b"2")
    # It may be a moment behind its clients.
    await server.stop()

    assert [type(event) for event in server.events[:3]] == [
        ConnectionOpened,
        HandshakeEnded,
        ConnectionEnded,
    ]
    assert seen == server.events
    assert [verdict.reason for verdict in server.verdicts] == ["accepted", "rejected"]
    assert [each.ending.reason for each in server.endings] == ["accepted", "rejected"]


@pytest_twisted.ensureDeferred
async def test_the_terms_are_those_of_every_entrance(sockproto_server):
    server = await sockproto_server(Welcome(), limits=Limits(idle_timeout=0.01))

    assert await server.say(b"") == b""
    assert [verdict.reason for verdict in server.verdicts] == ["timeout"]


LISTEN = [
    *("tcp:0:interface=127.0.0.1", "tcp:0", "unix:{}/door"),
    pytest.param("tcp6:0:interface=\\:\\:1", marks=pytest.mark.ipv6),
]


@pytest.mark.parametrize("listen", LISTEN)
@pytest_twisted.ensureDeferred
async def test_its_endpoint_leads_to_it_wherever_it_listens(sockproto_server, listen, tmp_path):
    server = await sockproto_server(WORD, listen=listen.format(tmp_path))

    assert await connect(server.endpoint, WORD) == Accept()
    assert (server.port == 0) == listen.startswith("unix:")


@pytest_twisted.ensureDeferred
async def test_a_stop_closes_the_port_and_ends_every_connection():
    handshake = Waiting()
    server = await serve(handshake)
    answer = server.say(b"")
    await handshake.begun

    await server.stop()

    assert await answer == b""
    assert [each.ending.reason for each in server.endings] == ["shutdown"]
    with pytest.raises(ConnectError):
        await server.say(b"")


@pytest_twisted.ensureDeferred
async def test_to_stop_it_twice_does_no_harm():
    server = await serve(Welcome())

    await server.stop()
    await server.stop()


def test_it_takes_a_reactor_that_is_given():
    reactor = MemoryReactorClock()

    started = []
    serve(Welcome(), listen="tcp:8471", reactor=reactor, clock=reactor).addCallback(started.append)

    assert [each[0] for each in reactor.tcpServers] == [8471]
    assert reactor.tcpServers[0][1] is started[0].factory


def test_what_is_no_handshake_is_told_at_once():
    with pytest.raises(TypeError) as caught:
        serve(Protocol())

    assert str(caught.value) == (
        "a Protocol is no handshake here: it lacks async def serve(self, peer)"
    )
