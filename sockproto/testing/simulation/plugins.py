"""The handshakes and the sessions of a world: good ones, slow ones, and some that break."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import Clock, deferLater
from twisted.python.failure import Failure
from zope.interface import implementer

from sockproto.core.outcomes import Accept, Reject
from sockproto.core.peer import Peer
from sockproto.testing.simulation.dice import Dice

YES, REPLY, SORRY = b"yes", b"OK\n", b"NO\n"

_PASSIVE = ("line", "line", "exactly", "say", "say much", "sleep")
BREAKS = ("raise", "fail", "hang", "none")


@dataclass(frozen=True)
class Step:
    """
    One thing that a handshake does.

    Attributes:
        kind: What it is: one of ``line``, ``exactly``, ``say``, ``say much``, ``sleep``, and of
            ``raise``, ``fail``, ``hang`` and ``none``, which break.
        size: How many bytes, or seconds.
    """

    kind: str
    size: int


def steps_of(dice: Dice) -> tuple[Step, ...]:
    """A handshake, as its steps; at least one of them listens."""
    steps = [Step(dice.pick(_PASSIVE), 1 + dice.below(5)) for _ in range(dice.below(4))]
    steps.append(Step("line", 0))
    if dice.chance(0.15):
        steps[dice.below(len(steps))] = Step(dice.pick(BREAKS), 1)
    return tuple(steps)


def good_words(steps: tuple[Step, ...]) -> bytes:
    """What a peer has to say to be accepted."""
    return b"".join(
        YES + b"\n" if each.kind == "line" else b"x" * each.size
        for each in steps
        if each.kind in ("line", "exactly")
    )


def words_for(step: Step) -> bytes:
    """What the handshake says at this step."""
    if step.kind == "say":
        return b"?" * step.size
    return b"!" * 20_000 * step.size if step.kind == "say much" else b""


class Staged:
    """
    A handshake that does one step after the other.

    Args:
        steps: The steps.
        clock: For those that take time.

    Attributes:
        accepted: The ports of the peers that it has accepted.
    """

    def __init__(self, steps: tuple[Step, ...], clock: Clock) -> None:
        self._steps, self._clock = steps, clock
        self.accepted: set[int | None] = set()

    async def serve(self, peer: Peer) -> Accept | Reject | None:
        """Do the steps, and accept who has said ``yes`` to all that were asked."""
        good = True
        for step in self._steps:
            kind = step.kind
            if kind == "line":
                good &= await peer.receive_line(64) == YES
            elif kind == "exactly":
                await peer.receive_exactly(step.size)
            elif kind == "sleep":
                await deferLater(self._clock, step.size, lambda: None)
            elif kind == "fail":
                await deferLater(self._clock, step.size, _break)
            elif kind == "raise":
                _break()
            elif kind == "hang":
                await Deferred()
            elif kind == "none":
                return None
            else:
                peer.send(words_for(step))
        if not good:
            return Reject(SORRY, reason="not yes")
        self.accepted.add(peer.address.port)
        return Accept(REPLY)


class Planned(Exception):
    """What breaks because it was told to; anything else that is raised in a world is a find."""


def _break() -> None:
    raise Planned("it breaks, as it was told")


class Sessions(Factory):
    """
    Builds a session for each peer, or declines.

    Args:
        temper: What its sessions do: ``echo``; ``close`` after some bytes; ``break`` at once, or
            ``break late``; or ``decline``.
        half_close: Whether they go on talking after the peer has finished.

    Attributes:
        built: The sessions so far, by the port of their peer.
    """

    noisy = False

    def __init__(self, temper: str, half_close: bool) -> None:
        self._temper = temper
        self._kind = HalfClosingSession if half_close else Session
        self.built: dict[int, Session] = {}

    def buildProtocol(self, addr: Any) -> Session | None:
        if self._temper == "decline":
            return None
        session = self._kind(self._temper)
        self.built[addr.port] = session
        return session


class Session(Protocol):
    """Sends back what it hears, until its temper takes over."""

    transport: Any

    def __init__(self, temper: str) -> None:
        self.temper = temper
        self.heard = b""
        self.begun = self.over = False

    def connectionMade(self) -> None:
        self.begun = True
        if self.temper == "break":
            _break()

    def dataReceived(self, data: bytes) -> None:
        self.heard += data
        if self.temper == "break late":
            _break()
        self.transport.write(data)
        if self.temper == "close" and len(self.heard) > 3:
            self.transport.loseConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.over = True


@implementer(IHalfCloseableProtocol)
class HalfClosingSession(Session):
    """Says goodbye of its own accord when the peer has finished."""

    def readConnectionLost(self) -> None:
        self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        pass
