"""A peer may leave at any byte, and we may have to."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from sockproto.core.errors import (
    HandshakeTimeout,
    PeerDisconnected,
    Shutdown,
)
from sockproto.core.outcomes import Accept
from sockproto.core.peer import Peer
from sockproto.testing.conformance.checks import Case, check
from sockproto.testing.conformance.learned import told
from sockproto.testing.conformance.networks import END, Appended, Interrupted, Stopped
from sockproto.testing.conformance.results import Fault
from sockproto.testing.conformance.stage import Player, meet
from sockproto.testing.conformance.subject import Subject


@check("ends")
def gone_at_each_step(subject: Subject) -> Iterator[Case]:
    """A peer that leaves between two messages is an ending of a kind that has a name."""

    def look(name: str, step: int) -> None:
        subject.expect_ending(subject.cast.meet(name, Interrupted(step, END)), name)

    for name, step in subject.steps():
        yield partial(look, name, step)


@check("ends")
def truncated_anywhere(subject: Subject) -> Iterator[Case]:
    """A peer that leaves in the middle of a message is not accepted."""

    def look(name: str, place: int) -> None:
        player = subject.cast.meet(name, Stopped(place))
        subject.expect_ending(player, name)
        if isinstance(player.outcome, Accept):
            raise Fault(
                f"{subject.title(name)} accepts after {place} of the "
                f"{subject.parts[name].needed} bytes that it takes",
                player.heard,
            )

    for name, part in subject.listening():
        for place in range(part.needed):
            yield partial(look, name, place)


@check("ends")
def finished_with_the_last_byte(subject: Subject) -> Iterator[Case]:
    """A peer that finishes sending right after its last message is heard out."""

    def look(name: str) -> None:
        part = subject.parts[name]
        network = Appended(len(part.heard) - 1, b"", ended=True)
        subject.expect_good(subject.cast.meet(name, network), name)

    for name, part in subject.listening():
        if not part.upgrades:
            yield partial(look, name)


@check("ends")
def an_end_after_the_verdict(subject: Subject) -> Iterator[Case]:
    """The end of the stream after the verdict changes nothing."""

    def look(name: str) -> None:
        player = subject.cast.meet(name)
        if not player.ended:
            player.hear_end()
        subject.expect_good(player, name)

    for name in subject.parts:
        yield partial(look, name)


def _break_off(subject: Subject, name: str, step: int, error: BaseException) -> None:
    player = subject.cast.meet(name, Interrupted(step), leave=False)
    if player.over:
        return
    player.break_off(error)
    if player.outcome is not error:
        raise Fault(
            f"{subject.title(name)} ends in {told(player.outcome)}, instead of {told(error)}",
            player.heard,
        )


@check("ends")
def reset_at_each_step(subject: Subject) -> Iterator[Case]:
    """A connection that breaks is the end of it, and nothing breaks on the way out."""
    for name, step in subject.steps():
        yield partial(_break_off, subject, name, step, PeerDisconnected(0, "more"))


@check("ends")
def timed_out_at_each_step(subject: Subject) -> Iterator[Case]:
    """A deadline is the end of it, and nothing breaks on the way out."""
    for name, step in subject.steps():
        error = HandshakeTimeout(5.0, "idle_timeout")
        yield partial(_break_off, subject, name, step, error)


@check("ends")
def stopped_at_each_step(subject: Subject) -> Iterator[Case]:
    """A server that stops is the end of it, and nothing breaks on the way out."""
    for name, step in subject.steps():
        yield partial(_break_off, subject, name, step, Shutdown())


@check("ends")
def lets_go(subject: Subject) -> Iterator[Case]:
    """It swallows no end: what it is told by an exception, it does not read or decide on."""

    def look(name: str, step: int) -> None:
        went_on: list[str] = []
        side = subject.cast.sides[name]

        async def watched(peer: Peer) -> Any:
            try:
                verdict = await side(peer)
            except GeneratorExit:
                went_on.append("waits again")
                raise
            if broken_off:
                went_on.append("decides all the same")
            return verdict

        broken_off: list[bool] = []
        player = Player(watched, subject.cast.player(name).facts, subject.cast.clock)
        meet(player, subject.cast.partner_of(name), Interrupted(step), leave=False)
        if player.over:
            return
        broken_off.append(True)
        player.break_off(HandshakeTimeout(5.0, "idle_timeout"))
        if went_on:
            raise Fault(
                f"{subject.title(name)} is told that its time is over, and {went_on[0]}: "
                "it catches more than it should",
                player.heard,
            )

    for name, step in subject.steps():
        yield partial(look, name, step)


@check("ends")
def gives_up_a_dead_peer(subject: Subject) -> Iterator[Case]:
    """It does not ask a peer that has left for more."""

    def look(name: str, step: int) -> None:
        player = subject.cast.meet(name, Interrupted(step, END))
        if "kept on reading" in str(player.outcome):
            raise Fault(f"{subject.title(name)} asks again and again", player.heard)

    for name, step in subject.steps():
        yield partial(look, name, step)
