"""
What those who are in feel of those who want to get in.

One established echo session is timed, ping by ping: in quiet, and during a flood of clients who are
rejected as fast as the server can. With two cores the flood and the pings share one, so the pings
run at a higher priority; where we may not give it to them, their waiting is in the figure too.
"""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks.bench import Bench
from benchmarks.contenders import Contender
from benchmarks.figures import Measure
from benchmarks.job import DENIED, GRANTED, SESSION
from benchmarks.sections.handover import GREETING

SECTION = "latency"

QUIET = Measure(SECTION, "p99 of an echo, in quiet", "µs")
FLOODED = Measure(SECTION, "p99 of an echo, during a flood of connects", "µs")
FLOOD = Measure(SECTION, "handshakes a second in that flood", "1/s")

CONTENDERS = ("c", "uvloop", "asyncio", "twisted", "sockproto", "sockproto-portable")

STRANGER = b"wrong\n"
MANY = 10_000_000
"""More strangers than can come before the flood is told to end."""


def run(bench: Bench) -> None:
    """Measure in quiet, then during a flood."""
    seconds = bench.settings.seconds
    flood = (MANY, bench.settings.concurrency, STRANGER, DENIED, "stay")

    def sample(contender: Contender) -> Mapping[Measure, float]:
        with (
            bench.server(contender, SESSION) as server,
            bench.load("ping", server.port, seconds, GREETING, GRANTED, urgent=True) as quiet,
            bench.load("ping", server.port, seconds, GREETING, GRANTED, urgent=True) as flooded,
        ):
            quiet.wait_until_ready()
            flooded.wait_until_ready()
            quiet.go()
            samples = {QUIET: quiet.result()["p99"]}
            with bench.load("shake", server.port, *flood) as strangers:
                flooded.go()
                samples[FLOODED] = flooded.result()["p99"]
                strangers.finish()
                seen = strangers.result()
            samples[FLOOD] = seen["done"] / seen["seconds"]
        return samples

    bench.interleave(SECTION, bench.able(SECTION, CONTENDERS, SESSION), sample)
