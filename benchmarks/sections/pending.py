"""What a handshake costs while others are pending: it should not matter how many."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack

from benchmarks.bench import Bench
from benchmarks.contenders import Contender
from benchmarks.figures import Measure
from benchmarks.job import LESSON, PATIENCE

SECTION = "pending"

CONTENDERS = ("c", "uvloop", "asyncio", "twisted", "sockproto", "sockproto-portable")


def run(bench: Bench) -> None:
    """Measure with few pending, then with more and more."""

    def sample(contender: Contender) -> Mapping[Measure, float]:
        costs = {}
        with bench.server(contender, LESSON, timeout=PATIENCE) as server, ExitStack() as held:
            before = 0
            for count in bench.settings.pending:
                held.enter_context(bench.held(server, count - before))
                costs[count], _ = bench.shake(server)
                before = count
        fewest, most = min(costs), max(costs)
        samples = {_measure(count): cost for count, cost in costs.items()}
        return {**samples, _growth(fewest, most): costs[most] / costs[fewest]}

    bench.interleave(SECTION, bench.able(SECTION, CONTENDERS, LESSON), sample)


def _measure(count: int) -> Measure:
    return Measure(SECTION, f"server CPU per handshake with {count:,} pending", "µs")


def _growth(fewest: int, most: int) -> Measure:
    return Measure(SECTION, f"cost with {most:,} pending ÷ cost with {fewest:,}", "")
