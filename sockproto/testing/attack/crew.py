"""The attackers together: how many there are, how fast they come, and when they have had enough."""

from __future__ import annotations

from collections import deque

from sockproto.testing.attack.attackers import ATTACKERS, Attacker, half_a_hello
from sockproto.testing.attack.loop import Loop
from sockproto.testing.attack.plan import Plan, addresses
from sockproto.testing.attack.tally import Tally

ARRIVALS_A_TURN = 128
"""How many connect before those who are connected get their turn."""

TICK = 0.01
"""Seconds between two looks at who may come, where there is a pace to keep."""

AFTER_FAILURE = 0.1
"""Seconds that an attacker stays away at least when it could not connect."""


class Crew:
    """
    The attackers of a plan.

    Args:
        plan: What they are up to.
        loop: What tells them.

    Attributes:
        tally: What they have done so far.
    """

    def __init__(self, plan: Plan, loop: Loop) -> None:
        self.plan = plan
        self.loop = loop
        self.target = (plan.host, plan.port)
        self.tally = Tally()
        self.half_a_hello = half_a_hello() if plan.kind == "tls-stall" else b""
        kind, pool = ATTACKERS[plan.kind], addresses(plan.sources)
        self._outside = deque(
            kind(self, pool[number % len(pool)], number) for number in range(plan.connections)
        )
        self._inside: set[Attacker] = set()
        self._present = 0
        self._looking = self._over = False

    def start(self) -> None:
        """Let them come, until they have had enough."""
        self._began = self.loop.now
        # It is stopped from outside, too; but its end must not hang on somebody else's word.
        self.loop.call_at(self._began + self.plan.duration, self.finish)
        self._let_come()

    def finish(self) -> None:
        """Have them all go, and nobody come back; once."""
        if self._over:
            return
        self._over = True
        for each in self._inside:
            each.connected = False
            each.go()
        self._inside.clear()
        self.loop.stop()

    def arrived(self) -> None:
        """One is connected."""
        self.tally.connected += 1
        self._present += 1
        self.tally.most = max(self.tally.most, self._present)

    def gone(self, attacker: Attacker) -> None:
        """One is not there any more, and will come back."""
        if self._over:
            return
        self._inside.discard(attacker)
        away = self.plan.return_after
        if attacker.connected:
            attacker.connected = False
            self._present -= 1
        else:
            away = max(away, AFTER_FAILURE)
        if away:
            self.loop.call_at(self.loop.now + away, lambda: self._back(attacker))
        else:
            self._back(attacker)

    def _back(self, attacker: Attacker) -> None:
        self._outside.append(attacker)
        self._look()

    def _look(self, after: float = 0.0) -> None:
        """See who may come in, a little later."""
        if not self._looking:
            self._looking = True
            self.loop.call_at(self.loop.now + after, self._let_come)

    def _let_come(self) -> None:
        """Let some come in; the only place where a descriptor is opened."""
        self._looking = False
        if self._over:
            return
        tally, plan = self.tally, self.plan
        room = min(ARRIVALS_A_TURN, plan.total - tally.attempts, len(self._outside))
        if plan.rate is not None:
            room = min(room, int((self.loop.now - self._began) * plan.rate) - tally.attempts)
        for _ in range(room):
            attacker = self._outside.popleft()
            tally.attempts += 1
            self._inside.add(attacker)
            try:
                attacker.come()
            except OSError:
                tally.failed += 1
                self.gone(attacker)
        if tally.attempts < plan.total:
            if self._outside:
                self._look(0.0 if plan.rate is None else TICK)
        elif not self._inside:
            self.finish()
