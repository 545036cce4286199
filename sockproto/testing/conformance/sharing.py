"""One object serves every connection, so nothing of one may reach another."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from functools import partial

from sockproto.core.peer import Peer
from sockproto.testing.conformance.checks import Case, check
from sockproto.testing.conformance.learned import told
from sockproto.testing.conformance.networks import END, Interrupted, Network, Stopped
from sockproto.testing.conformance.results import Fault, NotApplicable
from sockproto.testing.conformance.stage import Actor, meet
from sockproto.testing.conformance.subject import Subject, dice, mutation

CROWD = 30
KEPT = 5
GROWTH = 40
"""Conversations after which whatever grows with each of them has grown."""


class _Talk:
    """A conversation that goes on by one piece at a time."""

    def __init__(self, subject: Subject, name: str, seed: int | None = None) -> None:
        self.side = subject.cast.player(name)
        self.partner: Actor = subject.cast.partner_of(name)
        self.heard = b""
        random = None if seed is None else dice("wrong among good", seed)
        size = len(subject.parts[name].stream)
        self._network = mutation(random, size) if random and size else None
        self._pending: list[bytes | None] = []

    def step(self) -> bool:
        """Go on; False if it is over."""
        side, partner = self.side, self.partner
        if self._pending:
            piece = self._pending.pop(0)
            if piece is None:
                side.hear_end()
            else:
                side.hear(piece)
        elif data := side.take():
            partner.hear(data)
        elif data := partner.take():
            pieces = self._network.carry(data) if self._network else (data,)
            # Byte by byte, so that much can come in between.
            for piece in pieces:
                whole = piece or b""
                self._pending += [whole[at : at + 1] for at in range(len(whole))]
        elif side.over and not partner.ended:
            partner.hear_end()
        elif side.wants_tls:
            side.start_tls()
            partner.start_tls()
        elif not side.over and not side.ended:
            side.hear_end()
        else:
            return False
        return True


def _interleave(talks: list[_Talk]) -> None:
    going = list(talks)
    while going:
        going = [each for each in going if each.step()]


def _cut_dependent(subject: Subject, name: str) -> bool:
    return "receive_some" in subject.parts[name].verbs and len(subject.parts[name].stream) > 1


@check("sharing")
def two_at_once(subject: Subject) -> Iterator[Case]:
    """A good conversation is not disturbed by a wrong one at the same time, nor helps it."""

    def look(name: str, seed: int) -> None:
        alone = _Talk(subject, name, seed)
        _interleave([alone])
        good, wrong = _Talk(subject, name), _Talk(subject, name, seed)
        _interleave([wrong, good] if seed % 2 else [good, wrong])
        subject.expect_good(good.side, name)
        if type(wrong.side.outcome) is not type(alone.side.outcome):
            raise Fault(
                f"{subject.title(name)} ends in {told(wrong.side.outcome)} beside a good "
                f"conversation, and alone in {told(alone.side.outcome)}",
                wrong.side.heard,
            )

    names = [name for name, _ in subject.listening() if not _cut_dependent(subject, name)]
    if not names:
        raise NotApplicable("it reads whatever has arrived, see reads-whole-messages")
    for seed in range(max(4, subject.cases // 4)):
        for name in names:
            yield partial(look, name, seed)


@check("sharing")
def many_at_once(subject: Subject) -> Iterator[Case]:
    """Any number of good conversations at the same time are good."""

    def look(name: str) -> None:
        talks = [_Talk(subject, name) for _ in range(CROWD)]
        _interleave(talks)
        for talk in talks:
            subject.expect_good(talk.side, name)

    for name in subject.parts:
        if not _cut_dependent(subject, name):
            yield partial(look, name)


@check("sharing")
def good_after_bad(subject: Subject) -> Iterator[Case]:
    """A peer that was wrong, or left, makes it no worse for the next one."""

    def look(name: str, seed: int) -> None:
        random = dice("good-after-bad", seed)
        size = len(subject.parts[name].stream)
        for _ in range(5):
            subject.cast.meet(name, mutation(random, size))
            subject.cast.meet(name, Stopped(random.randrange(size)))
        subject.expect_good(subject.cast.meet(name), name)

    for name, seed in subject.seeded():
        if seed < max(2, subject.cases // 10):
            yield partial(look, name, seed)


@check("sharing")
def good_beside_silent(subject: Subject) -> Iterator[Case]:
    """Peers that say nothing keep nobody waiting."""

    def look(name: str) -> None:
        silent = [subject.cast.player(name) for _ in range(CROWD)]
        subject.expect_good(subject.cast.meet(name), name)
        for each in silent:
            if not each.over:
                each.hear_end()

    for name in subject.parts:
        yield partial(look, name)


@check("sharing")
def keeps_no_peer(subject: Subject) -> Iterator[Case]:
    """When a conversation is over, nothing holds on to the peer."""

    def look(name: str) -> None:
        for network in (Network, partial(Interrupted, 0, END)):
            before = _peers()
            for _ in range(KEPT):
                subject.cast.meet(name, network())
            if _peers() - before >= KEPT:
                raise Fault(f"{subject.title(name)} holds on to its peer when all is over")

    for name in subject.sides:
        yield partial(look, name)


def _peers() -> int:
    """How many peers there are in this process."""
    gc.collect()
    return sum(type(each) is Peer for each in gc.get_objects())


@check("sharing")
def does_not_grow(subject: Subject) -> Iterator[Case]:
    """What it remembers does not grow with the number of its conversations."""

    def run(name: str) -> None:
        partner = subject.cast.partner_of(name)
        meet(subject.cast.player(name), partner)

    def count(name: str) -> int:
        for _ in range(GROWTH):
            run(name)
        gc.collect()
        return len(gc.get_objects())

    def grown(name: str) -> bool:
        count(name)
        before = count(name)
        return count(name) - before >= GROWTH

    def look(name: str) -> None:
        sizes = _sizes(subject.handshake)
        # Caches fill and empty; what leaks does so every time.
        leaks = all(grown(name) for _ in range(3))
        grew = [key for key, size in _sizes(subject.handshake).items() if size > sizes.get(key, 0)]
        bigger = [key for key in grew if _sizes(subject.handshake)[key] - sizes[key] >= GROWTH]
        if leaks or bigger:
            where = f" in {', '.join(bigger)}" if bigger else ""
            raise Fault(f"{subject.title(name)} keeps something of every conversation{where}")

    if subject.conversation.seconds > 0.005:
        raise NotApplicable("it takes too long to be run often enough")
    for name in subject.parts:
        yield partial(look, name)


def _sizes(handshake: object) -> dict[str, int]:
    """How much its attributes hold."""
    found = {}
    for key, value in getattr(handshake, "__dict__", {}).items():
        if isinstance(value, list | dict | set | bytearray):
            found[key] = len(value)
    return found
