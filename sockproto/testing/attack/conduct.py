"""An attack from beginning to end: quiet, attack, and what comes after."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from math import inf

from sockproto.core.errors import ConfigurationError
from sockproto.testing.attack.child import Child, see_that_there_is_room
from sockproto.testing.attack.household import Figures, Household
from sockproto.testing.attack.phases import last_part, phase, recovery, slices
from sockproto.testing.attack.plan import Plan, addresses
from sockproto.testing.attack.prober import Visit
from sockproto.testing.attack.report import Report, Taken
from sockproto.testing.attack.tally import Tally

LOOK_EVERY = 0.5
"""Seconds between two looks at what a server takes."""


def run(
    plan: Plan,
    *,
    command: str | None = None,
    household: Household | None = None,
    say: Callable[[str], object] = lambda sentence: None,
) -> Report:
    """
    Attack a server, with an honest client beside it; blocks until it is over.

    Args:
        plan: What is done.
        command: What starts the server; it is stopped afterwards. Unless given, it runs already.
        household: A server that was started before, if what it takes is to be reported.
        say: Is told what happens now.

    Raises:
        ConfigurationError: If the command fails, or nobody is served before there is any attack.
    """
    # Said before anything is started.
    see_that_there_is_room(plan.connections)
    started = Household(command, plan.port) if command is not None else nullcontext(household)
    with started as server:
        see_that_it_serves(plan)
        with _child("prober", plan) as prober, _child("crew", plan) as crew:
            for each in (prober, crew):
                each.wait_until_ready()
            watch = _Watch(server)
            say(f"{plan.quiet:g} s of quiet")
            start = time.monotonic()
            prober.begin()
            watch.pass_time(plan.quiet)
            watch.note_what_was_before()
            say(f"{plan.kind}: {plan.connections:,} at once, for at most {plan.duration:g} s")
            attacked = time.monotonic()
            crew.begin()
            watch.pass_time(plan.duration, crew)
            crew.stop()
            tally: Tally = crew.result()
            ended = time.monotonic()
            watch.look()
            say(f"{plan.after:g} s afterwards")
            watch.pass_time(plan.after)
            prober.stop()
            visits: list[Visit] = prober.result()
            taken = watch.taken()
    return Report(
        plan=plan,
        quiet=phase("quiet", visits, start, attacked),
        attack=phase("attack", visits, attacked, ended, plan.patience),
        end=phase("at its end", visits, *last_part(attacked, ended, plan.patience)),
        after=phase("after", visits, ended, inf),
        slices=slices(visits, attacked, ended, plan.patience),
        recovery=recovery(visits, ended),
        lasted=ended - attacked,
        tally=tally,
        taken=taken,
    )


def see_that_it_serves(plan: Plan) -> None:
    """
    Visit once, and wait for the answer.

    Raises:
        ConfigurationError: If it is none, or another one.
    """
    heard = b""
    try:
        with socket.create_connection(
            (plan.host, plan.port), plan.try_timeout, (addresses(plan.prober_sources)[0], 0)
        ) as client:
            client.sendall(plan.send)
            while not heard.startswith(plan.expect) and plan.expect.startswith(heard):
                data = client.recv(4096)
                if not data:
                    break
                heard += data
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
    else:
        if heard.startswith(plan.expect):
            return
        reason = f"the answer is {heard[:80]!r}, expected {plan.expect!r}"
    raise ConfigurationError(
        f"{plan.host}:{plan.port} does not serve the honest client, before any attack: {reason}; "
        "is it up, and are --send and --expect its words?"
    )


class _Watch:
    """Looks at a server now and then, while the time passes."""

    def __init__(self, household: Household | None) -> None:
        self._household = household
        self._before: Figures | None = None
        self._most: Figures | None = None
        self._last: Figures | None = None

    def pass_time(self, seconds: float, until: Child | None = None) -> None:
        """
        Let so much time pass, or less if somebody has enough before.

        Raises:
            ConfigurationError: If the server has ended.
        """
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            step = min(left, LOOK_EVERY)
            if until is None:
                time.sleep(step)
            elif until.waits(step):
                return
            self.look()

    def look(self) -> None:
        """Look now."""
        if self._household is None:
            return
        if self._household.has_ended():
            raise ConfigurationError(f"the server has ended: {self._household.last_line()}")
        self._last = now = self._household.figures()
        self._most = now if self._most is None else _larger(self._most, now)

    def note_what_was_before(self) -> None:
        """What it takes now is what it takes in quiet."""
        self._most = None
        self.look()
        self._before = self._last

    def taken(self) -> Taken | None:
        """What it took before, at most, and in the end."""
        self.look()
        if self._before is None or self._most is None or self._last is None:
            return None
        return Taken(self._before, self._most, self._last)


def _larger(one: Figures, other: Figures) -> Figures:
    return Figures(
        max(one.memory, other.memory),
        max(one.cpu, other.cpu),
        max(one.descriptors, other.descriptors),
        max(one.processes, other.processes),
    )


@contextmanager
def _child(role: str, plan: Plan) -> Iterator[Child]:
    child = Child(role, plan)
    try:
        yield child
    finally:
        child.discard()
