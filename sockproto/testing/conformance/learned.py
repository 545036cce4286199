"""The good conversation: what a handshake does when nothing goes wrong, learned by listening."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from sockproto.core.errors import ConfigurationError
from sockproto.core.facts import NO_FACTS
from sockproto.core.outcomes import Accept
from sockproto.core.peer import Peer
from sockproto.testing.conformance.networks import Staying
from sockproto.testing.conformance.results import NotApplicable
from sockproto.testing.conformance.stage import SIDES, Cast, Player, Turn, meet, other

RUNS = 3
"""How often it is listened to: the quickest run tells what the handshake costs."""


@dataclass(frozen=True)
class Part:
    """
    One side's part in it.

    Attributes:
        outcome: Its ``Accept``.
        heard: The messages that it hears.
        said: All that it says.
        unread: What it leaves for the session.
        verbs: The verbs that it reads with.
        needs_end: Whether it waits for the peer to finish before it decides.
        waits: What it waits for, in order.
        upgrades: Whether it asks for TLS on the way.
    """

    outcome: Accept
    heard: tuple[bytes, ...]
    said: bytes
    unread: bytes
    verbs: frozenset[str]
    needs_end: bool
    waits: tuple[str, ...]
    upgrades: bool

    @property
    def stream(self) -> bytes:
        """All that it hears."""
        return b"".join(self.heard)

    @property
    def needed(self) -> int:
        """How many bytes it takes before it decides."""
        return len(self.stream) - len(self.unread)


@dataclass(frozen=True)
class Conversation:
    """
    The good conversation.

    Attributes:
        parts: Each side's part.
        turns: Who says what.
        steady: Whether every run says the same bytes.
        seconds: How long one run takes.
    """

    parts: Mapping[str, Part]
    turns: tuple[Turn, ...]
    steady: bool
    seconds: float


def learn(cast: Cast) -> Conversation:
    """
    Listen to the good conversation.

    Raises:
        NotApplicable: If there is nobody to talk to, or a Deferred is awaited that does not fire.
        NoConversation: If it does not end in an ``Accept`` on every side.
    """
    names = [name for name in SIDES if name in cast.sides]
    if not names:
        raise NotApplicable("it has neither serve nor connect")
    if len(names) == 1 and not cast.script and not _decides_alone(cast, names[0]):
        missing = "serve" if other(names[0]) == "server" else "connect"
        raise NotApplicable(f"it has no {missing}; give --client SPEC or --conversation FILE")
    parts = {name: _part(cast, name) for name in names}
    runs, quickest = [], float("inf")
    for _ in range(RUNS):
        began = perf_counter()
        side = cast.player(names[0])
        said = meet(side, cast.partner_of(names[0]))
        quickest = min(quickest, perf_counter() - began)
        runs.append(tuple((names[0] if own else other(names[0]), data) for own, data in said))
    return Conversation(parts, runs[0], all(each == runs[0] for each in runs), quickest)


class NoConversation(Exception):
    """Even where nothing goes wrong it does not end as it should."""

    def __init__(self, words: str, heard: list[bytes]) -> None:
        super().__init__(words)
        self.heard = heard


def told(outcome: object) -> str:
    """An outcome for a person to read."""
    if isinstance(outcome, BaseException):
        return f"{type(outcome).__name__}: {outcome}"
    return "no outcome" if outcome is None else repr(outcome)


def _decides_alone(cast: Cast, name: str) -> bool:
    """Whether a side needs to hear nothing."""
    return isinstance(cast.player(name).outcome, Accept)


def _part(cast: Cast, name: str) -> Part:
    verbs: set[str] = set()
    side = cast.sides[name]

    async def listened_to(peer: Peer) -> Any:
        # To all but the handshake this is the peer itself.
        listening: Any = _Listening(peer, verbs)
        return await side(listening)

    player = Player(listened_to, cast.facts.get(name, NO_FACTS), cast.clock)
    meet(player, cast.partner_of(name), Staying(), leave=False)
    needs_end = not player.over
    if needs_end:
        player.hear_end()
    exchange = player.exchange
    if exchange.deferred is not None:
        raise NotApplicable(
            f"its {name} awaits a Deferred that nothing here fires; give a clock= that it follows"
        )
    if not isinstance(exchange.outcome, Accept):
        raise NoConversation(f"its {name} ends in {told(exchange.outcome)}", player.heard)
    return Part(
        exchange.outcome,
        tuple(player.heard),
        player.sent,
        exchange.unread(),
        frozenset(verbs),
        needs_end,
        tuple(player.waits),
        "start_tls" in verbs,
    )


class _Listening:
    """Stands before a peer, and notes with which verbs it is read."""

    def __init__(self, peer: Peer, verbs: set[str]) -> None:
        self._peer, self._verbs = peer, verbs

    def __getattr__(self, name: str) -> Any:
        self._verbs.add(name)
        return getattr(self._peer, name)


def script_from_hex(text: str) -> tuple[Turn, ...]:
    """
    Read a conversation from lines like ``client 73 65 73 61 6d 65 0a``.

    Empty lines, and what follows ``#``, are for people.

    Raises:
        ConfigurationError: If a line is not like that.
    """
    turns = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        try:
            turns.append((words[0], bytes.fromhex("".join(words[1:]))))
        except ValueError:
            words = [""]
        if words[0] not in SIDES:
            raise ConfigurationError(
                f"line {number} is no turn of a conversation; write it like client 73 65 73 0a"
            )
    return tuple(turns)
