"""One world: made from a seed, it lives through its virtual time, and is held to its promises."""

from __future__ import annotations

import random
from heapq import heappop, heappush
from typing import Any

from twisted.internet.task import Clock

from sockproto.admission.control import AdmissionControl
from sockproto.admission.early_drop import EarlyDrop
from sockproto.admission.networks import Networks
from sockproto.admission.penalties import Penalties
from sockproto.admission.policy import Policy
from sockproto.events import ConnectionEnded, ConnectionOpened, Event, HandshakeEnded
from sockproto.limits import Limits
from sockproto.testing.simulation.dice import Dice
from sockproto.testing.simulation.peers import Peer, peer_of
from sockproto.testing.simulation.plugins import Sessions, Staged, steps_of
from sockproto.testing.simulation.promises import (
    Broken,
    check_bytes,
    check_caps,
    check_deadlines,
    check_duration,
    check_events,
    check_sessions,
    check_verdict,
    expect,
)
from sockproto.transport.server import ServerFactory

_TEMPERS = ("echo", "echo", "echo", "close", "break", "break late", "decline")


class World:
    """
    A server and those who come to it.

    Args:
        seed: Makes all of it.

    Attributes:
        trace: What has happened, a line for each thing.
        peers: Those who come.
    """

    def __init__(self, seed: int) -> None:
        # The jitter of the deadlines is drawn from everybody's source.
        random.seed(seed)
        dice = Dice(seed)
        self.trace: list[str] = []
        self._clock = clock = Clock()
        self._steps = steps = steps_of(dice)
        self._handshake = Staged(steps, clock)
        self._limits = Limits(
            idle_timeout=dice.pick((1.0, 2.0, 5.0)),
            handshake_timeout=dice.pick((2.0, 5.0, 10.0)),
            close_timeout=dice.pick((1.0, 3.0)),
            max_handshake_bytes=dice.pick((64, 4096)),
        )
        self._policy = Policy(
            exempt=Networks(),
            max_connections=dice.pick((None, 2, 3)),
            max_pending=dice.pick((None, EarlyDrop(1, 50, 3))),
            max_pending_per_source=dice.pick((None, 1, 2)),
            penalties=dice.pick((None, Penalties())),
        )
        self._control = AdmissionControl(self._policy, seconds=clock.seconds, random=dice.random)
        session = dice.pick(_TEMPERS)
        self._sessions = Sessions(session, dice.chance(0.3)) if dice.chance(0.7) else None
        self._factory = ServerFactory(
            self._handshake,
            self._sessions,
            limits=self._limits,
            admission=self._control,
            observers=[self._observe],
            clock=clock,
        )
        self.peers = [peer_of(dice, 1 + each, steps) for each in range(1 + dice.below(4))]
        self._stop_at = dice.pick((30.0, 30.0, 4.0, 0.5, 0.0))
        self._events: dict[int, list[Event]] = {}
        self._let_in: set[int] = set()

    def live(self) -> None:
        """
        Let everything happen.

        Raises:
            Broken: If a promise is not kept.
        """
        factory, clock = self._factory, self._clock
        factory.doStart()
        agenda: list[tuple[float, int, Peer | None, Any]] = [(self._stop_at, -1, None, "stop")]
        for peer in self.peers:
            for number, (when, deed) in enumerate(peer.plan):
                heappush(agenda, (when, peer.port * 100_000 + number, peer, deed))
        stopped = False
        while agenda:
            when, _, who, deed = heappop(agenda)
            self._pass_time(when)
            if who is None:
                stopped = True
                self._note("the server stops")
                factory.shut_down()
            elif deed == "connect":
                if not stopped:
                    self._note(f"{who.port} connects")
                    who.connect(factory)
            elif deed != "stay":
                shown = deed if isinstance(deed, str) else f"sends {deed[:20]!r}, {len(deed)} bytes"
                self._note(f"{who.port} {shown}")
                who.do(deed)
            self._settle()
        if not stopped:
            factory.shut_down()
            self._settle()
        bound = self._limits.close_timeout + self._limits.handshake_timeout * 1.1 + 1
        self._pass_time(clock.seconds() + bound)
        factory.doStop()
        self._judge()

    def _pass_time(self, until: float) -> None:
        clock = self._clock
        while True:
            calls = clock.getDelayedCalls()
            due = min((call.getTime() for call in calls), default=until)
            if due >= until:
                break
            clock.advance(max(0.0, due - clock.seconds()))
            self._settle()
        if until > clock.seconds():
            clock.advance(until - clock.seconds())
            self._settle()

    def _settle(self) -> None:
        """Turn the reactor until nobody has anything to do, and look at what must always hold."""
        busy = True
        while busy:
            busy = False
            # All of them, also after one that was busy: nobody is served before the others.
            for peer in self.peers:
                busy |= peer.settle()
        check_caps(self._control, self._policy, len(self._let_in))
        check_deadlines(self._factory.terms, self._clock.seconds())

    def _observe(self, event: Event) -> None:
        assert isinstance(event, ConnectionOpened | HandshakeEnded | ConnectionEnded)
        port = event.address.port or 0
        self._events.setdefault(port, []).append(event)
        said = type(event).__name__
        if isinstance(event, ConnectionOpened):
            # Counted from its admission, which comes before anything else can happen.
            self._let_in.add(port)
        elif isinstance(event, HandshakeEnded):
            check_duration(event, self._limits.handshake_timeout)
            said += f" {event.reason} {event.phase} {event.duration:.6f}"
            if event.reason == "refused" and event.phase == "admission":
                self._let_in.discard(port)
        elif isinstance(event, ConnectionEnded):
            said += f" {event.ending.reason} {event.ending.phase}"
            self._let_in.discard(port)
        self._note(f"{port} {said}")

    def _note(self, what: str) -> None:
        self.trace.append(f"{self._clock.seconds():.6f} {what}")

    def _judge(self) -> None:
        """Hold the world to what it has promised, now that it is over."""
        sessions = {} if self._sessions is None else self._sessions.built
        check_sessions(self._handshake.accepted, sessions)
        for peer in self.peers:
            if peer.connection is None:
                continue
            expect(peer.connection.lost, f"{peer.port} is still connected")
            events = self._events.get(peer.port, [])
            check_events(events)
            verdict = events[1]
            assert isinstance(verdict, HandshakeEnded)
            session = sessions.get(peer.port)
            check_verdict(peer, self._steps, verdict.reason)
            check_bytes(peer, self._steps, session, verdict.reason)
            expect(session is None or not session.begun or session.over, "a session is not told")
            self._note(f"{peer.port} has heard {len(peer.connection.received)} bytes")
        counts = self._control.counts
        slots = (counts.connections, counts.pending, counts.connections_of, counts.pending_of)
        expect(slots == (0, [0, 0], {}, {}), f"slots are left: {slots}")
        expect(not self._factory.terms.live, "connections are left")
        expect(not self._clock.getDelayedCalls(), f"timers are left: {self._clock.calls}")


def story_of(seed: int) -> tuple[int, list[str], str | None]:
    """
    Let the world of a seed live.

    Returns:
        How many have come, what has happened, and which promise was not kept, or None.
    """
    before = random.getstate()
    world = World(seed)
    try:
        world.live()
    except Broken as broken:
        return len(world.peers), world.trace, str(broken)
    except Exception as error:
        # Not from a plug-in, or it would not have got here.
        return len(world.peers), world.trace, f"{type(error).__name__} was raised: {error}"
    finally:
        random.setstate(before)
    return len(world.peers), world.trace, None
