"""
However the network cuts the stream, each built-in handshake tells one story.

Through the core, where every cut is a list of chunks, and through real sockets, where a chunk is
sent when the one before it has been read.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.protocol import Factory, Protocol

from sockproto import Accept, Reject, connect
from sockproto.handshakes.passphrase import Passphrase
from sockproto.handshakes.welcome import Welcome
from sockproto.plugins import describe_handshakes
from sockproto.sessions.echo import Echo
from sockproto.testing import converse, every_cut

from .kit import turns, until


@dataclass(frozen=True)
class Case:
    """
    What is said in a handshake.

    Attributes:
        name: The built-in handshake's.
        handshake: It.
        says: What the client says.
        hears: What the server answers.
        early: What the one and the other say next, without waiting; empty if a read to the end, or
            one that takes what it gets, leaves nothing for a session.
        served, connected: The outcomes.
    """

    name: str
    handshake: Any
    says: bytes
    hears: bytes
    early: bytes
    served: Accept | Reject
    connected: Accept | Reject


WELCOME = b"welcome to server!"
GOODBYE = b"please go out!"
EARLY = b"and what comes early\0"
WRONG = "expected b'1', got b'2'"

CASES = [
    Case("welcome", Welcome(), b"1", WELCOME, b"", Accept(WELCOME), Accept(result=WELCOME)),
    Case(
        *("welcome", Welcome(), b"2", GOODBYE, b""),
        *(Reject(GOODBYE, reason=WRONG), Reject(reason=GOODBYE.decode())),
    ),
    Case(
        "passphrase", Passphrase(b"sesame"), b"sesame\n", b"OK\n", EARLY, Accept(b"OK\n"), Accept()
    ),
    Case(
        *("passphrase", Passphrase(b"sesame"), b"mellon\n", b"NO\n", EARLY),
        *(Reject(b"NO\n", reason="wrong word"), Reject(reason="wrong word")),
    ),
]
every_case = pytest.mark.parametrize(
    "case", CASES, ids=lambda case: f"{case.name}-{case.says.decode().strip()}"
)


CUT_ELSEWHERE = {
    "token",
    "challenge",
    "scram",
    "cred",
    "certificate",
    "jwt",
    "negotiate",
    "none",
    "chain",
}
"""Those that need files, TLS or fresh nonces: their own tests cut them, and so does conformance."""


def test_every_built_in_handshake_is_tried():
    built_in = {each.name for each in describe_handshakes() if ":" not in each.name}

    assert {case.name for case in CASES} | CUT_ELSEWHERE == built_in


@every_case
def test_a_thousand_cuts_tell_one_story_to_the_core(case):
    assert converse(case.handshake.serve, case.says + case.early, random_cuts=1000) == case.served
    heard = case.hears + case.early
    assert converse(case.handshake.connect, heard, random_cuts=1000) == case.connected


def cuts(data: bytes, random: int) -> Iterator[tuple[bytes, ...]]:
    return every_cut(data, random_cuts=random, seed=1)


async def send_in(cut: Iterable[bytes], sender: socket.socket) -> None:
    """Send chunk by chunk; on loopback, what is sent can be read before ``send`` returns."""
    for chunk in cut:
        try:
            sender.sendall(chunk)
        except ConnectionError:
            # It has heard enough.
            return
        await turns()
        await turns()


async def read_all(client: socket.socket) -> bytes:
    """Read to the end, while the reactor runs."""
    client.setblocking(False)
    received = b""
    while True:
        try:
            part = client.recv(65536)
        except BlockingIOError:
            await turns()
            continue
        if not part:
            return received
        received += part


async def serve_all(server: Any, case: Case, tried: Iterable[tuple[bytes, ...]]) -> int:
    """Play each cut to a server with an echo; how many."""
    accepted = isinstance(case.served, Accept)
    count = 0
    for cut in tried:
        with socket.create_connection(("127.0.0.1", server.port)) as client:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await send_in(cut, client)
            client.shutdown(socket.SHUT_WR)
            assert await read_all(client) == case.hears + (case.early if accepted else b""), cut
        count += 1
    await until(lambda: len(server.endings) == count)
    assert {each.reason for each in server.verdicts} == {"accepted" if accepted else "rejected"}
    return count


class Hearing(Protocol):
    """Keeps what it hears."""

    def __init__(self) -> None:
        self.heard = b""
        self.is_lost = False

    def dataReceived(self, data: bytes) -> None:
        self.heard += data

    def connectionLost(self, reason: Any = None) -> None:
        self.is_lost = True


async def connect_all(case: Case, tried: Iterable[tuple[bytes, ...]]) -> int:
    """Have a client hear each cut; how many."""
    session = Factory.forProtocol(Hearing) if case.early else None
    count = 0
    with socket.create_server(("127.0.0.1", 0)) as listening:
        endpoint = TCP4ClientEndpoint(reactor, *listening.getsockname())
        for cut in tried:
            results: list[Any] = []
            connect(endpoint, case.handshake, session).addBoth(results.append)
            await turns()
            server, _ = listening.accept()
            with server:
                server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                await send_in(cut, server)
                server.shutdown(socket.SHUT_WR)
                assert await read_all(server)
            await until(lambda results=results: results)
            result = results[0]
            if isinstance(case.connected, Reject):
                assert result.value.reason == case.connected.reason, cut
            elif session is None:
                assert result == case.connected, cut
            else:
                await until(lambda result=result: result.is_lost)
                assert result.heard == case.early, cut
            count += 1
    return count


@every_case
@pytest_twisted.ensureDeferred
async def test_every_cut_in_two_tells_one_story_to_a_server(sockproto_server, case):
    server = await sockproto_server(
        case.handshake, Factory.forProtocol(Echo) if case.early else None
    )

    size = len(case.says + case.early)
    assert await serve_all(server, case, cuts(case.says + case.early, 20)) >= size


@every_case
@pytest_twisted.ensureDeferred
async def test_every_cut_in_two_tells_one_story_to_a_client(case):
    size = len(case.hears + case.early)
    assert await connect_all(case, cuts(case.hears + case.early, 20)) >= size


@pytest.mark.slow
@every_case
@pytest_twisted.ensureDeferred
async def test_a_thousand_random_cuts_tell_one_story_to_a_server(sockproto_server, case):
    server = await sockproto_server(
        case.handshake, Factory.forProtocol(Echo) if case.early else None
    )
    tried = cuts(case.says + case.early, 1000)

    # A byte has but one cut.
    count = await serve_all(server, case, tried)
    assert count >= (1000 if case.early else 1)


@pytest.mark.slow
@every_case
@pytest_twisted.ensureDeferred
async def test_a_thousand_random_cuts_tell_one_story_to_a_client(case):
    assert await connect_all(case, cuts(case.hears + case.early, 1000)) >= 1000


@pytest_twisted.ensureDeferred
async def test_a_long_leftover_reaches_the_session_exactly(sockproto_server):
    server = await sockproto_server(Passphrase(b"sesame"), Factory.forProtocol(Echo))
    early = bytes(range(256)) * 4096

    for first in islice((b"sesame\n", b"sesame\n" + early[:1], b"sesame\n" + early[:60_000]), 3):
        rest = (b"sesame\n" + early)[len(first) :]
        received = await server.say(first + rest, finish=True)
        assert received == b"OK\n" + early
