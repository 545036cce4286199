"""
What it costs to hand a peer over to a session, and what the session can do then.

A hand-over is a word, the answer to it, and one echo; then the client leaves. The echo behind the
hand-over and the bare ones are measured alike, on a connection that is already there.
"""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks.bench import MICROSECONDS, Bench
from benchmarks.contenders import Contender
from benchmarks.figures import Measure
from benchmarks.job import ECHO, GRANTED, SESSION, WORD
from benchmarks.process import Server

SECTION = "handover"

CPU = Measure(SECTION, "server CPU per hand-over", "µs")
THROUGHPUT = Measure(SECTION, "echo on one connection, each way", "MiB/s")
ECHO_CPU = Measure(SECTION, "server CPU per MiB echoed", "µs")

CONTENDERS = ("c", "uvloop", "asyncio", "twisted", "sockproto", "sockproto-portable")

GREETING = WORD + b"\n"
HELLO = b"hello"


def run(bench: Bench) -> None:
    """Measure the hand-over, then the echo."""

    def hand_over(contender: Contender) -> Mapping[Measure, float]:
        with bench.server(contender, SESSION) as server:
            cpu, _ = bench.shake(server, GREETING + HELLO, GRANTED + HELLO, leave=True)
        return {CPU: cpu}

    def echo(contender: Contender) -> Mapping[Measure, float]:
        bare = ECHO in contender.can
        with bench.server(contender, ECHO if bare else SESSION) as server:
            greeting = () if bare else (GREETING, GRANTED)
            throughput, cpu = stream(bench, server, *greeting)
        return {THROUGHPUT: throughput, ECHO_CPU: cpu}

    able = bench.able(SECTION, CONTENDERS, SESSION)
    bench.interleave(SECTION, able, hand_over)
    bench.interleave(SECTION, able, echo)


def stream(
    bench: Bench, server: Server, token: bytes = b"", reply: bytes = b""
) -> tuple[float, float]:
    """
    Send a stream through an echo.

    Returns:
        Mebibytes a second, and microseconds of the server's CPU for each.
    """
    amount = bench.settings.mebibytes
    with bench.load("stream", server.port, amount, token, reply) as load:
        load.wait_until_ready()
        before = server.cpu()
        load.go()
        seconds = load.result()["seconds"]
        # The load keeps its connection: a server of one connection is still there to be asked.
        cpu = server.cpu() - before
    return amount / seconds, cpu / amount * MICROSECONDS
