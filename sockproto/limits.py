"""
Every number that bounds a connection, in one frozen dataclass.

A limit is one field here. The service's option, its help and the table in the reference are made
from the field: its default, its unit and the reason for it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from math import inf
from typing import Any


def _limit(default: float, unit: str, help: str, why: str) -> Any:
    return field(default=default, metadata={"unit": unit, "help": help, "why": why})


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """
    The bounds of a connection: its handshake, its goodbye and its session.

    Attributes:
        idle_timeout: Seconds without a byte before the handshake is over. It stands still while the
            handshake waits for a Deferred.
        handshake_timeout: Seconds that the handshake may last, whatever arrives. Up to a tenth is
            added at random, so that peers who came together do not leave together.
        close_timeout: Seconds between our goodbye and our going, if the peer does not go first.
        max_handshake_bytes: Bytes that the handshake may take. What follows it does not count.
        max_tls_bytes: Bytes that a client may send before TLS is established, its certificates
            included. What a server sends is not counted.
        session_idle_timeout: Seconds for which nothing may move between a session and its peer, in
            either direction, before the session is closed. Never unless given.
        session_lifetime: Seconds that a session may last, whatever moves. For ever unless given.

    Raises:
        ValueError: If one is not above 0. ``math.inf`` turns a timeout off.
    """

    idle_timeout: float = _limit(
        5.0,
        "seconds",
        "How long a peer may say nothing before its handshake is over.",
        "a silent peer holds a slot; five seconds is what the lesson waits",
    )
    handshake_timeout: float = _limit(
        10.0,
        "seconds",
        "How long a handshake may last in all.",
        "a peer that drips one byte at a time is never idle, and must still come to an end",
    )
    close_timeout: float = _limit(
        5.0,
        "seconds",
        "How long a peer may take to hear our goodbye.",
        "a peer that does not take what it is owed must not keep us",
    )
    max_handshake_bytes: int = _limit(
        4096,
        "bytes",
        "How much a handshake may take from its peer.",
        "strangers are not given memory; Conch allows a client as much before its version line",
    )
    max_tls_bytes: int = _limit(
        16384,
        "bytes",
        "How much a client may send before TLS is established.",
        "a first message takes 4k at most, which leaves 12k for the client's certificates",
    )
    session_idle_timeout: float = _limit(
        inf,
        "seconds",
        "How long nothing may move between a session and its peer before it is closed.",
        "only who wrote the session knows how long its peers may be silent",
    )
    session_lifetime: float = _limit(
        inf,
        "seconds",
        "How long a session may last in all.",
        "only who wrote the session knows when its peers should have finished",
    )

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            # Not "value <= 0": that is false for NaN.
            if not value > 0:
                unit = each.metadata["unit"]
                raise ValueError(f"{each.name} must be above 0 {unit}, got {value}")


DEFAULT_LIMITS = Limits()
