"""What it decides, what it says with it, and what it keeps to itself."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from sockproto.core.errors import HandshakeFailed
from sockproto.core.outcomes import Accept, Reject
from sockproto.testing.conformance.checks import Case, check
from sockproto.testing.conformance.networks import END, Interrupted, Network
from sockproto.testing.conformance.results import Fault, NotApplicable
from sockproto.testing.conformance.stage import SERVER, Player
from sockproto.testing.conformance.subject import Subject, dice, mutation

SHORTEST_SECRET = 4
"""Bytes; a shorter one is found in any text."""


def _wrong(subject: Subject, name: str, seed: int) -> Network:
    """Something wrong to say to a side, in some way."""
    random = dice("wrong", seed)
    learned = subject.learned
    parts = getattr(learned, "parts", {})
    stream = parts[name].stream if name in parts else b""
    if stream and random.random() < 0.6:
        return mutation(random, len(stream))
    step = random.randrange(len(parts[name].heard) + 1) if name in parts else 0
    junk = random.choice((b"\n", b"no\n", b"x" * 40 + b"\n", random.randbytes(32), b"\0" * 64))
    return Interrupted(step, junk, END)


def _wrongs(subject: Subject) -> Iterator[tuple[str, int]]:
    for seed in range(subject.cases):
        for name in subject.sides:
            yield name, seed


@check("verdicts")
def returns_a_verdict(subject: Subject) -> Iterator[Case]:
    """Whatever it hears, it returns ``Accept`` or ``Reject``, or ends in an error of the peer's."""

    def look(name: str, seed: int) -> None:
        player = subject.cast.meet(name, _wrong(subject, name, seed))
        failed = player.outcome
        if isinstance(failed, HandshakeFailed) and failed.trouble.startswith("returned"):
            raise Fault(str(failed), player.heard)

    for name, seed in _wrongs(subject):
        yield partial(look, name, seed)


@check("verdicts")
def raises_nothing_of_its_own(subject: Subject) -> Iterator[Case]:
    """Whatever it hears, it raises nothing but an error of the peer's."""

    def look(name: str, seed: int) -> None:
        player = subject.cast.meet(name, _wrong(subject, name, seed))
        failed = player.outcome
        if isinstance(failed, HandshakeFailed) and failed.trouble.startswith("raised"):
            raise Fault(str(failed), player.heard)

    for name, seed in _wrongs(subject):
        yield partial(look, name, seed)


@check("verdicts")
def awaits_what_can_be_awaited(subject: Subject) -> Iterator[Case]:
    """It awaits its peer's verbs, Deferreds, and coroutines that do."""

    def look(name: str, network: Network | None) -> None:
        player = subject.cast.meet(name, network)
        failed = player.outcome
        if isinstance(failed, HandshakeFailed) and failed.trouble.startswith("awaited"):
            raise Fault(str(failed), player.heard)

    for name in subject.sides:
        yield partial(look, name, None)
    for name, seed in _wrongs(subject):
        yield partial(look, name, _wrong(subject, name, seed))


@check("verdicts")
def uniform_rejects(subject: Subject) -> Iterator[Case]:
    """All who are rejected are told the same bytes, whatever was wrong."""
    replies: dict[bytes, tuple[bytes, ...]] = {}

    def look(seed: int) -> None:
        player = subject.cast.meet(SERVER, _wrong(subject, SERVER, seed))
        if not isinstance(player.outcome, Reject):
            return
        replies.setdefault(player.outcome.reply, tuple(player.heard))
        if len(replies) > 1:
            one, another = replies
            raise Fault(
                f"{subject.title(SERVER)} says {one[:64]!r} to one and {another[:64]!r} to another",
                player.heard,
            )

    def look_from_the_beginning() -> None:
        for seed in range(subject.cases):
            look(seed)

    if SERVER not in subject.sides:
        raise NotApplicable("it has no serve")
    # In one case, since it takes two of them to differ.
    yield look_from_the_beginning


@check("verdicts")
def rejects_with_a_reason(subject: Subject) -> Iterator[Case]:
    """The log is told why it rejects."""

    def look(name: str, seed: int) -> None:
        player = subject.cast.meet(name, _wrong(subject, name, seed))
        outcome = player.outcome
        if not isinstance(outcome, Reject):
            return
        if not isinstance(outcome.reason, str) or not outcome.reason:
            raise Fault(f"{subject.title(name)} gives no reason", player.heard)
        if outcome.reason == Reject().reason:
            raise Fault(
                f"{subject.title(name)} gives no reason of its own", player.heard, weak=True
            )

    for name, seed in _wrongs(subject):
        yield partial(look, name, seed)


def _told_in(text: str, secrets: tuple[bytes, ...]) -> bool:
    """Whether a secret stands in a text, as it is or in hexadecimal."""
    for secret in secrets:
        shown = (repr(secret)[2:-1], secret.decode("utf-8", "backslashreplace"), secret.hex())
        if len(secret) >= SHORTEST_SECRET and any(each in text for each in shown):
            return True
    return False


def _secrets(subject: Subject) -> tuple[bytes, ...]:
    known = tuple(each for each in subject.secrets if len(each) >= SHORTEST_SECRET)
    if not known:
        raise NotApplicable(
            f"it was given no argument annotated as Secret, of at least {SHORTEST_SECRET} bytes"
        )
    return known


@check("verdicts")
def repr_hides_secrets(subject: Subject) -> Iterator[Case]:
    """Neither it nor a run of it shows a secret to whoever prints it."""
    secrets = _secrets(subject)

    def look(text: str) -> None:
        if _told_in(text, secrets):
            raise Fault("its repr() shows a secret")

    yield lambda: look(repr(subject.handshake))
    yield lambda: look(str(subject.handshake))

    def look_at_run(name: str, step: int) -> None:
        player = subject.cast.meet(name, Interrupted(step), leave=False)
        look(repr(player.exchange))

    for name, step in subject.steps():
        yield partial(look_at_run, name, step)


@check("verdicts")
def logs_hide_secrets(subject: Subject) -> Iterator[Case]:
    """No reason, error or identity holds a secret that the peer has not said itself."""
    secrets = _secrets(subject)

    def look(name: str, seed: int) -> None:
        player = subject.cast.meet(name, _wrong(subject, name, seed))
        words = _words_of(player)
        heard = b"".join(player.heard)
        if _told_in(words, tuple(each for each in secrets if each not in heard)):
            raise Fault(f"{subject.title(name)} tells a secret in its reason", player.heard)

    for name, seed in _wrongs(subject):
        yield partial(look, name, seed)


def _words_of(player: Player) -> str:
    outcome = player.outcome
    if isinstance(outcome, Accept):
        return f"{outcome.identity}"
    if isinstance(outcome, Reject):
        return outcome.reason
    return f"{outcome} {outcome.__cause__ if isinstance(outcome, BaseException) else ''}"


@check("verdicts")
def a_server_says_no_secret(subject: Subject) -> Iterator[Case]:
    """A server says its secret to nobody who has not said it first."""
    secrets = _secrets(subject)
    if SERVER not in subject.sides:
        raise NotApplicable("it has no serve")

    def look(seed: int) -> None:
        player = subject.cast.meet(SERVER, _wrong(subject, SERVER, seed))
        heard = b"".join(player.heard)
        if any(each in player.sent and each not in heard for each in secrets):
            raise Fault(f"{subject.title(SERVER)} says a secret", player.heard)

    for seed in range(subject.cases):
        yield partial(look, seed)
