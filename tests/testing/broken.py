"""
Handshakes with a mistake in them, one for each class of mistake.

Each is right but for that: it accepts the word ``sesame`` in a line, with ``OK``, and says ``NO``
to any other.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from contextlib import suppress

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import Logger

from sockproto import Accept, PeerError, Reject
from sockproto.testing import Verdict

WORD = b"sesame"


class Right:
    """Accept the word in a line."""

    async def word(self, peer):
        return await peer.receive_line(64)

    async def serve(self, peer):
        if await self.word(peer) == WORD:
            return Accept(b"OK\n")
        return Reject(b"NO\n", reason="wrong word")

    async def connect(self, peer):
        peer.send(WORD + b"\n")
        if await peer.expect(b"OK\n"):
            return Accept()
        return Reject(reason="wrong word")


class TakesAChunkForAMessage(Right):
    """Take what one read gives for the whole word."""

    async def word(self, peer):
        return (await peer.receive_some(64)).rstrip(b"\n")


class AcceptsABeginning(Right):
    """Accept whoever says how the word begins, and leaves."""

    async def word(self, peer):
        said = b""
        try:
            while not said.endswith(b"\n"):
                said += await peer.receive_exactly(1)
        except PeerError:
            return WORD if said and WORD.startswith(said) else said
        return said.rstrip(b"\n")


class TakesTheSessionsBytes(Right):
    """Read on behind the word, and drop what is there."""

    async def word(self, peer):
        said = await peer.receive_line(64)
        peer._inbox.clear()
        return said


class RaisesOverBytes(Right):
    """Take it for granted that a word is text."""

    async def word(self, peer):
        return (await peer.receive_line(64)).decode("ascii").encode()


class ForgetsToDecide(Right):
    """Return nothing where the word is wrong."""

    async def serve(self, peer):
        if await self.word(peer) == WORD:
            return Accept(b"OK\n")
        return None


class TellsWhy(Right):
    """Tell a stranger what was wrong."""

    async def serve(self, peer):
        word = await self.word(peer)
        if word == WORD:
            return Accept(b"OK\n")
        if len(word) != len(WORD):
            return Reject(b"NO: length\n", reason="wrong length")
        return Reject(b"NO: word\n", reason="wrong word")


class SwallowsTheEnd(Right):
    """Catch whatever there is to catch, and ask again."""

    async def word(self, peer):
        while True:
            try:
                return await peer.receive_line(64)
            except Exception:
                continue


class BreaksOnItsWayOut(Right):
    """Clean up what is not there when a peer does not come to its end."""

    async def serve(self, peer):
        done = {}
        try:
            word = await self.word(peer)
            done["word"] = word
        finally:
            done.pop("word")
        return Accept(b"OK\n") if word == WORD else Reject(b"NO\n", reason="wrong word")


class SharesItsState(Right):
    """Keep what belongs to one connection in an attribute."""

    async def serve(self, peer):
        self.said = await peer.receive_line(64)
        peer.send(b"sure?\n")
        await peer.receive_line(8)
        if self.said == WORD:
            return Accept(b"OK\n")
        return Reject(b"NO\n", reason="wrong word")

    async def connect(self, peer):
        peer.send(WORD + b"\n")
        await peer.receive_line(8)
        peer.send(b"yes\n")
        return Accept() if await peer.expect(b"OK\n") else Reject(reason="wrong word")


class BlocksTheLoop(Right):
    """Sleep, and everybody with it."""

    async def word(self, peer):
        word = await peer.receive_line(64)
        time.sleep(0.025)
        return word


class LeavesATimer(Right):
    """Begin a timer, and forget it."""

    def __init__(self):
        self.clock = Clock()

    async def word(self, peer):
        self.clock.callLater(30, lambda: None)
        return await peer.receive_line(64)


class SpeaksAfterItsVerdict(Right):
    """Say goodbye when all has been said."""

    def __init__(self):
        self.clock = Clock()

    async def word(self, peer):
        self.clock.callLater(30, peer.send, b"bye\n")
        return await peer.receive_line(64)


class ShowsItsSecret(Right):
    """Show the word to whoever prints it."""

    def __repr__(self):
        return f"ShowsItsSecret({WORD!r})"


class SaysTooMuch(Right):
    """Say more than anybody takes, a bit at a time."""

    async def serve(self, peer):
        peer.send(b"." * 40000)
        if await peer.receive_line(64) != WORD:
            return Reject(b"NO\n", reason="wrong word")
        peer.send(b"." * 40000)
        return Accept(b"OK\n")

    async def connect(self, peer):
        peer.send(WORD + b"\n")
        return Accept()


class NeverForgets(Right):
    """Remember whoever was there."""

    def __init__(self):
        self.visitors = []

    async def word(self, peer):
        self.visitors.append(peer)
        return await peer.receive_line(64)


class LocksEverybodyOut(Right):
    """Let nobody in any more once somebody was wrong."""

    locked = False

    async def serve(self, peer):
        word = await self.word(peer)
        if word == WORD and not self.locked:
            return Accept(b"OK\n")
        self.locked = True
        return Reject(b"NO\n", reason="wrong word, or locked")


class AwaitsWhatNobodyFires(Right):
    """Wait for a Deferred, and hold on to it when nobody waits any more."""

    def __init__(self):
        self.clock = Clock()

    async def word(self, peer):
        word = await peer.receive_line(64)
        deferred = _Stubborn()
        self.clock.callLater(1, deferred.fire)
        await deferred
        return word


class _Stubborn(Deferred):
    def fire(self):
        if not self.called:
            self.callback(None)

    def cancel(self):
        """It does not listen."""


class PrintsWhatItHears(Right):
    """Tell standard output what was said."""

    async def word(self, peer):
        word = await peer.receive_line(64)
        print(word)
        return word


class KnowsOneFamily(Right):
    """Break over a peer that comes from elsewhere."""

    async def serve(self, peer):
        if peer.address.family == "inet6":
            raise NotImplementedError("no such family")
        return await super().serve(peer)


class SaysItsSecret(Right):
    """Tell a stranger which word would have been the right one."""

    async def serve(self, peer):
        if await self.word(peer) == WORD:
            return Accept(b"OK\n")
        return Reject(b"NO, it is " + WORD, reason="wrong word")


CAUGHT_BY = {
    TakesAChunkForAMessage: "cut-in-two",
    AcceptsABeginning: "truncated-anywhere",
    TakesTheSessionsBytes: "leaves-what-follows",
    RaisesOverBytes: "raises-nothing-of-its-own",
    ForgetsToDecide: "returns-a-verdict",
    TellsWhy: "uniform-rejects",
    SwallowsTheEnd: "lets-go",
    BreaksOnItsWayOut: "timed-out-at-each-step",
    SharesItsState: "two-at-once",
    BlocksTheLoop: "does-not-block",
    LeavesATimer: "leaves-no-timer",
    SpeaksAfterItsVerdict: "silent-after-the-verdict",
    ShowsItsSecret: "repr-hides-secrets",
    SaysTooMuch: "says-little",
    NeverForgets: "does-not-grow",
    LocksEverybodyOut: "good-after-bad",
    AwaitsWhatNobodyFires: "leaves-no-deferred",
    PrintsWhatItHears: "prints-nothing",
    KnowsOneFamily: "wherever-the-peer-is",
    SaysItsSecret: "a-server-says-no-secret",
}
"""The check that is named for each of the mistakes."""


# What is weak, and what is broken in a way of its own.


def with_serve(serve, **more):
    """A handshake that is right but for its server's side."""

    class Broken(Right):
        """Accept the word in a line."""

    Broken.serve = serve
    for name, value in more.items():
        setattr(Broken, name, value)
    return Broken()


def with_verdict(accept, reject=None):
    """One that hears a line, and gives these verdicts."""

    async def serve(self, peer):
        if await peer.receive_line(64) == WORD:
            return accept
        return reject or Reject(b"NO\n", reason="wrong word")

    return with_serve(serve)


def with_word(word):
    """One that asks for its word in this way."""
    return with_serve(Right.serve, word=word)


class HasNoHelp(Right):
    __doc__ = None


class TakesAnObject(Right):
    """Accept the word in a line."""

    def __init__(self, directory: dict[str, str]):
        pass


class TakesAPassword(Right):
    """Accept the word in a line."""

    def __init__(self, password: bytes = b""):
        pass


class IsNowhere(Right):
    """Accept the word in a line."""

    __module__ = "nowhere"


async def accepts_anything(self, peer):
    await peer.receive_line(64)
    return Accept(b"OK\n")


async def accepts_silence(self, peer):
    with suppress(PeerError):
        await peer.receive_line(64)
    return Accept(b"OK\n")


async def raises_late(self, peer):
    word = await peer.receive_line(64)
    if len(word) > 60:
        raise ValueError("too long")
    return word


async def turns_a_long_word_round(self, peer):
    word = await peer.receive_some(4096)
    end = time.perf_counter() + (0.025 if len(word) > 1000 else 0)
    while time.perf_counter() < end:
        pass
    return word.rstrip(b"\n")


async def opens_a_file(self, peer):
    OPEN.append(os.open(os.devnull, os.O_RDONLY))
    return await peer.receive_line(64)


OPEN = []


async def begins_a_thread(self, peer):
    thread = threading.Thread(target=STOP.wait, args=(30,), daemon=True)
    thread.start()
    return await peer.receive_line(64)


STOP = threading.Event()


async def forgets_to_await(self, peer):
    asyncio.sleep(0)
    return await peer.receive_line(64)


async def logs_a_failure(self, peer):
    try:
        return int(await peer.receive_line(64))
    except ValueError:
        Logger().failure("no number")
        return WORD


class Future:
    """What nobody here can resume."""

    def __await__(self):
        yield self


async def awaits_a_future(self, peer):
    word = await peer.receive_line(64)
    if word != WORD:
        await Future()
    return word


async def needs_a_wide_budget(self, peer):
    if len(await peer.receive_exactly(5000)) == 5000:
        return Accept(b"OK\n")
    return None


async def tells_the_word(self, peer):
    word = await peer.receive_line(64)
    if word == WORD:
        return Accept(b"OK\n")
    return Reject(b"NO\n", reason=f"expected {WORD!r}, got {word!r}")


async def says_hello(self, peer):
    peer.send(b"hello\n")
    return Accept() if await peer.receive_line(64) == b"hello" else Reject(reason="rude")


async def rambles(self, peer):
    line = await peer.receive_some(64)
    if line.startswith(WORD):
        return Accept(b"OK\n")
    peer.send(line[:1] * 6000)
    return Reject(b"NO\n", reason="wrong word")


async def believes_the_server(self, peer):
    peer.send(WORD + b"\n")
    await peer.receive_line(64)
    return Accept()


class _SaysHello(Right):
    """Say hello, both of us."""

    serve = connect = says_hello


def not_async(self, peer):
    return Accept()


OTHERS = {
    "has-a-side": (lambda: with_serve(lambda self: None), Verdict.FAILED),
    "sides-are-coroutines": (lambda: with_serve(not_async), Verdict.FAILED),
    "says-what-it-does": (HasNoHelp, Verdict.WEAK),
    "takes-its-arguments-from-a-string": (lambda: TakesAnObject({}), Verdict.WEAK),
    "marks-its-secrets": (TakesAPassword, Verdict.WEAK),
    "is-found-by-its-name": (IsNowhere, Verdict.FAILED),
    "identity-can-be-shown": (lambda: with_verdict(Accept(b"OK\n", identity="a\nb")), Verdict.WEAK),
    "both-sides-agree": (
        lambda: with_serve(Right.serve, connect=believes_the_server),
        Verdict.FAILED,
    ),
    "does-not-take-an-echo": (_SaysHello, Verdict.WEAK),
    "needs-to-hear-something": (lambda: with_serve(accepts_silence), Verdict.WEAK),
    "mistakes-are-seen": (lambda: with_serve(accepts_silence), Verdict.WEAK),
    "strangers": (lambda: with_serve(accepts_anything), Verdict.FAILED),
    "rejects-with-a-reason": (
        lambda: with_verdict(Accept(b"OK\n"), Reject(b"NO\n")),
        Verdict.WEAK,
    ),
    "logs-hide-secrets": (lambda: with_serve(tells_the_word), Verdict.FAILED),
    "just-too-long": (lambda: with_word(raises_late), Verdict.FAILED),
    "junk-does-not-block": (lambda: with_word(turns_a_long_word_round), Verdict.FAILED),
    "leaves-no-file": (lambda: with_word(opens_a_file), Verdict.FAILED),
    "leaves-no-thread": (lambda: with_word(begins_a_thread), Verdict.FAILED),
    "warns-of-nothing": (lambda: with_word(forgets_to_await), Verdict.FAILED),
    "logs-no-failure": (lambda: with_word(logs_a_failure), Verdict.FAILED),
    "awaits-what-can-be-awaited": (lambda: with_word(awaits_a_future), Verdict.FAILED),
    "says-no-more-to-a-stranger": (lambda: with_serve(rambles), Verdict.FAILED),
    "reads-whole-messages": (TakesAChunkForAMessage, Verdict.WEAK),
    "good-conversation": (lambda: with_serve(needs_a_wide_budget), Verdict.FAILED),
    "gone-at-each-step": (SwallowsTheEnd, Verdict.FAILED),
    "gives-up-a-dead-peer": (SwallowsTheEnd, Verdict.FAILED),
    "reset-at-each-step": (BreaksOnItsWayOut, Verdict.FAILED),
    "stopped-at-each-step": (BreaksOnItsWayOut, Verdict.FAILED),
    "byte-by-byte": (TakesAChunkForAMessage, Verdict.FAILED),
    "cut-in-many": (TakesAChunkForAMessage, Verdict.FAILED),
    "flipped-bits": (RaisesOverBytes, Verdict.FAILED),
    "replaced-bytes": (RaisesOverBytes, Verdict.FAILED),
    "inserted-bytes": (RaisesOverBytes, Verdict.FAILED),
    "every-byte-at-each-step": (RaisesOverBytes, Verdict.FAILED),
    "nasty-words-at-each-step": (RaisesOverBytes, Verdict.FAILED),
    "random-bytes-at-each-step": (RaisesOverBytes, Verdict.FAILED),
    "random-lines-at-each-step": (ForgetsToDecide, Verdict.FAILED),
    "lost-bytes": (ForgetsToDecide, Verdict.FAILED),
    "leaves-a-huge-rest": (TakesTheSessionsBytes, Verdict.FAILED),
    "the-session-gets-what-follows": (TakesTheSessionsBytes, Verdict.FAILED),
    "keeps-no-peer": (NeverForgets, Verdict.FAILED),
    "ends-once": (RaisesOverBytes, Verdict.FAILED),
}
"""What each of these checks says to a handshake that breaks its promise."""
