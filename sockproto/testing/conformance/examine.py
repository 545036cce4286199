"""Run the checks over a handshake."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from time import perf_counter
from types import FrameType, ModuleType
from typing import Any

from sockproto.core.facts import NO_FACTS, PeerFacts, TlsFacts
from sockproto.core.handshake import Side
from sockproto.testing.conformance import (
    bounds,
    cutting,
    face,
    garbage,
    gatehouse,
    leaving,
    rulings,
    sharing,
    talk,
    tidiness,
)
from sockproto.testing.conformance.checks import Check
from sockproto.testing.conformance.learned import Conversation, NoConversation, learn
from sockproto.testing.conformance.results import Fault, NotApplicable, Report, Result, Verdict
from sockproto.testing.conformance.stage import CLIENT, SERVER, Cast, Turn
from sockproto.testing.conformance.subject import Subject

_MODULES: tuple[ModuleType, ...] = (
    face,
    talk,
    cutting,
    leaving,
    bounds,
    garbage,
    rulings,
    sharing,
    tidiness,
    gatehouse,
)

CHECKS: tuple[Check, ...] = tuple(
    each for module in _MODULES for each in vars(module).values() if isinstance(each, Check)
)
"""All the checks, in the order in which they are run."""

MOST_CASES, FEWEST_CASES = 100, 8

PATIENCE = 0.03
"""Seconds that a random check should take for each side; what is slow gets fewer seeds."""

STUCK = 30.0
"""Seconds after which a case is not slow, but will never end."""


def conform(
    handshake: object,
    *,
    client: object = None,
    server_facts: PeerFacts | None = None,
    client_facts: PeerFacts | None = None,
    tls: TlsFacts | None = None,
    sessions: Iterable[str] = (),
    clock: Any = None,
    conversation: Iterable[Turn] = (),
    secrets: Iterable[bytes] = (),
    only: Iterable[str] = (),
    seed: int | None = None,
    cases: int | None = None,
    spec: str = "",
    command: str = "",
    told: Callable[[Result], object] | None = None,
) -> Report:
    """
    Run the checks over a handshake.

    Its two sides talk to each other, live, and everything that a network and a stranger can do is
    done to what they say. Nothing here opens a port, and no time passes but a clock's.

    Args:
        handshake: What to check. Its ``serve`` and ``connect`` are its two sides.
        client: What has the client's side, if that needs other arguments than the server's.
        server_facts, client_facts: What each side knows about its peer.
        tls: What TLS has established; both sides are told.
        sessions: The names of the sessions on offer.
        clock: The clock that the handshake follows; its time is moved when a side awaits a
            Deferred. Without one, Deferreds have to have fired.
        conversation: What is said where a side is missing: ``("client", b"sesame\\n")``, …
        secrets: What nobody should be shown.
        only: The names of the checks to run; all unless given.
        seed: The case to run of each, as a finding names it; all unless given.
        cases: How many seeds a random check tries; as many as are quick unless given.
        spec: The plug-in's name, where it was asked for by one.
        command: What a person types to run this again.
        told: Called with each result when it is there.

    Raises:
        ValueError: If ``only`` names what is no check.
    """
    chosen = set(only)
    unknown = sorted(chosen - {each.name for each in CHECKS})
    if unknown:
        raise ValueError(f"there is no check called {', '.join(unknown)}")
    subject = _subject(
        Cast(
            _sides(handshake, client),
            {
                SERVER: _facts(server_facts, tls, sessions),
                CLIENT: _facts(client_facts, tls, sessions),
            },
            clock,
            tuple(conversation),
        ),
        handshake,
        cases,
        secrets=tuple(secrets),
        spec=spec,
        sessions=tuple(sessions),
    )
    results = []
    for each in CHECKS:
        if not chosen or each.name in chosen:
            result = _run(each, subject, seed)
            results.append(result)
            if told is not None:
                told(result)
    name = spec or type(handshake).__qualname__
    return Report(name, subject.sides, tuple(results), command or f"sockproto conformance {name}")


def assert_conforms(handshake: object, *, weak: Iterable[str] = (), **arguments: Any) -> Report:
    """
    Fail a test unless all the checks are ``OK`` or not applicable.

    Args:
        handshake: What to check.
        weak: The names of the checks that may say ``WEAK``, and have to.
        arguments: As of :func:`conform`.

    Raises:
        AssertionError: If one has found something, with all that was found.
    """
    report = conform(handshake, **arguments)
    expected = set(weak)
    found = {each.check for each in report.of(Verdict.WEAK)}
    lines = [report.summary]
    for result in report.results:
        failed = result.verdict is Verdict.FAILED
        if failed or (result.verdict is Verdict.WEAK and result.check not in expected):
            lines.append(f"\n{result.verdict} {result.check}: {result.promise}")
            lines += [f"  {line}" for line in report.describe(result)]
    lines += [f"\n{name} is not WEAK any more" for name in sorted(expected - found)]
    if len(lines) > 1:
        raise AssertionError("\n".join(lines))
    return report


def _sides(handshake: object, client: object) -> Mapping[str, Side]:
    sides = {
        SERVER: getattr(handshake, "serve", None),
        CLIENT: getattr(handshake if client is None else client, "connect", None),
    }
    return {name: side for name, side in sides.items() if callable(side)}


def _facts(facts: PeerFacts | None, tls: TlsFacts | None, sessions: Iterable[str]) -> PeerFacts:
    known = facts or NO_FACTS
    return replace(known, tls=tls or known.tls, sessions=tuple(sessions) or known.sessions)


def _subject(cast: Cast, handshake: object, cases: int | None, **more: Any) -> Subject:
    learned: Conversation | NotApplicable | NoConversation
    try:
        with _patience():
            learned = learn(cast)
    except (NotApplicable, NoConversation) as trouble:
        learned = trouble
    except Exception as error:
        learned = NoConversation(f"it raises {error!r}", [])
    if cases is None:
        cost = learned.seconds if isinstance(learned, Conversation) else 0.0
        quick = int(PATIENCE / cost) if cost else MOST_CASES
        cases = max(FEWEST_CASES, min(MOST_CASES, quick))
    return Subject(handshake, cast, learned, cases, **more)


def _run(check: Check, subject: Subject, seed: int | None) -> Result:
    began = perf_counter()
    count = 0
    weak: tuple[Fault, int] | None = None

    def result(verdict: Verdict, reason: str = "", **more: Any) -> Result:
        took = perf_counter() - began
        return Result(
            check.name, check.group, check.promise, verdict, count, reason, seconds=took, **more
        )

    number = 0
    try:
        for number, case in enumerate(check.cases(subject)):
            if seed is not None and number != seed:
                continue
            count += 1
            try:
                with _patience():
                    case()
            except Fault as fault:
                if not fault.weak:
                    return result(Verdict.FAILED, fault.words, seed=number, heard=fault.heard)
                weak = weak or (fault, number)
    except NotApplicable as why:
        return result(Verdict.NOT_APPLICABLE, str(why))
    except Fault as fault:
        return result(Verdict.FAILED, fault.words, heard=fault.heard)
    except _Stuck:
        words = f"it is not over after {STUCK:g} s, and nothing else would ever be heard"
        return result(Verdict.FAILED, words, seed=number)
    except Exception as error:
        words = f"it raises {type(error).__name__}: {error}"
        return result(Verdict.FAILED, words, seed=number)
    if weak is not None:
        found, number = weak
        return result(Verdict.WEAK, found.words, seed=number, heard=found.heard)
    if not count:
        why_not = "it has no such case" if seed is None else f"it has no case {seed}"
        return result(Verdict.NOT_APPLICABLE, why_not)
    return result(Verdict.OK)


class _Stuck(BaseException):
    """Somebody has kept the thread for too long."""


@contextmanager
def _patience() -> Iterator[None]:
    """Break what would never end; only the main thread can be interrupted."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def ring(number: int, frame: FrameType | None) -> None:
        raise _Stuck

    began = perf_counter()
    handler = signal.signal(signal.SIGALRM, ring)
    # Somebody else may have set it, as pytest-timeout does.
    left, interval = signal.setitimer(signal.ITIMER_REAL, STUCK)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler or signal.SIG_DFL)
        if left:
            left = max(0.001, left - (perf_counter() - began))
            signal.setitimer(signal.ITIMER_REAL, left, interval)
