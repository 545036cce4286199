"""
What a peer costs that says nothing, and one that stops in the middle of its TLS handshake.

Silence is what a stranger can do for free, so this is what decides how many of them a server bears.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from benchmarks.bench import MICROSECONDS, Bench
from benchmarks.contenders import TLS, Contender
from benchmarks.figures import Measure
from benchmarks.job import LESSON, PATIENCE
from benchmarks.sections.handshakes import CONTENDERS
from benchmarks.workshop import Unavailable, half_client_hello

SECTION = "memory"

KINDS = ("pending connection", "silent TLS connection", "connection with half a ClientHello")
PLAIN, SILENT, HALF = KINDS

BYTES = {kind: Measure(SECTION, f"memory per {kind}", "bytes") for kind in KINDS}
CPU = {kind: Measure(SECTION, f"server CPU per {kind}", "µs") for kind in KINDS}

WARM_UP = 20
"""
Connections that come and go unseen, so that what is made once is not counted. Few, because what
they leave free is used again.
"""


def run(bench: Bench) -> None:
    """Measure all three kinds."""
    plain = bench.able(SECTION, CONTENDERS, LESSON)
    bench.interleave(SECTION, plain, partial(_sample, bench, PLAIN, None, b""))
    speak_tls = [each for each in plain if TLS in each.can]
    if not speak_tls:
        return
    try:
        certificate = bench.workshop.certificate()
    except Unavailable as error:
        bench.notebook.note(SECTION, TLS, f"not measured: {error}")
        return
    for kind, token in ((SILENT, b""), (HALF, half_client_hello())):
        bench.interleave(SECTION, speak_tls, partial(_sample, bench, kind, certificate, token))


def _sample(
    bench: Bench, kind: str, certificate: Path | None, token: bytes, contender: Contender
) -> Mapping[Measure, float]:
    count = bench.settings.silent
    with bench.server(contender, LESSON, timeout=PATIENCE, certificate=certificate) as server:
        with bench.held(server, WARM_UP, token):
            pass
        server.settle()
        memory, cpu = server.memory(), server.cpu()
        with bench.held(server, count, token):
            taken, spent = server.memory() - memory, server.cpu() - cpu
    return {BYTES[kind]: taken / count, CPU[kind]: spent / count * MICROSECONDS}
