"""
``sockproto simulate`` runs whole servers in memory, and looks for one that breaks a promise.

See :mod:`sockproto.testing.simulation` for what a world is, and what it is held to.
"""

from __future__ import annotations

import time
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from hashlib import sha256

from twisted.logger import ILogObserver, LogEvent, globalLogBeginner
from zope.interface import provider

from sockproto.testing.simulation.world import story_of

KEPT, BROKEN = 0, 1
"""The exit statuses, beside that of a mistake."""

TAIL = 25
"""How many lines of a story are shown that ends badly; ``--seed`` shows them all."""


def configure(parser: ArgumentParser) -> None:
    """Say what the command takes."""
    parser.description = (
        "Run servers with peers of all kinds in memory and in virtual time, each made from one "
        "number, and hold them to what the gate promises. Nothing is sent anywhere."
    )
    parser.epilog = "Exit status: 0 every promise was kept, 1 one was broken, 2 usage."
    parser.add_argument(
        "--seeds", type=_count, default=1000, metavar="N", help="how many worlds (1000)"
    )
    parser.add_argument(
        "--from", type=_number, default=0, dest="first", metavar="SEED", help="the first seed (0)"
    )
    parser.add_argument("--seed", type=_number, metavar="SEED", help="one world, and its story")
    parser.set_defaults(run=run)


def _number(text: str) -> int:
    if not text.isdecimal():
        raise ArgumentTypeError(f"{text!r} is not a number from 0; write it like 1234")
    return int(text)


def _count(text: str) -> int:
    number = _number(text)
    if not number:
        raise ArgumentTypeError("no world would be run; write a number above 0")
    return number


def run(options: Namespace) -> int:
    """Run them."""
    # What breaks in a world is meant to, and is nobody's trouble.
    globalLogBeginner.beginLoggingTo([_unheard], redirectStandardIO=False, discardBuffer=True)
    if options.seed is not None:
        return _tell(options.seed)
    began = time.perf_counter()
    digest = sha256()
    connections = 0
    for seed in range(options.first, options.first + options.seeds):
        count, story, broken = story_of(seed)
        connections += count
        digest.update("\n".join(story).encode())
        if broken is not None:
            print("\n".join(story[-TAIL:]))
            print(f"seed {seed} breaks a promise: {broken}")
            print(f"to see all of it: sockproto simulate --seed {seed}")
            return BROKEN
    took = time.perf_counter() - began
    print(
        f"{options.seeds} worlds, {connections} connections, {connections / took:.0f} in a second; "
        f"every promise was kept\ndigest {digest.hexdigest()}"
    )
    return KEPT


@provider(ILogObserver)
def _unheard(event: LogEvent) -> None:
    """Let it pass."""


def _tell(seed: int) -> int:
    _, story, broken = story_of(seed)
    print("\n".join(story))
    if broken is not None:
        print(f"seed {seed} breaks a promise: {broken}")
        return BROKEN
    return KEPT
