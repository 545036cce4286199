"""What a handshake costs: the lesson's, from ``accept`` to the end of the connection."""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks.bench import Bench
from benchmarks.contenders import NAMES, Contender
from benchmarks.figures import Measure
from benchmarks.job import LESSON

SECTION = "handshakes"

CPU = Measure(SECTION, "server CPU per handshake", "µs")
RATE = Measure(SECTION, "handshakes in a second, as the load saw them", "1/s")

CONTENDERS = [name for name in NAMES if name not in ("haproxy", "socat")]


def run(bench: Bench) -> None:
    """Measure every server that can do the lesson."""

    def sample(contender: Contender) -> Mapping[Measure, float]:
        with bench.server(contender, LESSON) as server:
            cpu, rate = bench.shake(server)
        return {CPU: cpu, RATE: rate}

    bench.interleave(SECTION, bench.able(SECTION, CONTENDERS, LESSON), sample)
