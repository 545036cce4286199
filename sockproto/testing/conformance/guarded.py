"""A side behind the real gate, on a transport in memory and in virtual time."""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock

from sockproto.core.facts import NO_FACTS
from sockproto.core.handshake import Side
from sockproto.core.outcomes import Accept
from sockproto.events import ConnectionEnded, Event, HandshakeEnded
from sockproto.limits import DEFAULT_LIMITS, Limits
from sockproto.testing.conformance.networks import Network
from sockproto.testing.conformance.results import Fault
from sockproto.testing.conformance.stage import MAX_WAKES, SERVER, meet
from sockproto.testing.conformance.subject import Subject
from sockproto.testing.memory import MemoryConnection
from sockproto.transport.gate import Gate
from sockproto.transport.terms import Terms
from sockproto.transport.wire import TransportWire


class Recorder(Protocol):
    """A session that keeps what it hears."""

    def __init__(self) -> None:
        self.heard = b""
        self.accepted: Accept | None = None
        self.lost = False

    def handshake_accepted(self, accept: Accept) -> None:
        """It is about to begin."""
        self.accepted = accept

    def dataReceived(self, data: bytes) -> None:
        self.heard += data

    def connectionLost(self, reason: Any = None) -> None:
        self.lost = True


class Sessions(Factory):
    """A factory that keeps its sessions."""

    noisy = False

    def __init__(self) -> None:
        self.built: list[Recorder] = []

    def buildProtocol(self, addr: Any) -> Recorder:
        """Build one, and keep it."""
        session = Recorder()
        self.built.append(session)
        return session


class Tickets:
    """An admission that keeps count; or refuses everybody."""

    waived = None

    def __init__(self, refusal: str | None = None, patience: float = 1.0) -> None:
        self.refusal, self.patience = refusal, patience
        self.settled_as: list[str] = []
        self.released = 0

    def admit(self, address: Any, **facts: Any) -> Any:
        """Let one in, or not."""
        return self.refusal or self

    def settled(self, reason: str, **more: Any) -> None:
        """There is a verdict."""
        self.settled_as.append(reason)

    def release(self) -> None:
        """It is gone."""
        self.released += 1


class Guarded:
    """
    A side of the subject behind a gate.

    Args:
        subject: The handshake.
        name: Which side.
        sessions: What follows an ``Accept``.
        limits, admission: As at every entrance.
        side: The side, if another one is meant than the subject's.
    """

    wants_tls = False

    def __init__(
        self,
        subject: Subject,
        name: str,
        sessions: Sessions | None = None,
        *,
        limits: Limits = DEFAULT_LIMITS,
        admission: Any = None,
        side: Side | None = None,
    ) -> None:
        self.heard: list[bytes] = []
        self.ended = False
        self.name = name
        self.clock = subject.cast.clock or Clock()
        self.events: list[Event] = []
        offered: Any = sessions
        if sessions is not None and subject.sessions:
            offered = dict.fromkeys(subject.sessions, sessions)
        self.terms = Terms(
            side or subject.cast.sides[name],
            offered,
            serving=name == SERVER,
            limits=limits,
            admission=admission,
            observers=[self.events.append],
            clock=_as_time(self.clock),
        )
        facts = subject.cast.facts.get(name, NO_FACTS)
        unknown: Any = None
        self.gate = Gate(self.terms, unknown, facts)
        self.wire = TransportWire(self.terms, self.gate)
        self.gate.move_to(self.wire)
        self.connection = MemoryConnection(self.wire)
        self._taken = 0
        self._may_wake = subject.cast.clock is not None
        self.gate.open()
        self._settle()

    # As an actor

    def hear(self, data: bytes) -> None:
        """The peer says something."""
        self.heard.append(data)
        self.connection.send(data)
        self._settle()

    def hear_end(self) -> None:
        """The peer finishes."""
        self.ended = True
        self.connection.send_eof()
        self._settle()

    def take(self) -> bytes:
        """What the peer has got since the last time this was asked."""
        received = self.connection.received
        data = received[self._taken :]
        self._taken = len(received)
        return data

    @property
    def over(self) -> bool:
        """Whether the peer has found an end."""
        return self.connection.lost or self.connection.goodbye != "open"

    def start_tls(self) -> None:
        """There is none here."""

    def _settle(self) -> None:
        """Do what the reactor would; time passes while the handshake waits for a Deferred."""
        self.connection.settle()
        for _ in range(MAX_WAKES):
            exchange = self.gate._exchange
            if not self._may_wake or exchange is None or exchange.deferred is None:
                return
            self.clock.advance(0.25)
            self.connection.settle()

    # What came of it

    @property
    def verdicts(self) -> list[HandshakeEnded]:
        """The verdicts, of which there may be one."""
        return [each for each in self.events if isinstance(each, HandshakeEnded)]

    @property
    def endings(self) -> list[ConnectionEnded]:
        """The endings, of which there may be one."""
        return [each for each in self.events if isinstance(each, ConnectionEnded)]

    @property
    def reason(self) -> str | None:
        """The verdict's reason; None before it."""
        return self.verdicts[0].reason if self.verdicts else None

    def pass_time(self, seconds: float, step: float = 0.25) -> None:
        """Let time pass, in steps that are shorter than anybody's patience."""
        for _ in range(round(seconds / step)):
            if self.connection.lost:
                return
            self.clock.advance(step)
            self.connection.settle()

    def finish(self, title: str) -> None:
        """
        Have the peer go, and see to it that nothing is left.

        Raises:
            Fault: If it did not end exactly once.
        """
        if not self.connection.lost:
            self.hear_end()
        self.pass_time(2 * self.terms.limits.handshake_timeout)
        counts = len(self.verdicts), len(self.endings)
        if counts != (1, 1):
            raise Fault(
                f"{title} has {counts[0]} verdicts and {counts[1]} endings, instead of one each",
                self.heard,
            )
        if self.terms.live or len(self.terms.deadlines):
            raise Fault(f"{title} leaves something behind in the gate", self.heard)


def converse_behind_gate(
    subject: Subject,
    name: str,
    network: Network | None = None,
    sessions: Sessions | None = None,
    **terms: Any,
) -> Guarded:
    """Have a side talk to its partner through the gate."""
    guarded = Guarded(subject, name, sessions, **terms)
    meet(guarded, subject.cast.partner_of(name), network, leave=False)
    return guarded


def _as_time(clock: Any) -> IReactorTime:
    time: IReactorTime = clock
    return time
