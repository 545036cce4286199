"""A plug-in that breaks is one log line; nobody else notices, and nothing stays behind."""

from __future__ import annotations

import asyncio
import gc
import weakref
from contextlib import suppress
from inspect import isawaitable
from typing import Any, ClassVar

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred, DeferredList, fail
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

from sockproto import Accept, Limits, Peer, Reject
from sockproto.core.errors import HandshakeTimeout
from sockproto.events import Event, HandshakeEnded
from sockproto.service.logs import line_for
from sockproto.sessions.echo import Echo

from .kit import descriptors, dial, read_to_end, turns, until

LIMITS = Limits(idle_timeout=0.6, handshake_timeout=1.0, close_timeout=0.3)


class Canary:
    """Lives in the frame of a plug-in, as long as anybody holds on to that."""

    alive: ClassVar[weakref.WeakSet[Canary]] = weakref.WeakSet()

    def __init__(self) -> None:
        self.alive.add(self)


class Beside:
    """Serves an honest client well, and leaves all others to a plug-in that breaks."""

    def __init__(self, broken: Any) -> None:
        self._broken = broken

    async def serve(self, peer: Peer) -> Any:
        if await peer.receive_exactly(1) == b"1":
            return Accept(b"welcome to server!")
        canary = Canary()
        given = self._broken(peer)
        outcome = await given if isawaitable(given) else given
        del canary
        return outcome


async def raises(peer: Peer) -> Any:
    raise ValueError("boom")


async def exits(peer: Peer) -> Any:
    raise SystemExit("I quit")


async def is_cancelled(peer: Peer) -> Any:
    raise asyncio.CancelledError


async def errbacks_at_once(peer: Peer) -> Any:
    await fail(KeyError("gone"))


async def errbacks_later(peer: Peer) -> Any:
    await deferLater(reactor, 0.01, lambda: {}["gone"])


async def never_returns(peer: Peer) -> Any:
    await Deferred()


async def never_has_read_enough(peer: Peer) -> Any:
    await peer.receive_exactly(4000)


async def hears_nothing(peer: Peer) -> Any:
    while True:
        with suppress(Exception):
            await peer.receive_line(64)


async def waits_on(peer: Peer) -> Any:
    while True:
        with suppress(Exception):
            await Deferred()


async def ignores_its_own_end(peer: Peer) -> Any:
    while True:
        with suppress(BaseException):
            await peer.receive_line(64)


def returns_a_number(peer: Peer) -> Any:
    return 42


def returns_nothing(peer: Peer) -> Any:
    return None


def returns_a_class(peer: Peer) -> Any:
    return Accept


def accepts_twice_in_a_pair(peer: Peer) -> Any:
    return Accept(), Accept()


async def accepts_twice_by_yielding(peer: Peer) -> Any:
    yield Accept()
    yield Accept()


async def accepts_when_it_was_too_slow(peer: Peer) -> Any:
    try:
        await peer.receive_line(64)
    except HandshakeTimeout:
        return Accept(b"come in anyway")


async def accepts_when_its_deferred_was_cancelled(peer: Peer) -> Any:
    try:
        await Deferred()
    except BaseException:
        return Accept(b"come in anyway")


async def chooses_what_is_not_on_offer(peer: Peer) -> Any:
    return Accept(session="admin")


async def replies_with_100_megabytes(peer: Peer) -> Any:
    return Accept(bytes(100_000_000))


async def rejects_with_100_megabytes(peer: Peer) -> Any:
    return Reject(bytes(100_000_000))


async def sends_100_megabytes(peer: Peer) -> Any:
    peer.send(bytes(100_000_000))
    return Accept()


async def sends_100_megabytes_in_pieces(peer: Peer) -> Any:
    for _ in range(100_000):
        peer.send(bytes(1000))
    return Accept()


async def sends_what_is_not_bytes(peer: Peer) -> Any:
    peer.send("hello")  # type: ignore[arg-type]
    return Accept()


async def awaits_a_future(peer: Peer) -> Any:
    loop = asyncio.new_event_loop()
    try:
        await loop.create_future()
    finally:
        loop.close()


async def awaits_a_bare_yield(peer: Peer) -> Any:
    await asyncio.sleep(0)


async def insists_on_a_bare_yield(peer: Peer) -> Any:
    while True:
        with suppress(Exception):
            await asyncio.sleep(0)


async def awaits_what_is_none(peer: Peer) -> Any:
    await 42  # type: ignore[misc]


async def reads_twice_at_once(peer: Peer) -> Any:
    both = [Deferred.fromCoroutine(peer.receive_exactly(1)) for _ in range(2)]
    found = await DeferredList(both, fireOnOneErrback=True, consumeErrors=True)
    return Accept(b"".join(each for _, each in found))


CRASHED = "crashed"
CASES = [
    (raises, CRASHED, "raised ValueError: boom at test_plugins_that_break.py:"),
    (exits, CRASHED, "raised SystemExit: I quit at test_plugins_that_break.py:"),
    (is_cancelled, CRASHED, "raised CancelledError at test_plugins_that_break.py:"),
    (errbacks_at_once, CRASHED, "raised KeyError: 'gone'"),
    (errbacks_later, CRASHED, "raised KeyError: 'gone'"),
    (never_returns, "time out", "not finished after 1 s in Deferred"),
    (never_has_read_enough, "time out", "nothing heard for 0.6 s in receive_exactly(count=4000)"),
    (hears_nothing, "time out", "nothing heard for 0.6 s"),
    (waits_on, "time out", "not finished after 1 s in Deferred"),
    (ignores_its_own_end, CRASHED, "raised RuntimeError: coroutine ignored GeneratorExit"),
    (returns_a_number, CRASHED, "returned a int, expected Accept or Reject"),
    (returns_nothing, CRASHED, "returned None, expected Accept or Reject"),
    (returns_a_class, CRASHED, "returned a type, expected Accept or Reject"),
    (accepts_twice_in_a_pair, CRASHED, "returned a tuple, expected Accept or Reject"),
    (accepts_twice_by_yielding, CRASHED, "returned a async_generator, expected"),
    (accepts_when_it_was_too_slow, "time out", "nothing heard for 0.6 s"),
    (accepts_when_its_deferred_was_cancelled, "time out", "not finished after 1 s"),
    (chooses_what_is_not_on_offer, CRASHED, "chose the session 'admin', which is not on offer"),
    (replies_with_100_megabytes, CRASHED, "replied with 100000000 bytes"),
    (rejects_with_100_megabytes, CRASHED, "replied with 100000000 bytes"),
    (sends_100_megabytes, "limit", "the limit set by"),
    (sends_100_megabytes_in_pieces, "limit", "the limit set by"),
    (sends_what_is_not_bytes, CRASHED, "raised TypeError"),
    (awaits_a_future, CRASHED, "awaited _asyncio.Future, which nobody here can resume"),
    (awaits_a_bare_yield, CRASHED, "awaited builtins.NoneType, which nobody here can resume"),
    (insists_on_a_bare_yield, CRASHED, "awaited builtins.NoneType, which nobody here can resume"),
    (awaits_what_is_none, CRASHED, "raised TypeError: object int can't be used in 'await'"),
    (reads_twice_at_once, CRASHED, "a peer's verbs must be awaited by the handshake itself"),
]


class Log(list[str]):
    """The lines of a connection log."""

    def __call__(self, event: Event) -> None:
        if isinstance(event, HandshakeEnded):
            self.append(line_for(event))


async def nobody_is_left(server: Any) -> None:
    """Wait until a server has no connection, and see that none of its plug-ins' frames lives."""
    await until(lambda: not server.factory.terms.live)
    assert len(server.factory.terms.deadlines) == 0
    # Events keep the exception, and that the frames it went through, as they should.
    server.events.clear()
    await turns()
    gc.collect()
    assert list(Canary.alive) == []


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    ("broken", "word", "detail"), [pytest.param(*case, id=case[0].__name__) for case in CASES]
)
@pytest_twisted.ensureDeferred
async def test_it_is_rejected_with_one_line_and_nobody_else_notices(
    sockproto_server, broken, word, detail
):
    log = Log()
    server = await sockproto_server(Beside(broken), limits=LIMITS, observers=[log])
    before = descriptors()

    hurt = [server.say(b"!") for _ in range(3)]
    await turns()
    assert await server.say(b"1") == b"welcome to server!"
    replies = [await each for each in hurt]

    assert replies == [b""] * 3
    accepted = [line for line in log if line.startswith("accepted 127.0.0.1:")]
    others = [line for line in log if line not in accepted]
    assert len(accepted) == 1
    assert len(others) == 3
    for line in others:
        assert line.startswith(f"{word} 127.0.0.1:")
        assert detail in line
    await nobody_is_left(server)
    await until(lambda: descriptors() <= before)


class Keeper:
    """Keeps its peers, and talks to them when their handshake is long over."""

    def __init__(self) -> None:
        self.peers: list[Peer] = []

    async def serve(self, peer: Peer) -> Accept | Reject:
        self.peers.append(peer)
        await peer.receive_exactly(1)
        return Accept(b"begin\n")


@pytest_twisted.ensureDeferred
async def test_what_is_sent_after_accept_goes_nowhere(sockproto_server):
    keeper = Keeper()
    server = await sockproto_server(keeper, Factory.forProtocol(Echo), limits=LIMITS)

    with await deferToThread(dial, ("127.0.0.1", server.port)) as client:
        client.sendall(b"1")
        await until(lambda: server.verdicts)
        with pytest.raises(RuntimeError, match="over"):
            keeper.peers[0].send(b"and another thing")
        client.sendall(b"hello")
        client.shutdown(1)
        assert await deferToThread(read_to_end, client) == b"begin\nhello"


class Unbuildable(Factory):
    def buildProtocol(self, addr: Any) -> Any:
        raise ValueError("no more of these")


class Declining(Factory):
    def buildProtocol(self, addr: Any) -> Any:
        return None


class Stumbling(Protocol):
    def connectionMade(self) -> None:
        raise ValueError("not today")


class Choking(Protocol):
    def dataReceived(self, data: bytes) -> None:
        raise ValueError("not that")


@pytest.mark.parametrize(
    ("factory", "ending", "logged"),
    [
        (Unbuildable(), ("crashed", "handshake"), 0),
        (Declining(), ("refused", "handshake"), 0),
        (Factory.forProtocol(Stumbling), ("crashed", "session"), 1),
        (Factory.forProtocol(Choking), ("crashed", "session"), 1),
    ],
)
@pytest.mark.parametrize("early", [b"", b"early"])
@pytest_twisted.ensureDeferred
async def test_a_session_that_breaks_is_closed_and_reported_once(
    sockproto_server, logged_failures, factory, ending, logged, early
):
    log = Log()
    server = await sockproto_server(Keeper(), factory, limits=LIMITS, observers=[log])

    with await deferToThread(dial, ("127.0.0.1", server.port)) as client:
        client.sendall(b"1" + early)
        await until(lambda: server.verdicts)
        if ending[1] == "session" and not early:
            with suppress(ConnectionError):
                client.send(b"late")
        await until(lambda: server.endings)

    found = server.endings[0].ending
    assert (found.reason, found.phase) == ending
    assert len(log) == 1
    assert len(logged_failures.take(ValueError)) == logged
    assert not server.factory.terms.live


@pytest_twisted.ensureDeferred
async def test_an_observer_that_breaks_is_told_no_more(sockproto_server, logged_failures):
    told = []

    def breaks(event: object) -> None:
        told.append(event)
        raise ValueError("no log today")

    server = await sockproto_server(Beside(raises), limits=LIMITS, observers=[breaks])

    assert await server.say(b"1") == b"welcome to server!"
    assert await server.say(b"1") == b"welcome to server!"

    assert len(told) == 1
    assert len(logged_failures.take(ValueError)) == 1
