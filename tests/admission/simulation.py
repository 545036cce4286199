"""
A crowd that holds the slots and comes back for ever, and how everybody else fares meanwhile.

Thousands of addresses hold one connection each, and come back a moment after it was closed. No cap
on what one source may have stops them, so penalties have to. The entrance is the real
:class:`~sockproto.admission.control.AdmissionControl`; only time and chance are not. Somebody
honest, from an address of their own, tries five times, a second apart: how likely that is to
succeed follows from the verdicts, so it is computed and not tried. Behind one more address are 50
people of whom one in twenty is clumsy, and forgets to say anything; they are tried.

This prints the tables of docs/explanation/penalties.rst::

    python -m tests.admission.simulation
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count
from math import prod
from random import Random

from sockproto.admission.contract import Ticket
from sockproto.admission.control import AdmissionControl
from sockproto.admission.penalties import Penalties
from sockproto.admission.policy import Policy
from sockproto.core.facts import Address
from sockproto.limits import DEFAULT_LIMITS
from sockproto.transport.gate import JITTER

Actor = Iterator[float]
"""Somebody who does something, and says for how many seconds nothing will follow."""

Strategy = Callable[["World", float], tuple[float, str, bool]]
"""Of a given patience: how long a slot is held, how that ends, and whether in silence."""

STRANGER = Address.ip("198.51.100.1", 1)
SHARED = Address.ip("203.0.113.1", 1)

CROWD = 2000
NEIGHBOURS = 50
CLUMSY = 1 / 20
EVERY = 60.0
"""Seconds from one visit of a neighbour to the next, on an average."""

TRIES = 5
STEP = 0.1
"""Seconds from one look of the judge to the next; the tries are ten looks apart."""

SECONDS = 120.0


class World:
    """An entrance in virtual time, and those who go in and out."""

    def __init__(self, penalties: Penalties | None, seed: int = 1) -> None:
        self.now = 0.0
        self.random = Random(seed)
        self.control = AdmissionControl(
            Policy(penalties=penalties), seconds=lambda: self.now, random=self.random.random
        )
        self.chances: list[float] = []
        self.visits: list[bool] = []
        self._agenda: list[tuple[float, int, Actor]] = []
        self._serial = count()

    def enter(self, actor: Actor) -> None:
        """Somebody begins."""
        heappush(self._agenda, (self.now, next(self._serial), actor))

    def run(self, until: float) -> None:
        """Let everybody do what they do."""
        while self._agenda and self._agenda[0][0] < until:
            self.now, _, actor = heappop(self._agenda)
            wait = next(actor, None)
            if wait is not None:
                heappush(self._agenda, (self.now + wait, next(self._serial), actor))


# Who there is


def one_of_a_crowd(world: World, address: Address, strategy: Strategy, pause: float) -> Actor:
    """Hold a slot, and come back; a refusal is an ending as well."""
    yield world.random.random() / 2
    while True:
        ticket = world.control.admit(address)
        if not isinstance(ticket, str):
            yield from hold(world, ticket, strategy)
        yield pause * (1 + world.random.random() / 10)


def hold(world: World, ticket: Ticket, strategy: Strategy) -> Actor:
    """Keep a slot for as long as a strategy says, and leave it in the way that it says."""
    held, reason, silent = strategy(world, ticket.patience)
    yield held
    ticket.settled(reason, silent=silent)
    ticket.release()


def judge(world: World) -> Actor:
    """Note how likely it is that a stranger would be admitted right now."""
    while True:
        world.chances.append(prod(1 - each.odds for each in world.control.verdicts(STRANGER)))
        yield STEP


def neighbour(world: World) -> Actor:
    """Come now and then, and try up to five times; but in one visit of twenty, say nothing."""
    yield world.random.random() * EVERY
    while True:
        if world.random.random() < CLUMSY:
            ticket = world.control.admit(SHARED)
            if not isinstance(ticket, str):
                yield from hold(world, ticket, says_nothing)
        else:
            for tries_left in reversed(range(TRIES)):
                ticket = world.control.admit(SHARED)
                if not isinstance(ticket, str):
                    ticket.settled("accepted")
                    ticket.release()
                    break
                if tries_left:
                    yield 1.0
            world.visits.append(not isinstance(ticket, str))
        yield world.random.expovariate(1 / EVERY)


def time_of(world: World, patience: float) -> float:
    """How long a handshake may last in all, as the gate has it."""
    return DEFAULT_LIMITS.handshake_timeout * (1 + JITTER * world.random.random()) * patience


def says_nothing(world: World, patience: float) -> tuple[float, str, bool]:
    """Wait for the idle clock, or the other if that is sooner."""
    return min(DEFAULT_LIMITS.idle_timeout, time_of(world, patience)), "timeout", True


def drips(world: World, patience: float) -> tuple[float, str, bool]:
    """Send a byte now and then, and wait for the handshake's clock."""
    return time_of(world, patience), "timeout", False


def leaves_in_time(world: World, patience: float) -> tuple[float, str, bool]:
    """Say nothing, and be gone just before the clock has run out."""
    held, _, silent = says_nothing(world, patience)
    return held - 0.1, "probe", silent


# What comes of it


@dataclass
class Outcome:
    """
    How everybody fared.

    Attributes:
        chances: How likely a stranger was to be admitted, every tenth of a second.
        visits: Whether a neighbour was served who was not clumsy.
    """

    chances: list[float] = field(repr=False)
    visits: list[bool] = field(repr=False)

    def honest(self, start: float, end: float) -> float:
        """How likely somebody honest who comes between these times is served."""
        apart = round(1 / STEP)
        told = [
            1 - prod(1 - self.chances[at + apart * each] for each in range(TRIES))
            for at in range(round(start / STEP), round(end / STEP))
        ]
        return sum(told) / len(told)

    @property
    def neighbours(self) -> float:
        """The part of the neighbours' visits that were served."""
        return sum(self.visits) / len(self.visits)


def simulate(
    penalties: Penalties | None,
    strategy: Strategy = says_nothing,
    pause: float = 1.0,
    *,
    crowd: int = CROWD,
    seconds: float = SECONDS,
    seed: int = 1,
) -> Outcome:
    """
    See what comes of a crowd.

    Args:
        penalties: What endings cost, or None.
        strategy: What the crowd does with a slot.
        pause: Seconds after which each of them comes back.
        crowd: How many addresses it has.
        seconds: For how long; a judged visit has to begin four seconds before the end.
        seed: Of chance.
    """
    world = World(penalties, seed)
    world.enter(judge(world))
    for number in range(crowd):
        address = Address.ip(f"10.0.{number // 250}.{number % 250}", 1)
        world.enter(one_of_a_crowd(world, address, strategy, pause))
    for _ in range(NEIGHBOURS):
        world.enter(neighbour(world))
    world.run(seconds)
    return Outcome(world.chances, world.visits)


CHOSEN = Penalties()
LONG = Penalties(held=0.0, silence=60.0, deadline=60.0)
CANDIDATES: dict[str, Penalties | None] = {
    "no penalties": None,
    "1 s for silence, 10 s for a deadline": Penalties(held=0.0),
    "60 s for either": LONG,
    "1 s and 10 s, and up to 30 s for each second in a slot": CHOSEN,
}
STRATEGIES: dict[str, Strategy] = {
    "says nothing": says_nothing,
    "sends a byte now and then": drips,
    "leaves just in time": leaves_in_time,
}
PAUSES = (0.1, 1.0, 5.0)


def shown(part: float) -> str:
    """A part of the whole, for a table."""
    return f"{part:.1%}".replace("%", " %")


def row(penalties: Penalties | None, strategy: Strategy) -> list[str]:
    """By pause: over the first minute, and at its end."""
    cells = []
    for pause in PAUSES:
        outcome = simulate(penalties, strategy, pause, seconds=66.0)
        cells.append(f"{shown(outcome.honest(0, 60))}, {shown(outcome.honest(55, 60))}")
    return cells


def candidates() -> Iterator[list[str]]:
    """The first table: each of the candidates against a crowd that says nothing."""
    for name, penalties in CANDIDATES.items():
        yield [name, *row(penalties, says_nothing)]


def neighbourhood() -> Iterator[list[str]]:
    """The second: the neighbours, for five minutes in quiet and five under attack."""
    for name, penalties in CANDIDATES.items():
        quiet, loud = (
            [simulate(penalties, crowd=crowd, seconds=300.0, seed=seed) for seed in (1, 2, 3)]
            for crowd in (0, CROWD)
        )
        yield [
            name,
            *(shown(sum(each.neighbours for each in runs) / len(runs)) for runs in (quiet, loud)),
        ]


def strategies() -> Iterator[list[str]]:
    """The third: what was chosen, against whatever a crowd may do."""
    for name, strategy in STRATEGIES.items():
        yield [name, *row(CHOSEN, strategy)]
    yield ["leaves just in time, at 60 s for either", *row(LONG, leaves_in_time)]


if __name__ == "__main__":
    for table in (candidates(), neighbourhood(), strategies()):
        for cells in table:
            print(" | ".join(cells))
        print()
