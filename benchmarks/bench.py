"""
The bench: contenders take turns on it, and each turn starts from nothing.

Every sample comes from a server process of its own, and the contenders are interleaved: one round
is one sample of each. What changes on the machine meanwhile then changes for all of them, and shows
as spread rather than as somebody's advantage.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.contenders import CONTENDERS, Contender
from benchmarks.figures import Measure, Notebook
from benchmarks.job import TOKEN, WELCOME, Job
from benchmarks.load import Load
from benchmarks.process import Cores, Server, free_port
from benchmarks.workshop import Unavailable, Workshop

MICROSECONDS = 1e6


@dataclass(frozen=True)
class Settings:
    """
    How much is measured.

    Attributes:
        rounds: Samples of each figure.
        handshakes: How many make one sample.
        concurrency: How many of them are on their way at a time.
        silent: Connections that are opened and left alone, to see what one takes.
        pending: How many are pending while handshakes are measured; ascending.
        mebibytes: How much goes through an echo or a forwarder.
        seconds: How long an echo is timed.
        only: Names of contenders; empty for all.
    """

    rounds: int = 3
    handshakes: int = 20_000
    concurrency: int = 100
    silent: int = 5_000
    pending: tuple[int, ...] = (100, 1_000, 10_000)
    mebibytes: int = 1024
    seconds: float = 3.0
    only: tuple[str, ...] = ()

    def quick(self) -> Settings:
        """Enough to see that everything works, and too little to quote."""
        return replace(
            self,
            rounds=1,
            handshakes=4_000,
            silent=1_000,
            pending=(100, 1_000),
            mebibytes=64,
            seconds=1.0,
        )


Sample = Callable[[Contender], Mapping[Measure, float]]


class Bench:
    """
    Starts servers and loads, and notes what they show.

    Args:
        settings: How much is measured.
        workshop: Makes what has to be made.
        say: Told of every step.

    Attributes:
        notebook: What was measured.

    Raises:
        Unavailable: If nothing can be measured on this machine.
    """

    def __init__(self, settings: Settings, workshop: Workshop, say: Callable[[str], None]) -> None:
        self.settings = settings
        self.workshop = workshop
        self.notebook = Notebook()
        self.cores = Cores()
        self._load = workshop.c("load.c")
        self._say = say

    def able(self, section: str, names: Iterable[str], *needed: str) -> list[Contender]:
        """The contenders that are wanted and can do what is needed; the others are noted."""
        found = []
        for each in CONTENDERS:
            if each.name not in names or each.name not in (self.settings.only or names):
                continue
            reason = each.missing(needed)
            if reason is None:
                found.append(each)
            if note := reason or each.caveat():
                self.notebook.note(section, each.name, note)
        return found

    def interleave(self, section: str, contenders: Iterable[Contender], sample: Sample) -> None:
        """Let the contenders take turns; whoever fails is skipped from there on."""
        left = list(contenders)
        for number in range(1, self.settings.rounds + 1):
            for each in list(left):
                try:
                    samples = sample(each)
                except Unavailable as error:
                    self.notebook.note(section, each.name, f"failed in round {number}: {error}")
                    self._say(f"{section}, round {number}: {each.name}: {error}")
                    left.remove(each)
                    continue
                self.notebook.add(each.name, samples)
                shown = ", ".join(f"{value:.4g} {what.unit}" for what, value in samples.items())
                self._say(f"{section}, round {number}: {each.name}: {shown}")

    @contextmanager
    def server(
        self,
        contender: Contender,
        job: str,
        *,
        timeout: float = 5.0,
        certificate: Path | None = None,
        backend: int = 0,
        core: int | None = None,
    ) -> Iterator[Server]:
        """Run a server for a while; on the server's core unless told otherwise."""
        made = Job(job, free_port(), timeout, certificate, backend)
        command = contender.command(made, self.workshop)
        place = self.cores.server if core is None else core
        with Server(command, made.port, place, dict(contender.environment)) as server:
            yield server

    def load(self, *words: object, urgent: bool = False) -> Load:
        """Start a load; see ``load.c`` for what it is told."""
        return Load(self._load, self.cores.load, *words, urgent=urgent)

    def shake(
        self,
        server: Server,
        token: bytes = TOKEN,
        reply: bytes = WELCOME,
        *,
        leave: bool = False,
    ) -> tuple[float, float]:
        """
        Have the handshakes. A quarter as many go first, unseen: compilers and allocators learn.

        Args:
            server: With whom.
            token: What is sent.
            reply: What is expected.
            leave: Whether the client goes first, as soon as it has the reply.

        Returns:
            Microseconds of the server's CPU for each, and how many there were in a second.

        Raises:
            Unavailable: If one of them fails.
        """
        count = self.settings.handshakes
        self._shake(server, max(1, count // 4), token, reply, leave)
        before = server.cpu()
        seconds = self._shake(server, count, token, reply, leave)
        return (server.cpu() - before) / count * MICROSECONDS, count / seconds

    def _shake(self, server: Server, count: int, token: bytes, reply: bytes, leave: bool) -> float:
        how = "leave" if leave else "stay"
        concurrency = self.settings.concurrency
        with self.load("shake", server.port, count, concurrency, token, reply, how) as load:
            result = load.result()
        server.settle()
        if result["failed"]:
            raise Unavailable(f"{result['failed']:.0f} of {count} handshakes failed")
        return result["seconds"]

    @contextmanager
    def held(self, server: Server, count: int, token: bytes = b"") -> Iterator[None]:
        """
        Keep so many connections open; the server has accepted them all when the block begins.

        Raises:
            Unavailable: If the server does not keep them, too.
        """
        expected = server.descriptors() + count
        with self.load("hold", server.port, count, token) as load:
            load.wait_until_ready()
            server.settle(expected)
            yield
            load.go()
            closed = load.result()["closed"]
        if closed:
            raise Unavailable(f"it closed {closed:.0f} of {count} connections that were pending")
