"""
The two ends of a conversation in memory, and what stands between them.

One side is looked at, and heard through a :class:`~.networks.Network` that may do anything to what
reaches it. The other end is the handshake's other side, run live, since a handshake with fresh
nonces says nothing twice; or a script; or somebody who is silent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, Protocol, TypeAlias

from sockproto.core.exchange import MAX_BYTES
from sockproto.core.facts import NO_FACTS, PeerFacts
from sockproto.core.handshake import Outcome, Side
from sockproto.testing.conformance.networks import Network, Piece
from sockproto.testing.conformance.results import Fault
from sockproto.testing.conversation import Run

SERVER, CLIENT = SIDES = ("server", "client")

MAX_TURNS = 10_000
"""Pieces after which a conversation has no end in sight."""

MAX_WAKES = 100
"""How often the clock is moved for one Deferred."""

DEFERRED = "Deferred"
"""How :attr:`Player.waits` calls one, of whatever class it is."""

Turn: TypeAlias = tuple[str, bytes]
"""Who says something, ``server`` or ``client``, and what."""


def other(name: str) -> str:
    """The other end."""
    return CLIENT if name == SERVER else SERVER


class Actor(Protocol):
    """One end of a conversation."""

    heard: list[bytes]

    def hear(self, data: bytes) -> None:
        """The other end has said something."""
        ...

    def hear_end(self) -> None:
        """The other end has finished."""
        ...

    def take(self) -> bytes:
        """What was said since the last time this was asked."""
        ...

    @property
    def over(self) -> bool:
        """Whether it has come to its end."""
        ...

    @property
    def ended(self) -> bool:
        """Whether it knows that the other end has finished."""
        ...

    @property
    def wants_tls(self) -> bool:
        """Whether it waits for TLS."""
        ...

    def start_tls(self) -> None:
        """Both ends have asked for TLS: let this one believe that it is there."""
        ...


class Player(Run):
    """
    A side of a handshake on the stage.

    Args:
        side: ``handshake.serve`` or ``handshake.connect``.
        facts: What is known about the peer.
        clock: Whose time passes while it waits for a Deferred; None if nobody's can.
        max_bytes: Its budget.

    Attributes:
        heard: The pieces that it has heard.
        waits: What it has waited for, in order.
        slowest: The longest that it has kept the thread, in seconds.
    """

    def __init__(
        self,
        side: Side,
        facts: PeerFacts = NO_FACTS,
        clock: Any = None,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        self.heard: list[bytes] = []
        self.waits: list[str] = []
        self.facts = facts
        self.slowest = 0.0
        self._clock = clock
        self._taken = 0
        self._timed(lambda: super(Player, self).__init__(side, facts, max_bytes))

    def hear(self, data: bytes) -> None:
        self.heard.append(data)
        self._timed(lambda: self.receive(data))

    def hear_end(self) -> None:
        self._timed(self.end)

    def break_off(self, error: BaseException) -> None:
        """End it from outside."""
        self._timed(lambda: self.exchange.throw(error))

    def take(self) -> bytes:
        data = self.sent[self._taken :]
        self._taken = len(self.sent)
        return data

    @property
    def over(self) -> bool:
        return self.exchange.outcome is not None

    @property
    def ended(self) -> bool:
        return self.exchange.ended

    @property
    def wants_tls(self) -> bool:
        return self.exchange.wants_tls

    @property
    def outcome(self) -> Outcome | BaseException | None:
        """What has come of it."""
        return self.exchange.outcome

    def _timed(self, step: Callable[[], object]) -> None:
        began = perf_counter()
        step()
        self.slowest = max(self.slowest, perf_counter() - began)
        if self.exchange.deferred is not None:
            self.waits.append(DEFERRED)
        self._wake()
        waiting_on = self.exchange.waiting_on
        if waiting_on is not None:
            self.waits.append(waiting_on)

    def _wake(self) -> None:
        """Let time pass until the Deferred has fired that it waits for."""
        for _ in range(MAX_WAKES):
            calls = self._clock.getDelayedCalls() if self._clock is not None else []
            if self.exchange.deferred is None or not calls:
                return
            self._clock.advance(max(0.0, calls[0].getTime() - self._clock.seconds()))


class Reader:
    """
    Reads one end's part from a script, each line when the other end has had its turn.

    Args:
        name: Whose part.
        script: The whole conversation. Of the other end's lines only the lengths matter here.
    """

    over = wants_tls = False

    def __init__(self, name: str, script: Sequence[Turn] = ()) -> None:
        self.heard: list[bytes] = []
        self.ended = False
        self._name = name
        self._script = list(script)
        self._due = 0

    def hear(self, data: bytes) -> None:
        self.heard.append(data)

    def hear_end(self) -> None:
        self.ended = True

    def take(self) -> bytes:
        while self._script:
            who, data = self._script[0]
            if who == self._name and sum(map(len, self.heard)) < self._due:
                break
            del self._script[0]
            if who == self._name:
                return data
            self._due += len(data)
        return b""

    def start_tls(self) -> None:
        """It reads on."""


class Mirror:
    """Says what it hears."""

    over = wants_tls = False

    def __init__(self) -> None:
        self.heard: list[bytes] = []
        self.ended = False
        self._unsaid = b""

    def hear(self, data: bytes) -> None:
        self.heard.append(data)
        self._unsaid += data

    def hear_end(self) -> None:
        self.ended = True

    def take(self) -> bytes:
        said, self._unsaid = self._unsaid, b""
        return said

    def start_tls(self) -> None:
        """It shows what it is shown."""


@dataclass(frozen=True)
class Cast:
    """
    Who may be put on the stage.

    Attributes:
        sides: The sides that there are, by ``server`` and ``client``.
        facts: What each knows about its peer.
        clock: Whose time passes while one waits for a Deferred; None if nobody's can.
        script: What is said where a side is missing.
    """

    sides: Mapping[str, Side]
    facts: Mapping[str, PeerFacts] = field(default_factory=dict)
    clock: Any = None
    script: tuple[Turn, ...] = ()

    def player(
        self, name: str, *, facts: PeerFacts | None = None, max_bytes: int = MAX_BYTES
    ) -> Player:
        """One of the sides, at its beginning."""
        known = facts or self.facts.get(name, NO_FACTS)
        return Player(self.sides[name], known, self.clock, max_bytes)

    def partner_of(self, name: str) -> Actor:
        """Who talks to a side: the other one, or else the script."""
        there = other(name)
        return self.player(there) if there in self.sides else Reader(there, self.script)

    def meet(self, name: str, network: Network | None = None, **how: Any) -> Player:
        """Have one of the sides talk to its partner, and give that side; see :func:`meet`."""
        player = self.player(name)
        meet(player, self.partner_of(name), network, **how)
        return player


def meet(
    side: Actor, partner: Actor, network: Network | None = None, *, leave: bool = True
) -> list[tuple[bool, bytes]]:
    """
    Have two ends talk until nothing moves any more.

    An end that is over hangs up.

    Args:
        side: The one that is looked at.
        partner: The other one.
        network: What stands before the side.
        leave: Whether the partner leaves when nothing moves any more, so that a side which still
            waits hears of an end.

    Returns:
        What was said: whether it was the side who said it, and what.

    Raises:
        Fault: If they have no end in sight.
    """
    network = network or Network()
    said: list[tuple[bool, bytes]] = []
    hung_up = False

    def bring(pieces: Any) -> None:
        piece: Piece
        for piece in pieces:
            if piece is not None:
                side.hear(piece)
            elif not side.ended:
                side.hear_end()

    bring(network.begin())
    for _ in range(MAX_TURNS):
        if data := side.take():
            said.append((True, data))
            partner.hear(data)
        elif data := partner.take():
            said.append((False, data))
            bring(network.carry(data))
        elif side.over and not partner.ended:
            partner.hear_end()
        elif partner.over and not hung_up:
            hung_up = True
            bring(network.end())
        elif side.wants_tls and (partner.wants_tls or isinstance(partner, Reader)):
            side.start_tls()
            partner.start_tls()
        elif leave and not side.ended:
            side.hear_end()
        else:
            return said
    raise Fault(f"it has talked for {MAX_TURNS} turns, and no end is in sight", side.heard)
