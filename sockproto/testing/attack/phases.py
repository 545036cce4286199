"""What the visits of the honest client say of a stretch of time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

from sockproto.testing.attack.prober import SERVED, Visit


@dataclass(frozen=True, slots=True)
class Phase:
    """
    The visits that began in a stretch of time.

    Attributes:
        name: Which one.
        visits: How many there were.
        first_try: Which part of them was served at the first try; None if there were none.
        served: Which part was served at all.
        tries: How many were served at the first try, the second, and so on.
        p50, p99: Seconds that a try took that was served; None if none was.
        trouble: What tries came to that were not, and how often.
    """

    name: str
    visits: int
    first_try: float | None
    served: float | None
    tries: tuple[int, ...]
    p50: float | None
    p99: float | None
    trouble: dict[str, int]


def phase(
    name: str, visits: Sequence[Visit], start: float, end: float, patience: float = 0.0
) -> Phase:
    """
    Sum up the visits that began from ``start`` to ``end``.

    Args:
        name: What the stretch is called.
        visits: All of them.
        start, end: Its bounds, by :func:`time.monotonic`.
        patience: Seconds from the first to the last try. A visit that began later than so long
            before the end may owe its success to the end, and does not count for ``served``, as
            long as there are others that do.
    """
    here = [each for each in visits if start <= each.began < end]
    patient = [each for each in here if each.began < end - patience] or here
    tries = Counter(len(each.tries) for each in here if each.served)
    took = sorted(each.tries[-1].took for each in here if each.served)
    return Phase(
        name,
        len(here),
        _part(sum(each.served_at_once for each in here), len(here)),
        _part(sum(each.served for each in patient), len(patient)),
        tuple(tries[number] for number in range(1, max(tries, default=0) + 1)),
        quantile(took, 0.5),
        quantile(took, 0.99),
        dict(
            Counter(
                attempt.came_to
                for each in here
                for attempt in each.tries
                if attempt.came_to != SERVED
            ).most_common()
        ),
    )


def quantile(ordered: Sequence[float], part: float) -> float | None:
    """The smallest of them that so large a part does not exceed; None if there are none."""
    if not ordered:
        return None
    return ordered[max(0, ceil(part * len(ordered)) - 1)]


def recovery(visits: Sequence[Visit], end: float) -> float | None:
    """
    How long after the end of an attack until nobody had to try again.

    Returns:
        Seconds until the last try ended that was not served; None if none was served after it.
    """
    after = [each for visit in visits for each in visit.tries if each.began >= end]
    failed = [each.began + each.took for each in after if each.came_to != SERVED]
    if not failed:
        return 0.0 if after else None
    last = max(failed)
    if not any(each.began >= last for each in after if each.came_to == SERVED):
        return None
    return last - end


def _part(count: int, of: int) -> float | None:
    return count / of if of else None


SLICE = 10.0
"""Seconds, and how much of an attack its end is."""


def last_part(start: float, end: float, patience: float) -> tuple[float, float]:
    """The last seconds of an attack in which a visit still has time for all its tries."""
    last = max(start + (end - start) / 2, end - patience)
    return max(start, last - SLICE), last


def slices(visits: Sequence[Visit], start: float, end: float, patience: float) -> tuple[Phase, ...]:
    """The phases of an attack, ten seconds each."""
    found = []
    number = 0
    while (begins := start + number * SLICE) < end:
        ends = min(begins + SLICE, end)
        # What falls into the end of the attack counts by the same rule as for all of it.
        left = max(0.0, ends - (end - patience))
        name = f"{number * SLICE:g}-{ends - start:.0f} s"
        found.append(phase(name, visits, begins, ends, left))
        number += 1
    return tuple(found)
