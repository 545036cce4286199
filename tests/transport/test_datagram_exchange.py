import pytest
from twisted.internet.defer import Deferred, succeed

from sockproto.core.errors import (
    HandshakeFailed,
    PeerDisconnected,
    ProtocolViolation,
    Rejected,
)
from sockproto.core.outcomes import Accept, Reject
from sockproto.transport.datagram_exchange import converse, speaks_first

from .kit import LOCAL, PEER, Asks, Word, runs


def over(side, data, max_bytes=4096):
    return converse(side, data, PEER, LOCAL, 1000, max_bytes)


def test_a_datagram_is_the_whole_conversation():
    assert over(Word().serve, b"yes\n") == (Accept(b"OK\n", identity="ann"), b"OK\n")
    assert over(Word().serve, b"no\n") == (Reject(b"NO\n", reason="wrong word"), b"NO\n")


def test_after_its_bytes_comes_the_end():
    seen = []

    async def to_the_end(peer):
        seen.append((await peer.receive_to_end(64), peer.address, peer.local, peer.uid))
        return Accept()

    assert over(to_the_end, b"all of it") == (Accept(), b"")
    assert seen == [(b"all of it", PEER, LOCAL, 1000)]


def test_all_that_is_said_goes_into_one_answer():
    async def talkative(peer):
        peer.send(b"well, ")
        await peer.receive_exactly(1)
        peer.send(b"let me see: ")
        await peer.receive_exactly(1)
        return Accept(b"yes")

    assert over(talkative, b"ab")[1] == b"well, let me see: yes"


@pytest.mark.parametrize("data", [b"", b"y", b"yes"])
def test_what_is_cut_short_has_left(data):
    outcome, said = over(Word().serve, data)

    assert type(outcome) is PeerDisconnected
    assert said == b""


def test_whoever_breaks_the_rules_hears_nothing():
    async def strict(peer):
        peer.send(b"hm")
        raise ProtocolViolation("a word", await peer.receive_some(9))

    outcome, said = over(strict, b"?")

    assert type(outcome) is ProtocolViolation
    assert said == b""


def test_a_deferred_that_has_fired_is_no_matter():
    assert over(Asks(succeed(1)).serve, b"") == (Accept(b"OK\n"), b"OK\n")


def test_a_datagram_does_not_wait_for_a_deferred():
    cancelled = []
    waiting = Deferred(cancelled.append)
    asks = Asks(waiting)

    outcome, said = over(asks.serve, b"yes\n")

    assert type(outcome) is Rejected
    assert outcome.reason == "Asks.serve waits for a Deferred, and a datagram cannot"
    assert said == b""
    assert cancelled == [waiting]


@pytest.mark.parametrize("first", [True, False])
def test_a_datagram_does_not_wait_for_tls(first):
    async def secret(peer):
        if not first:
            await peer.receive_exactly(4)
        await peer.start_tls()
        return Accept(b"OK")

    outcome, said = over(secret, b"yes\n")

    assert type(outcome) is Rejected
    assert outcome.reason.endswith("secret waits for TLS, and a datagram cannot")
    assert said == b""


def test_no_session_follows_a_datagram():
    async def chooses(peer):
        assert peer.sessions == ()
        return Accept(b"OK", session="chat")

    outcome, said = over(chooses, b"")

    assert type(outcome) is Rejected
    assert outcome.reason.endswith("chooses chose the session 'chat', and none follows a datagram")
    assert said == b""


def test_a_plug_in_that_breaks_has_crashed():
    async def breaks(peer):
        raise ZeroDivisionError

    assert type(over(breaks, b"")[0]) is HandshakeFailed


def test_who_speaks_first_is_found_out():
    async def banner(peer):
        peer.send(b"hello\n")
        return Reject() if await peer.receive_line(9) else Accept()

    async def hasty(peer):
        return Accept(b"hello")

    assert speaks_first(banner).endswith("banner")
    assert speaks_first(hasty).endswith("hasty")


def test_who_turns_nobody_away_without_listening_may_listen_to_others():
    async def choosy(peer):
        if peer.address != PEER:
            return Reject(b"not you\n")
        return Accept(await peer.receive_some(9))

    assert speaks_first(choosy) is None
    assert over(choosy, b"me") == (Accept(b"me"), b"me")


def test_who_listens_first_is_let_go_again():
    asks = Asks(Deferred())
    left = []

    async def listens(peer):
        try:
            await peer.receive_exactly(1)
        finally:
            left.append(True)

    for side in (Word().serve, listens, asks.serve, runs(listens).serve):
        assert speaks_first(side) is None
    assert left == [True, True]
    assert len(asks.seen) == 1
