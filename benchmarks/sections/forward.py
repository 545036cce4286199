"""
What a forwarder does: everything goes to an echo behind it, and comes back through it.

The echo and the client share a core, so the throughput has a ceiling that is theirs; where two
forwarders reach it, compare what they take of their own core. sockproto has the passphrase before
it forwards, the others forward at once; the stream is measured when that is over.
"""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks.bench import Bench
from benchmarks.contenders import CONTENDERS as ALL
from benchmarks.contenders import FLOOR, Contender
from benchmarks.figures import Measure
from benchmarks.job import ECHO, FORWARD, GRANTED, PATIENCE
from benchmarks.sections.handover import GREETING, stream

SECTION = "forward"

THROUGHPUT = Measure(SECTION, "forwarded on one connection, each way", "MiB/s")
CPU = Measure(SECTION, "server CPU per MiB forwarded each way", "µs")

CONTENDERS = ("twisted", "sockproto", "haproxy", "socat")


def run(bench: Bench) -> None:
    """Measure every forwarder that is here."""
    floor = next(each for each in ALL if each.name == FLOOR)

    def sample(contender: Contender) -> Mapping[Measure, float]:
        greeting = (GREETING, GRANTED) if contender.name == "sockproto" else ()
        with (
            bench.server(floor, ECHO, core=bench.cores.load) as backend,
            bench.server(contender, FORWARD, timeout=PATIENCE, backend=backend.port) as server,
        ):
            throughput, cpu = stream(bench, server, *greeting)
        return {THROUGHPUT: throughput, CPU: cpu}

    bench.interleave(SECTION, bench.able(SECTION, CONTENDERS, FORWARD), sample)
