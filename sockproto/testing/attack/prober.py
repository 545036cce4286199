"""
The honest client, who is the judge.

A visit is what one person does: connect, say the word, get the answer; and if there is none, try
again a second later, five times in all. Visits begin at a fixed pace, whether or not those before
them are over. Otherwise a server that keeps its visitors waiting would be asked less often while it
does, and its failures would count for less than its successes.
"""

from __future__ import annotations

import os
import socket
import time
from dataclasses import dataclass, field
from errno import ECONNREFUSED, ECONNRESET, EPIPE, ETIMEDOUT

from sockproto.testing.attack.attackers import PENDING, open_socket
from sockproto.testing.attack.loop import ENDED, IN, OUT, Loop
from sockproto.testing.attack.plan import Plan, addresses

SERVED = "served"

TROUBLE = {
    ECONNREFUSED: "refused",
    ECONNRESET: "reset",
    EPIPE: "reset",
    ETIMEDOUT: "no answer",
}
"""What a try has come to; by ``errno``."""

SPARE = 10.0
"""Seconds that it goes on for longer than the plan needs, if nobody stops it."""

CLOSED, LATE, WRONG = "closed without an answer", "no answer", "another answer"


@dataclass(slots=True)
class Try:
    """
    One try of a visit.

    Attributes:
        began: When, by :func:`time.monotonic`.
        took: Seconds until its end.
        came_to: ``served``, or what went wrong.
    """

    began: float
    took: float = 0.0
    came_to: str = ""


@dataclass(slots=True)
class Visit:
    """
    One visit.

    Attributes:
        tries: All of its tries, in order.
    """

    tries: list[Try] = field(default_factory=list)

    @property
    def began(self) -> float:
        """When its first try began."""
        return self.tries[0].began

    @property
    def served(self) -> bool:
        """Whether it got its answer in the end."""
        return self.tries[-1].came_to == SERVED

    @property
    def served_at_once(self) -> bool:
        """Whether its first try did."""
        return self.tries[0].came_to == SERVED


class Prober:
    """
    Pays its visits, until it is told to stop.

    Args:
        plan: Whom it visits, how often, and what it says and expects.
        loop: What tells it.

    Attributes:
        visits: Those that are over.
    """

    def __init__(self, plan: Plan, loop: Loop) -> None:
        self.plan = plan
        self.loop = loop
        self.visits: list[Visit] = []
        self._sources = addresses(plan.prober_sources)
        self._begun = 0
        self._stopping = False

    def start(self) -> None:
        """Begin the first visit."""
        self._next = self.loop.now
        plan = self.plan
        whole = plan.quiet + plan.duration + plan.after
        # It is stopped from outside, before that.
        self.loop.call_at(self._next + whole + SPARE, self.finish)
        self._visit()

    def finish(self) -> None:
        """Begin no more visits, and end the loop with the last one."""
        self._stopping = True
        self._look_whether_over()

    def _visit(self) -> None:
        if self._stopping:
            return
        source = self._sources[self._begun % len(self._sources)]
        self._begun += 1
        _Attempt(self, Visit(), source)
        self._next += self.plan.probe_every
        self.loop.call_at(self._next, self._visit)

    def over(self, visit: Visit) -> None:
        """A visit has come to its end."""
        self.visits.append(visit)
        self._look_whether_over()

    def _look_whether_over(self) -> None:
        if self._stopping and len(self.visits) == self._begun:
            self.loop.stop()


class _Attempt:
    """One try, from its connection to its end."""

    def __init__(self, prober: Prober, visit: Visit, source: str) -> None:
        self._prober = prober
        self._visit = visit
        self._source = source
        self._answer = b""
        self._connected = False
        # Not the loop's time, which is that of the turn: this one is measured with.
        self._try = Try(time.monotonic())
        visit.tries.append(self._try)
        plan, loop = prober.plan, prober.loop
        try:
            self._socket = open_socket(source)
            status = self._socket.connect_ex((plan.host, plan.port))
        except OSError as error:
            self._settle(_trouble(error.errno))
            return
        if status and status not in PENDING:
            self._socket.close()
            self._settle(_trouble(status))
            return
        loop.watch(self._socket.fileno(), OUT, self._told)
        loop.call_at(self._try.began + plan.try_timeout, self._late)

    def _told(self, events: int) -> None:
        try:
            if not self._connected:
                error = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                if error:
                    raise OSError(error, os.strerror(error))
                self._connected = True
                if self._prober.plan.send:
                    self._socket.send(self._prober.plan.send)
                self._prober.loop.change(self._socket.fileno(), IN)
            elif events & (IN | ENDED):
                self._hear()
        except OSError as error:
            self._end(_trouble(error.errno))

    def _hear(self) -> None:
        data = self._socket.recv(4096)
        self._answer += data
        expected = self._prober.plan.expect
        if self._answer.startswith(expected):
            self._end(SERVED)
        elif not expected.startswith(self._answer):
            self._end(WRONG)
        elif not data:
            self._end(CLOSED)

    def _late(self) -> None:
        if not self._try.came_to:
            self._end(LATE)

    def _end(self, came_to: str) -> None:
        took = time.monotonic() - self._try.began
        self._prober.loop.forget(self._socket.fileno())
        self._socket.close()
        self._settle(came_to, took)

    def _settle(self, came_to: str, took: float = 0.0) -> None:
        self._try.came_to, self._try.took = came_to, took
        prober, visit = self._prober, self._visit
        if came_to == SERVED or len(visit.tries) == prober.plan.tries:
            prober.over(visit)
            return
        again = max(self._try.began + prober.plan.try_after, prober.loop.now)
        prober.loop.call_at(again, lambda: _Attempt(prober, visit, self._source))


def _trouble(number: int | None) -> str:
    return TROUBLE.get(number or 0) or os.strerror(number or 0).lower()
