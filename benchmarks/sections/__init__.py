"""
What is measured, one section a file.

A section is a function that takes a :class:`~benchmarks.bench.Bench` and leaves its figures in the
notebook.
"""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.bench import Bench
from benchmarks.sections import forward, handover, handshakes, latency, memory, pending

SECTIONS: dict[str, Callable[[Bench], None]] = {
    "handshakes": handshakes.run,
    "memory": memory.run,
    "pending": pending.run,
    "handover": handover.run,
    "forward": forward.run,
    "latency": latency.run,
}
