"""
``python -m benchmarks.timing``: does how long a refusal takes tell why it is one?

Refusals of several kinds are timed in one process, in a random order, each from the bytes of the
client to the verdict. If two kinds differ in the mean, Welch's t grows with the number of refusals,
and 4.5 is where chance is out of the question; so dudect has it (Reparaz, Balasch and Verbauwhede,
"Dude, is my code constant time?", 2017). As there, t is computed of all times, and of those below
several percentiles, since whatever else the machine does makes some of them very long.

One more thing than there is to compare is measured: the same kind twice, which shows how far apart
equals are. And the server is made anew every thousand refusals, with other keys, since where the
allocator puts a key moves what it takes to read it by some nanoseconds, this way or that way. What
counts is what is so with every server, so t is that of the servers' means, each less what one of
its refusals usually takes.
"""

from __future__ import annotations

import argparse
import gc
import os
import random
from base64 import b64encode
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from hmac import digest
from itertools import combinations
from math import sqrt
from pathlib import Path
from secrets import token_urlsafe
from statistics import fmean
from tempfile import TemporaryDirectory
from time import perf_counter_ns

from sockproto.core.exchange import Exchange
from sockproto.core.handshake import Side
from sockproto.core.outcomes import Reject
from sockproto.handshakes.challenge import NONCE_BYTES, Challenge
from sockproto.handshakes.token import Token, entry_for

THRESHOLD = 4.5
"""The t from which two kinds do not take the same time."""

PERCENTILES = (50, 80, 90, 95, 99, 100)

CHANGES = range(0x80, 0x100)
"""How a byte is changed: never into a line feed, which ends a token."""

BLOCK = 1000
"""How many refusals one server has to give."""

FIRST, LAST = "first byte wrong", "last byte wrong"
UNKNOWN, NOTHING, AGAIN = "unknown id", "nothing right", ", again"

Attempt = tuple[Side, Sequence[bytes]]
"""A server's side, and what its client says, a piece at a time."""

Make = Callable[[Path], Callable[[str], Attempt]]
"""Makes a server in a folder, and gives what makes an attempt of a kind on it."""

Times = dict[str, list[int]]
"""How many nanoseconds each of one server's refusals took, by kind."""


@dataclass(frozen=True)
class Finding:
    """
    How two kinds of refusals differ.

    Attributes:
        one, other: The kinds.
        t: The furthest from zero of Welch's t, over all percentiles.
        percentile: Which one that is of.
        difference: By how many nanoseconds the first kind takes longer, up to there.
    """

    one: str
    other: str
    t: float
    percentile: int
    difference: float

    @property
    def tells(self) -> bool:
        """Whether a client could tell them apart."""
        return abs(self.t) >= THRESHOLD

    def __str__(self) -> str:
        return (
            f"{self.one:17} {self.other:21} t {self.t:6.2f}   "
            f"{self.difference:6.2f} ns, below percentile {self.percentile}"
        )


def challenges(folder: Path) -> Callable[[str], Attempt]:
    """A server of ``challenge`` with some keys, and how to be refused by it."""
    ids = [f"{each:04x}" for each in random.sample(range(0x10000), random.randint(2, 6))]
    absent, *known = ids
    keys = {id: os.urandom(32) for id in known}
    lines = [f"{id} {b64encode(key).decode()}" for id, key in keys.items()]
    challenge = Challenge("\n".join(lines).encode())

    def attempt(kind: str) -> Attempt:
        id = absent if kind.startswith(UNKNOWN) else known[0]
        ours, theirs = os.urandom(NONCE_BYTES), os.urandom(NONCE_BYTES)
        proved = b"sockproto challenge 1\nC" + ours + theirs + bytes([len(id)]) + id.encode()
        proof = digest(keys[known[0]], proved + b"\0", "sha256")
        answer = theirs + id.encode() + spoilt(proof, kind)
        return partial(challenge.serve, nonce=ours), (bytes([len(answer)]) + answer,)

    return attempt


def tokens(folder: Path) -> Callable[[str], Attempt]:
    """A server of ``token`` with some entries, and how to be refused by it."""
    known = [token_urlsafe(32).encode() for _ in range(random.randint(2, 6))]
    file = folder / "tokens"
    file.write_text("\n".join(entry_for(f"name-{n}", each) for n, each in enumerate(known)))
    serve = Token(file=file).serve
    # As many as there are that differ in one byte: what comes again is sooner done.
    strange = [token_urlsafe(32).encode() for _ in CHANGES]

    def attempt(kind: str) -> Attempt:
        token = random.choice(strange) if kind.startswith(NOTHING) else known[0]
        return serve, (spoilt(token, kind) + b"\n",)

    return attempt


KINDS: dict[Make, tuple[str, ...]] = {
    # What is known and what is not are in the caches alike, if they come up as often.
    challenges: (FIRST, LAST, UNKNOWN, UNKNOWN + AGAIN),
    tokens: (FIRST, LAST, NOTHING, NOTHING + AGAIN),
}


def spoilt(secret: bytes, kind: str) -> bytes:
    """The secret with another byte in the place that the kind names."""
    changed = bytearray(secret)
    if not kind.startswith(NOTHING):
        changed[-1 if kind == LAST else 0] ^= random.choice(CHANGES)
    return bytes(changed)


def times(make: Make, count: int) -> list[Times]:
    """Time so many refusals."""
    servers: list[Times] = []
    kinds = KINDS[make]
    gc.collect()
    gc.disable()
    try:
        with TemporaryDirectory() as folder:
            # The last ones are kept, so that the next is somewhere else.
            kept: list[Callable[[str], Attempt]] = []
            for _ in range(0, count, BLOCK):
                kept = [*kept[-8:], make(Path(folder))]
                order = random.choices(kinds, k=BLOCK)
                servers.append(_times(order, [kept[-1](kind) for kind in order]))
    finally:
        gc.enable()
    return servers


def _times(order: Sequence[str], attempts: Sequence[Attempt]) -> Times:
    taken: Times = {kind: [] for kind in order}
    # Copied, so that all lie in memory in the order in which they come up.
    copied = [(side, [bytes(bytearray(each)) for each in said]) for side, said in attempts]
    for kind, (side, said) in zip(order, copied, strict=True):
        exchange = Exchange(side)
        begun = perf_counter_ns()
        for each in said:
            exchange.receive_data(each)
        took = perf_counter_ns() - begun
        taken[kind].append(took)
        assert isinstance(exchange.outcome, Reject)
    return taken


def compare(servers: Sequence[Times]) -> Iterator[Finding]:
    """Compare each kind with each other."""
    for one, other in combinations(sorted(servers[0]), 2):
        found = []
        for percentile in PERCENTILES:
            left, right = zip(
                *(_means(each[one], each[other], percentile) for each in servers), strict=True
            )
            found.append((welch(left, right), percentile, fmean(left) - fmean(right)))
        yield Finding(one, other, *max(found, key=lambda each: abs(each[0])))


def _means(one: list[int], other: list[int], percentile: int) -> tuple[float, float]:
    both = sorted(one + other)
    usual, most = both[len(both) // 2], both[len(both) * percentile // 100 - 1]
    left, right = (fmean(t for t in each if t <= most) for each in (one, other))
    return left - usual, right - usual


def welch(left: Sequence[float], right: Sequence[float]) -> float:
    """Welch's t of two samples."""
    means = fmean(left), fmean(right)
    errors = [
        sum((each - mean) ** 2 for each in sample) / (len(sample) - 1) / len(sample)
        for sample, mean in zip((left, right), means, strict=True)
    ]
    return (means[0] - means[1]) / sqrt(sum(errors))


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and say what was found."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.timing", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--count", type=int, default=1_000_000, help="refusals (1000000)")
    count = parser.parse_args(arguments).count
    for make in KINDS:
        print(f"{make.__name__}, {count} refusals")
        for finding in compare(times(make, count)):
            print(f"  {finding}{'   TELLS' if finding.tells else ''}")


if __name__ == "__main__":
    main()
