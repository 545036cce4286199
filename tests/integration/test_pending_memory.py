"""
What a stranger costs who comes and does not go on: next to nothing, whatever the door.

The bounds are generous: a resident set comes in pages, an allocator keeps what it has had, and what
is made of the same lines is not as large in every Python, nor a connection in every OpenSSL. But a
transport of Twisted's for each who is silent, which takes another 1.5 KiB, is too much.
``python -m benchmarks memory`` gives the figures beside those of others.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from .kit import Sockserver, cpu_time, descriptors, dial, eventually, resident, room_for

pytestmark = pytest.mark.slow

KIB = 1024

WARM_UP = 20
"""Strangers who come and go unseen, so that what is made once is not counted."""


@dataclass(frozen=True)
class Stranger:
    """
    Somebody who comes and does not go on.

    Attributes:
        door: Through which door.
        says: What.
        count: How many of these come.
        bound: What each may cost, in bytes.
    """

    door: str
    says: bytes
    count: int
    bound: float


def client_hello(announced: int, size: int) -> bytes:
    """
    The beginning of a ClientHello (RFC 8446 section 4.1.2) that announces more than follows.

    Args:
        announced: How long it says that it is.
        size: How many bytes of the message follow.
    """
    message = b"\x01" + announced.to_bytes(3, "big") + b"\x03\x03" + bytes(size)
    record_size = 16384
    records = [message[at : at + record_size] for at in range(0, 6 + size, record_size)]
    # The last record is not whole.
    lengths = [*map(len, records[:-1]), record_size if size > 250 else 512]
    return b"".join(
        b"\x16\x03\x01" + length.to_bytes(2, "big") + record
        for length, record in zip(lengths, records, strict=True)
    )


STRANGERS = {
    # With its slot, which the server remembers whose it is.
    "silent": Stranger("tcp", b"", 5000, 3 * KIB),
    "silent where TLS is spoken": Stranger("tls", b"", 5000, 2 * KIB),
    "half a ClientHello": Stranger("tls", client_hello(508, 250), 1000, 96 * KIB),
    # OpenSSL takes none that is longer.
    "a word of a long ClientHello": Stranger("tls", client_hello(131_396, 0), 1000, 96 * KIB),
    # More than so much is the end (max_tls_bytes).
    "much of a long ClientHello": Stranger("tls", client_hello(131_396, 16_000), 1000, 160 * KIB),
}


def resident_with(server: Sockserver, stranger: Stranger, count: int) -> int:
    """What the server holds while so many of them are there."""
    before = descriptors(server.pid)
    with ExitStack() as everybody:
        for _ in range(count):
            client = everybody.enter_context(dial(server.place))
            client.sendall(stranger.says)
        eventually(lambda: descriptors(server.pid) >= before + count)
        settle(server)
        return resident(server.pid)


def settle(server: Sockserver) -> None:
    """Wait until the server has nothing to do."""
    seen = [-1.0]

    def is_quiet() -> bool:
        time.sleep(0.1)
        seen.append(cpu_time(server.pid))
        return seen[-1] == seen[-2]

    eventually(is_quiet)


@pytest.mark.parametrize("stranger", STRANGERS.values(), ids=STRANGERS)
def test_a_stranger_who_does_not_go_on_costs_little(start, loopback_identity, stranger):
    room_for(stranger.count + 500)
    files = f":cert={loopback_identity.certificate}:key={loopback_identity.key}"
    door = f"{stranger.door}:0:interface=127.0.0.1"
    server = start.sockserver(
        *("--listen", door + files if stranger.door == "tls" else door),
        *("--idle-timeout", "5m", "--handshake-timeout", "5m"),
        *("--max-pending", "off", "--max-pending-tls", "off"),
    )
    resident_with(server, stranger, WARM_UP)
    server.wait_for("lost|probe", WARM_UP)
    settle(server)

    before = resident(server.pid)
    each = (resident_with(server, stranger, stranger.count) - before) / stranger.count

    print(f"\n{each:.0f} bytes each")
    assert each < stranger.bound
    assert not server.matching("violation|limit|Traceback|Unhandled")
