"""What it does beside talking: how long it keeps the thread, and what it leaves lying about."""

from __future__ import annotations

import gc
import io
import os
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from functools import partial
from typing import Any

from sockproto.testing.conformance.checks import Case, check
from sockproto.testing.conformance.networks import END, Interrupted, Network
from sockproto.testing.conformance.results import Fault, NotApplicable
from sockproto.testing.conformance.stage import DEFERRED, Player
from sockproto.testing.conformance.subject import Subject

MAX_STEP = 0.02
"""Seconds for which a step may keep the event loop, with everybody else waiting."""

TRIES = 12
"""How often a step may seem too slow: on a loaded machine most do, now and then."""


def _quick(subject: Subject, name: str, network: Callable[[], Network | None]) -> None:
    slowest = float("inf")
    player: Player | None = None
    for _ in range(TRIES):
        player = subject.cast.meet(name, network())
        slowest = min(slowest, player.slowest)
        if slowest <= MAX_STEP:
            return
    assert player is not None
    raise Fault(
        f"{subject.title(name)} keeps the event loop for {slowest * 1000:.0f} ms in one step, "
        f"at most {MAX_STEP * 1000:.0f} are fair to the others",
        player.heard,
    )


@check("tidiness")
def does_not_block(subject: Subject) -> Iterator[Case]:
    """No step of the good conversation keeps the event loop for more than 20 ms."""
    for name in subject.parts:
        yield partial(_quick, subject, name, lambda: None)


@check("tidiness")
def junk_does_not_block(subject: Subject) -> Iterator[Case]:
    """No junk makes a step take more than 20 ms."""
    for name, step in subject.steps():
        for filling in (b"x", b"9", b"\n", b"\xff", b" "):
            junk = partial(Interrupted, step, filling * 4096, END)
            yield partial(_quick, subject, name, junk)


def _everywhere(subject: Subject) -> Iterator[tuple[str, Callable[[], Network | None]]]:
    for name in subject.sides:
        yield name, lambda: None
    for name, step in subject.steps():
        yield name, partial(Interrupted, step, END)
        yield name, partial(Interrupted, step, b"\xff" * 64 + b"\n", END)


@check("tidiness")
def leaves_no_timer(subject: Subject) -> Iterator[Case]:
    """When it is over, it has left no timer in the clock or the reactor."""

    def timers() -> set[int]:
        reactor = sys.modules.get("twisted.internet.reactor")
        calls = list(subject.cast.clock.getDelayedCalls()) if subject.cast.clock else []
        calls += reactor.getDelayedCalls() if reactor is not None else []
        return set(map(id, calls))

    def look(name: str, network: Callable[[], Network | None]) -> None:
        before = timers()
        player = subject.cast.meet(name, network())
        if timers() - before:
            raise Fault(f"{subject.title(name)} leaves a timer behind", player.heard)

    for name, network in _everywhere(subject):
        yield partial(look, name, network)


@check("tidiness")
def leaves_no_thread(subject: Subject) -> Iterator[Case]:
    """When it is over, no more threads are there than before."""

    def look(name: str, network: Callable[[], Network | None]) -> None:
        before = set(threading.enumerate())
        player = subject.cast.meet(name, network())
        # A pool that is kept for the next one is none that each of them leaves.
        again = set(threading.enumerate())
        subject.cast.meet(name, network())
        if set(threading.enumerate()) - again and again - before:
            raise Fault(f"{subject.title(name)} leaves a thread behind", player.heard)

    for name, network in _everywhere(subject):
        yield partial(look, name, network)


@check("tidiness")
def leaves_no_file(subject: Subject) -> Iterator[Case]:
    """When it is over, no more files and sockets are open than before."""
    if not os.path.isdir("/proc/self/fd"):
        raise NotApplicable("this system does not tell what is open")

    def look(name: str, network: Callable[[], Network | None]) -> None:
        subject.cast.meet(name, network())
        before = len(os.listdir("/proc/self/fd"))
        player = subject.cast.meet(name, network())
        if len(os.listdir("/proc/self/fd")) > before:
            raise Fault(f"{subject.title(name)} leaves a file open", player.heard)

    for name, network in _everywhere(subject):
        yield partial(look, name, network)


@check("tidiness")
def leaves_no_deferred(subject: Subject) -> Iterator[Case]:
    """A Deferred that it awaits is cancelled when it is told to end, and it lets go of it."""
    learned = getattr(subject.learned, "parts", {})
    awaiting = [name for name, part in learned.items() if DEFERRED in part.waits]
    if not awaiting:
        raise NotApplicable("it awaits no Deferred, or one that has fired already")

    def look(name: str) -> None:
        player = Player(subject.cast.sides[name], subject.cast.player(name).facts)
        for message in learned[name].heard:
            player.hear(message)
        deferred = player.exchange.deferred
        if deferred is None:
            return
        player.break_off(TimeoutError())
        if not deferred.called:
            raise Fault(f"{subject.title(name)} leaves a Deferred that nobody waits for")

    for name in awaiting:
        yield partial(look, name)


@contextmanager
def _listening_to_warnings() -> Iterator[list[str]]:
    told: list[str] = []

    def unraisable(trouble: Any) -> None:
        told.append(f"{type(trouble.exc_value).__name__}: {trouble.exc_value}")

    hook, sys.unraisablehook = sys.unraisablehook, unraisable
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            yield told
            gc.collect()
            told += [str(each.message).partition("\n")[0] for each in caught]
    finally:
        sys.unraisablehook = hook


@check("tidiness")
def warns_of_nothing(subject: Subject) -> Iterator[Case]:
    """It leaves no coroutine unawaited and nothing open, of which Python would warn."""

    def look() -> None:
        with _listening_to_warnings() as told:
            for name, network in _everywhere(subject):
                subject.cast.meet(name, network())
        if told:
            raise Fault(f"Python warns: {told[0]}")

    yield look


@check("tidiness")
def prints_nothing(subject: Subject) -> Iterator[Case]:
    """It prints nothing: what is to be told goes into the verdict's reason."""

    def look(name: str, network: Callable[[], Network | None]) -> None:
        said = io.StringIO()
        with redirect_stdout(said), redirect_stderr(said):
            player = subject.cast.meet(name, network())
        if said.getvalue():
            raise Fault(f"{subject.title(name)} prints {said.getvalue()[:64]!r}", player.heard)

    for name, network in _everywhere(subject):
        yield partial(look, name, network)


@check("tidiness")
def logs_no_failure(subject: Subject) -> Iterator[Case]:
    """Nothing that it does ends as a traceback in the log."""
    from twisted.logger import formatEvent, globalLogPublisher

    def look(name: str, network: Callable[[], Network | None]) -> None:
        failures: list[str] = []

        def observe(event: Any) -> None:
            if event.get("log_failure") is not None:
                failures.append(formatEvent(event).partition("\n")[0])

        observer: Any = observe
        globalLogPublisher.addObserver(observer)
        try:
            player = subject.cast.meet(name, network())
            heard = player.heard
            del player
        finally:
            globalLogPublisher.removeObserver(observer)
        if failures:
            raise Fault(f"{subject.title(name)} has a failure logged: {failures[0]}", heard)

    for name, network in _everywhere(subject):
        yield partial(look, name, network)
