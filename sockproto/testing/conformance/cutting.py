"""A network may cut a stream anywhere, and join what was said apart."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from sockproto.testing.conformance.checks import Case, check
from sockproto.testing.conformance.learned import told
from sockproto.testing.conformance.networks import Appended, Cut, Network, Padded
from sockproto.testing.conformance.results import Fault, NotApplicable
from sockproto.testing.conformance.stage import meet
from sockproto.testing.conformance.subject import Subject, dice, same

HUGE = 1 << 20


def _look(subject: Subject, name: str, network: Network) -> None:
    subject.expect_good(subject.cast.meet(name, network), name)


@check("cuts")
def byte_by_byte(subject: Subject) -> Iterator[Case]:
    """It hears the same when every byte comes alone."""
    for name, _ in subject.listening():
        yield partial(_look, subject, name, Cut())


@check("cuts")
def cut_in_two(subject: Subject) -> Iterator[Case]:
    """It hears the same wherever the stream is cut."""
    for name, part in subject.listening():
        for place in range(1, len(part.stream)):
            yield partial(_look, subject, name, Cut([place]))


@check("cuts")
def cut_in_many(subject: Subject) -> Iterator[Case]:
    """It hears the same when the stream is cut at random."""
    for name, seed in subject.seeded():
        size = len(subject.parts[name].stream)
        if size > 2:
            random = dice("cut-in-many", seed)
            places = random.sample(range(1, size), random.randint(1, size - 1))
            yield partial(_look, subject, name, Cut(places))


@check("cuts")
def pieces_without_a_byte(subject: Subject) -> Iterator[Case]:
    """A piece without a byte in it means nothing."""
    for name, _ in subject.listening():
        yield partial(_look, subject, name, Padded())


@check("cuts")
def all_at_once(subject: Subject) -> Iterator[Case]:
    """It hears the same from a peer that does not wait for its answers."""
    if not subject.conversation.steady:
        raise NotApplicable("no two runs say the same, so nobody can answer before he is asked")

    def look(name: str) -> None:
        part = subject.parts[name]
        player = subject.cast.player(name)
        if not player.over:
            player.hear(part.stream)
        if not player.over:
            player.hear_end()
        subject.expect_good(player, name)

    for name, part in subject.listening():
        if not part.upgrades:
            yield partial(look, name)


@check("cuts")
def reads_whole_messages(subject: Subject) -> Iterator[Case]:
    """It reads with verbs that give the same bytes however the stream was cut."""

    def look(name: str) -> None:
        if "receive_some" in subject.parts[name].verbs:
            raise Fault(
                f"{subject.title(name)} takes what the cut gives it (receive_some): "
                "a word that the network cuts in two is another one",
                weak=True,
            )

    for name in subject.parts:
        yield partial(look, name)


@check("cuts")
def leaves_what_follows(subject: Subject) -> Iterator[Case]:
    """What comes together with its last message is left for the session, to the byte."""

    def look(name: str, more: bytes) -> None:
        part = subject.parts[name]
        player = subject.cast.player(name)
        network = Appended(len(part.heard) - 1, more)
        meet(player, subject.cast.partner_of(name), network)
        subject.expect_good(player, name)
        left = player.exchange.unread()
        if left != part.unread + more:
            raise Fault(
                f"{subject.title(name)} leaves {left[:32]!r} for the session, "
                f"instead of {(part.unread + more)[:32]!r}",
                player.heard,
            )

    able = [name for name, _ in subject.listening() if _can_be_followed(subject, name)]
    if not able:
        raise NotApplicable("nothing can follow: see reads-whole-messages, or the end is awaited")
    for name in able:
        for more in (b"x", b"\n", b"\0", b"hello\n", bytes(range(256))):
            yield partial(look, name, more)


@check("cuts")
def leaves_what_comes_later(subject: Subject) -> Iterator[Case]:
    """What comes after its verdict is left for the session, too."""

    def look(name: str) -> None:
        player = subject.cast.meet(name, leave=False)
        before = player.exchange.unread()
        player.hear(b"hello")
        player.hear(b"again")
        left = player.exchange.unread()
        if before + left != subject.parts[name].unread + b"helloagain":
            raise Fault(f"{subject.title(name)} leaves {before + left!r}", player.heard)

    able = [name for name, part in subject.parts.items() if not part.needs_end]
    if not able:
        raise NotApplicable("it waits for the end of the stream, so nothing comes after it")
    for name in able:
        yield partial(look, name)


@check("cuts")
def leaves_a_huge_rest(subject: Subject) -> Iterator[Case]:
    """A mebibyte that comes together with its last message does not count as the handshake's."""

    def look(name: str) -> None:
        part = subject.parts[name]
        player = subject.cast.player(name)
        network = Appended(len(part.heard) - 1, b"\n" * HUGE)
        meet(player, subject.cast.partner_of(name), network)
        if not same(player.outcome, part.outcome):
            raise Fault(f"{subject.title(name)} ends in {told(player.outcome)}")
        if len(player.exchange.unread()) != len(part.unread) + HUGE:
            raise Fault(f"{subject.title(name)} has taken of what was the session's")

    able = [name for name, _ in subject.listening() if _can_be_followed(subject, name)]
    if not able:
        raise NotApplicable("nothing can follow: see reads-whole-messages, or the end is awaited")
    for name in able:
        yield partial(look, name)


def _can_be_followed(subject: Subject, name: str) -> bool:
    part = subject.parts[name]
    return not part.needs_end and "receive_some" not in part.verbs
