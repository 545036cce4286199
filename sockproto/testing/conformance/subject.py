"""What is looked at: a handshake, and all that the checks know about it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any

from sockproto.core.errors import HandshakeFailed, PeerError, Shutdown
from sockproto.core.exchange import name_of
from sockproto.core.outcomes import Accept, Reject
from sockproto.testing.conformance.learned import Conversation, NoConversation, Part, told
from sockproto.testing.conformance.networks import Edited, Interrupted, Network
from sockproto.testing.conformance.results import Fault, NotApplicable
from sockproto.testing.conformance.stage import SIDES, Cast, Player


@dataclass(frozen=True)
class Subject:
    """
    A handshake under examination.

    Attributes:
        handshake: The handshake.
        cast: Its sides, and who talks to them.
        learned: The good conversation; or why there is none.
        cases: How many seeds each of the random checks tries, for each side.
        secrets: What nobody should be shown.
        spec: The name by which it was asked for, without the arguments; empty if it was not.
        sessions: The names of the sessions on offer.
    """

    handshake: Any
    cast: Cast
    learned: Conversation | NotApplicable | NoConversation
    cases: int
    secrets: tuple[bytes, ...] = ()
    spec: str = ""
    sessions: tuple[str, ...] = ()
    _notes: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def sides(self) -> tuple[str, ...]:
        """The sides that there are."""
        return tuple(name for name in SIDES if name in self.cast.sides)

    @property
    def conversation(self) -> Conversation:
        """
        The good conversation.

        Raises:
            NotApplicable: If there is none.
        """
        if isinstance(self.learned, Conversation):
            return self.learned
        if isinstance(self.learned, NotApplicable):
            raise NotApplicable(str(self.learned))
        raise NotApplicable("there is no good conversation, see good-conversation")

    @property
    def parts(self) -> Mapping[str, Part]:
        """Each side's part in the good conversation."""
        return self.conversation.parts

    def listening(self) -> list[tuple[str, Part]]:
        """
        The sides that hear anything, and their parts.

        Raises:
            NotApplicable: If none does.
        """
        found = [(name, part) for name, part in self.parts.items() if part.heard]
        if not found:
            raise NotApplicable("nothing is said to it")
        return found

    def steps(self) -> Iterator[tuple[str, int]]:
        """Each side, and how many messages it has heard: every place where a peer may fail."""
        for name in self.sides:
            known = isinstance(self.learned, Conversation)
            count = len(self.learned.parts[name].heard) if known else 0  # type: ignore[union-attr]
            for step in range(count + 1):
                if not self._decided_after(name, step):
                    yield name, step

    def _decided_after(self, name: str, step: int) -> bool:
        """Whether a side has decided when it has heard so many messages."""
        key = f"decided {name} {step}"
        if key not in self._notes:
            player = self.cast.meet(name, Interrupted(step), leave=False)
            self._notes[key] = player.over
            # Told, rather than collected: its way out is the matter of a check.
            player.break_off(Shutdown())
        return bool(self._notes[key])

    def seeded(self) -> Iterator[tuple[str, int]]:
        """Each of the sides that hear anything, once for each seed."""
        listening = self.listening()
        for seed in range(self.cases):
            for name, _ in listening:
                yield name, seed

    def title(self, name: str) -> str:
        """What a side is called in a sentence: ``Word.serve``."""
        return name_of(self.cast.sides[name])

    def expect_good(self, player: Player, name: str) -> None:
        """
        See to it that a side has come to the same end as in the good conversation.

        Raises:
            Fault: If it has not.
        """
        part, outcome = self.parts[name], player.outcome
        if not same(outcome, part.outcome):
            raise Fault(
                f"{self.title(name)} ends in {told(outcome)}, instead of {told(part.outcome)}",
                player.heard,
            )
        if self.conversation.steady and player.sent != part.said:
            raise Fault(f"{self.title(name)} says something else, {player.sent!r}", player.heard)

    def expect_ending(self, player: Player, name: str) -> None:
        """
        See to it that a side has come to an end of one of the right kinds.

        Raises:
            Fault: If it still waits, or has ended in what is no peer's doing.
        """
        outcome = player.outcome
        title = self.title(name)
        if outcome is None:
            waiting_on = player.exchange.waiting_on
            raise Fault(f"{title} still waits on {waiting_on} when all is over", player.heard)
        if not isinstance(outcome, Accept | Reject | PeerError):
            words = str(outcome) if isinstance(outcome, HandshakeFailed) else told(outcome)
            raise Fault(f"{title} breaks: {words}", player.heard)

    def expect_no(self, player: Player, name: str) -> None:
        """
        See to it that a side has ended, and not accepted.

        Raises:
            Fault: If it has accepted, or as :meth:`expect_ending`.
        """
        self.expect_ending(player, name)
        if isinstance(player.outcome, Accept):
            raise Fault(f"{self.title(name)} accepts what it should not", player.heard)


def same(one: object, other: object) -> bool:
    """Whether two outcomes mean the same, whatever nonces are in them."""
    if isinstance(one, Accept) and isinstance(other, Accept):
        return (one.identity, one.session) == (other.identity, other.session)
    return type(one) is type(other)


def dice(name: str, seed: int) -> Random:
    """Chance that is the same for the same seed, on every machine."""
    return Random(f"{name} {seed}")


def mutation(random: Random, size: int) -> Network:
    """One change somewhere in a stream of so many bytes."""
    place = random.randrange(max(1, size))
    return random.choice(
        (
            Edited(place, flip=1 << random.randrange(8)),
            Edited(place, flip=random.randrange(1, 256)),
            Edited(place, drop=random.randint(1, 4)),
            Edited(place, insert=random.randbytes(random.randint(1, 4))),
        )
    )
