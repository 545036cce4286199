"""How much a stranger may make us take, and how much we say to one."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from sockproto.core.errors import HandshakeFailed, LimitExceeded, PeerError
from sockproto.core.exchange import MAX_BYTES, MAX_UNSENT, Exchange
from sockproto.core.outcomes import Accept, Reject
from sockproto.testing.conformance.checks import Case, check
from sockproto.testing.conformance.networks import END, Interrupted
from sockproto.testing.conformance.results import Fault, NotApplicable
from sockproto.testing.conformance.stage import meet
from sockproto.testing.conformance.subject import Subject

FILLINGS = (b"x", b"\0", b"\xff", b"9", b"0", b" ", b"\n", b"\r\n", b":", b"9:")
"""What a message may be too long of."""

TOO_MUCH = 2 * MAX_UNSENT


@check("bounds")
def oversize_at_each_step(subject: Subject) -> Iterator[Case]:
    """A message that is far too long is an ending of a kind that has a name."""

    def look(name: str, step: int, filling: bytes) -> None:
        player = subject.cast.meet(name, Interrupted(step, filling * (TOO_MUCH // len(filling))))
        subject.expect_ending(player, name)

    for name, step in subject.steps():
        for filling in FILLINGS:
            yield partial(look, name, step, filling)


@check("bounds")
def endless_at_each_step(subject: Subject) -> Iterator[Case]:
    """A peer that never stops talking is not listened to for ever."""

    def look(name: str, step: int, filling: bytes) -> None:
        piece = filling * (1024 // len(filling))
        pieces = [piece] * (2 * MAX_BYTES // 1024)
        player = subject.cast.meet(name, Interrupted(step, *pieces), leave=False)
        if not player.over and player.exchange.deferred is None:
            raise Fault(f"{subject.title(name)} still wants more", player.heard)
        subject.expect_ending(player, name)

    for name, step in subject.steps():
        for filling in FILLINGS[:4]:
            yield partial(look, name, step, filling)


@check("bounds")
def just_too_long(subject: Subject) -> Iterator[Case]:
    """A byte at the edge of a budget breaks nothing."""

    def look(name: str, step: int, junk: bytes) -> None:
        subject.expect_ending(subject.cast.meet(name, Interrupted(step, junk, END)), name)

    edges = [1 << power for power in range(4, 13)]
    for name, step in subject.steps():
        for edge in edges:
            for size in (edge - 1, edge, edge + 1):
                yield partial(look, name, step, b"x" * size)
                yield partial(look, name, step, b"x" * size + b"\n")


@check("bounds")
def keeps_a_small_budget(subject: Subject) -> Iterator[Case]:
    """With a budget that is too small for it, it ends in ``LimitExceeded`` and nothing else."""

    def look(name: str, budget: int) -> None:
        player = subject.cast.player(name, max_bytes=budget)
        meet(player, subject.cast.partner_of(name))
        outcome = player.outcome
        if isinstance(outcome, Accept) and budget < subject.parts[name].needed:
            raise Fault(f"{subject.title(name)} takes more than {budget} bytes", player.heard)
        if not isinstance(outcome, Reject | PeerError | Accept):
            raise Fault(f"{subject.title(name)} breaks: {outcome}", player.heard)

    for name, part in subject.listening():
        for budget in range(1, min(part.needed * 3 // 4, 64)):
            yield partial(look, name, budget)


@check("bounds")
def takes_what_it_needs(subject: Subject) -> Iterator[Case]:
    """The good conversation fits into a budget of exactly its bytes."""
    if not subject.conversation.steady:
        raise NotApplicable("no two runs say the same, nor perhaps as much")

    def look(name: str) -> None:
        player = subject.cast.player(name, max_bytes=max(1, subject.parts[name].needed))
        meet(player, subject.cast.partner_of(name))
        if isinstance(player.outcome, LimitExceeded):
            raise Fault(f"{subject.title(name)} wants more than it takes", player.heard)

    for name, _ in subject.listening():
        yield partial(look, name)


@check("bounds")
def says_little(subject: Subject) -> Iterator[Case]:
    """What it says fits into the budget of the other end, and into one write buffer."""

    def look(name: str) -> None:
        said = len(subject.parts[name].said)
        if said > MAX_UNSENT:
            raise Fault(f"{subject.title(name)} says {said} bytes, at most {MAX_UNSENT} are fit")
        if said > MAX_BYTES:
            raise Fault(
                f"{subject.title(name)} says {said} bytes, and a peer of ours takes {MAX_BYTES}",
                weak=True,
            )

    for name in subject.parts:
        yield partial(look, name)


@check("bounds")
def a_peer_that_never_reads(subject: Subject) -> Iterator[Case]:
    """A peer that takes nothing of what it says is an ending, or makes no difference."""

    def look(name: str) -> None:
        part = subject.parts[name]
        exchange = Exchange(
            subject.cast.sides[name], subject.cast.facts.get(name), max_unsent=len(part.said) // 2
        )
        for message in part.heard:
            exchange.receive_data(message)
        exchange.receive_eof()
        outcome = exchange.outcome
        if outcome is None and exchange.deferred is None:
            raise Fault(f"{subject.title(name)} waits for ever", part.heard)
        if isinstance(outcome, HandshakeFailed) and "max_unsent" not in str(outcome):
            raise Fault(f"{subject.title(name)} breaks: {outcome}", part.heard)

    for name in subject.parts:
        yield partial(look, name)


@check("bounds")
def says_no_more_to_a_stranger(subject: Subject) -> Iterator[Case]:
    """Nothing that a stranger says makes it say much."""

    def look(name: str, filling: bytes) -> None:
        player = subject.cast.meet(name, Interrupted(0, filling * MAX_BYTES, END))
        if len(player.sent) > MAX_BYTES:
            raise Fault(
                f"{subject.title(name)} answers junk with {len(player.sent)} bytes", player.heard
            )

    for name in subject.sides:
        for filling in FILLINGS:
            yield partial(look, name, filling)
