"""
What must hold of a parser, whatever it is given.

Three rules: who is to blame for the input gets the error that is meant for them, and nobody gets
another; what a peer sends is one story, however the network has cut it; and nothing takes long.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import pairwise
from typing import TypeVar
from zlib import crc32

from sockproto.core.errors import ConfigurationError, PeerError
from sockproto.core.exchange import MAX_BYTES, MAX_UNSENT
from sockproto.core.facts import PeerFacts
from sockproto.core.handshake import Side
from sockproto.core.outcomes import Accept, Reject
from sockproto.testing.conversation import Story, _agree, play

MAX_SECONDS = 0.02
"""The most processor time that one input may cost: all other connections wait meanwhile."""

T = TypeVar("T")


class Stopwatch:
    """
    Times what a parser does with an input.

    Only a run of the fuzzer makes it strict: an ordinary test must not depend on how fast the
    machine is.

    Args:
        clock: Tells the processor time.

    Attributes:
        strict: Whether what takes too long is a mistake.
        slowest: The most seconds that were seen.
    """

    def __init__(self, clock: Callable[[], float] = time.thread_time) -> None:
        self._clock = clock
        self.strict = False
        self.slowest = 0.0

    def time(self, parse: Callable[[], T]) -> T:
        """Call a parser."""
        if not self.strict:
            return parse()
        try:
            return parse()
        finally:
            # Not the first time: that may have been an import.
            took = self._seconds(parse)
            for _ in range(2):
                if took > MAX_SECONDS:
                    # Or the garbage collector, or another process in the way.
                    took = min(took, self._seconds(parse))
            self.slowest = max(self.slowest, took)
            assert took <= MAX_SECONDS, f"took {took * 1000:.0f} ms"

    def _seconds(self, parse: Callable[[], object]) -> float:
        began = self._clock()
        # What it says is known.
        with suppress(Exception):
            parse()
        return self._clock() - began


stopwatch = Stopwatch()


def read(
    parse: Callable[..., T],
    *arguments: object,
    blames: type[ValueError] = ConfigurationError,
    discreet: bool = False,
    advises: bool = False,
) -> T | None:
    """
    Have something that an operator has written read; None if it was refused as it should be.

    Args:
        parse: The parser.
        arguments: What it is called with.
        blames: The error that is meant for operators.
        discreet: Whether its words may repeat nothing, since that may be a secret. What is not
            ASCII in them would be from the input.
        advises: Whether its words say what to do, behind a semicolon.
    """
    try:
        return stopwatch.time(lambda: parse(*arguments))
    except ValueError as error:
        refusal = error
    # A UnicodeDecodeError is a ValueError as well, and tells what stands there.
    meant = type(refusal) is ValueError or isinstance(refusal, ConfigurationError)
    assert meant, f"not for operators: {refusal!r}"
    assert isinstance(refusal, blames), f"not for operators: {refusal!r}"
    assert str(refusal), "refused without a word"
    if discreet:
        assert str(refusal).isascii(), f"{refusal} repeats what may be a secret"
    if advises:
        assert "; " in str(refusal), f"{refusal}: and what is to be done?"
    return None


def listen(
    side: Side,
    data: bytes,
    *,
    facts: PeerFacts | None = None,
    denied: bytes | None = None,
    max_bytes: int = MAX_BYTES,
) -> Story:
    """
    Play bytes into one side of a handshake, and insist on one story and on its budget.

    Args:
        side: ``handshake.serve`` or ``handshake.connect``.
        data: All that the peer sends.
        facts: What is known about the peer.
        denied: What everybody hears who is rejected, if that is the same for all.
        max_bytes: The handshake's budget.
    """
    first = stopwatch.time(lambda: play(side, [data], facts=facts, max_bytes=max_bytes))
    outcome = first.outcome
    assert isinstance(outcome, Accept | Reject | PeerError), f"not a peer's doing: {outcome!r}"
    assert len(first.sent) <= MAX_UNSENT
    assert data.endswith(first.unread)
    for cut in cuts_of(data):
        story = play(side, cut, facts=facts, max_bytes=max_bytes)
        assert _agree(first, story), f"cut into {cut}: {story}, and whole: {first}"
    if isinstance(outcome, Reject) and denied is not None:
        assert outcome.reply == denied, f"{outcome.reply!r} is not what others hear"
    if isinstance(outcome, Accept):
        # What was accepted, and nothing else: not the bytes behind it, which are the session's.
        taken = data[: len(data) - len(first.unread)]
        assert len(taken) <= max_bytes
        again = play(side, [taken], facts=facts, max_bytes=max_bytes)
        assert (again.outcome, again.sent, again.unread) == (outcome, first.sent, b""), (
            f"it has looked behind what it has taken: {again}, and with that {first}"
        )
    return first


def cuts_of(data: bytes) -> Iterator[tuple[bytes, ...]]:
    """Cut bytes in a few ways: byte by byte, as far as there are not too many, and in three."""
    size = len(data)
    step = 1 + size // 256
    yield tuple(data[at : at + step] for at in range(0, size, step))
    if size > 2:
        # At random, and the next time at the same places.
        place = crc32(data)
        edges = sorted((0, place % size, place // size % size, size))
        yield tuple(data[start:end] for start, end in pairwise(edges) if start < end)
        yield data[:-1], data[-1:]
