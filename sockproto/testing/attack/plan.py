"""What an attack is: of which kind, on whom, from where, and how much of it."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from itertools import islice
from typing import Any

from sockproto.core.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Kind:
    """
    A kind of attack.

    Attributes:
        summary: What its peers do.
        connections: How many there are at once, unless the plan says it.
        return_after: How long they stay away once they are shown out, unless the plan says it.
    """

    summary: str
    connections: int
    return_after: float


KINDS = {
    "hold": Kind("connect and say nothing", 1000, 1.0),
    "drip": Kind("send a byte now and then", 500, 1.0),
    "flood": Kind("connect, send and read, as fast as possible", 50, 0.0),
    "reset": Kind("connect and reset, as fast as possible", 50, 0.0),
    "zero-window": Kind("send without end and never read", 50, 1.0),
    "oversize": Kind("send without end, and read", 20, 0.0),
    "half-close": Kind("close one half: first ours, or first the server's", 50, 0.0),
    "tls-stall": Kind("send half a ClientHello", 500, 1.0),
}
"""Every kind by its name."""

BOUNDS: dict[str, tuple[float, float]] = {
    "connections": (1, 20_000),
    "total": (1, 10_000_000),
    "rate": (0.1, 100_000),
    "amount": (1, 64 * 1024**3),
    "duration": (0.1, 600),
    "return_after": (0, 600),
    "drip_every": (0.01, 600),
    "quiet": (0.1, 60),
    "after": (0, 120),
    "probe_every": (0.01, 10),
    "tries": (1, 20),
    "try_after": (0.01, 60),
    "try_timeout": (0.1, 60),
}
"""The least and the most that a plan may ask for."""

MAX_SOURCES = 65_536
"""How many addresses of a network take part."""

Network = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """
    An attack, and the judge beside it. :meth:`read` makes one from what a person writes.

    Attributes:
        kind: One of :data:`KINDS`.
        host, port: The target.
        sources: Where the attackers come from; they take turns through the network's addresses.
        prober_sources: Where the honest client comes from, likewise.
        connections: How many attackers there are at once.
        total: After how many connections they have had enough.
        rate: The most new connections in a second, or None for as many as possible.
        amount: After how many bytes they have had enough.
        duration: Seconds that the attack lasts, unless they have had enough before.
        return_after: Seconds that an attacker stays away once it is shown out.
        drip_every: Seconds between two bytes of ``drip``.
        quiet: Seconds before the attack, by which the rest is measured.
        after: Seconds after it.
        probe_every: Seconds from one visit of the honest client to the next. It comes whether or
            not the one before it has been served.
        tries: How often it tries before it gives up.
        try_after: Seconds from one try to the next.
        try_timeout: Seconds that it waits for an answer.
        send: What it says, and what ``flood`` and ``half-close`` say.
        expect: What the answer begins with.

    Raises:
        ConfigurationError: If an address is not of loopback, or a number out of its bounds.
    """

    kind: str
    host: str
    port: int
    sources: Network
    prober_sources: Network
    connections: int
    total: int
    rate: float | None
    amount: int
    duration: float
    return_after: float
    drip_every: float
    quiet: float
    after: float
    probe_every: float
    tries: int
    try_after: float
    try_timeout: float
    send: bytes
    expect: bytes

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ConfigurationError(f"no attack {self.kind!r}; there are {', '.join(KINDS)}")
        for each in fields(self):
            value = getattr(self, each.name)
            if each.name in BOUNDS and value is not None:
                least, most = BOUNDS[each.name]
                # Not "value < least": that is false for NaN.
                if not least <= value <= most:
                    raise ConfigurationError(
                        f"{each.name.replace('_', '-')} must be from {least:,g} to {most:,g}, "
                        f"got {value:,g}"
                    )
        target = ip_address(self.host)
        for network in (ip_network(self.host), self.sources, self.prober_sources):
            _see_that_it_is_loopback(network)
            if network.version != target.version:
                raise ConfigurationError(
                    f"{shown(network)} cannot reach {self.host}: one is IPv4, the other IPv6"
                )
        if not self.expect:
            raise ConfigurationError(
                "the judge has nothing to expect; give the bytes that an answer begins with"
            )

    @classmethod
    def read(
        cls,
        kind: str,
        target: str,
        *,
        sources: str | None = None,
        prober_sources: str | None = None,
        **more: Any,
    ) -> Plan:
        """
        Make a plan from words, and from the defaults of its kind.

        Args:
            kind: One of :data:`KINDS`.
            target: ``HOST:PORT``, for example ``127.0.0.1:8001`` or ``[::1]:8001``.
            sources: An address or a network: ``127.0.0.2`` unless given. All of them have to be of
                loopback.
            prober_sources: The same for the honest client: ``127.0.0.1`` unless given.
            more: Any other field of the plan.

        Raises:
            ConfigurationError: As the plan does, and for a word that cannot be read.
        """
        host, port = read_target(target)
        usual = KINDS.get(kind, KINDS["hold"])
        given = {name: value for name, value in more.items() if value is not None}
        return cls(
            kind=kind,
            host=host,
            port=port,
            sources=_network(sources or ("::1" if ":" in host else "127.0.0.2")),
            prober_sources=_network(prober_sources or ("::1" if ":" in host else "127.0.0.1")),
            **{
                "connections": usual.connections,
                "return_after": usual.return_after,
                **DEFAULTS,
                **given,
            },
        )

    @property
    def patience(self) -> float:
        """Seconds from the first to the last try of a visit that gets quick answers."""
        return (self.tries - 1) * self.try_after


DEFAULTS: dict[str, Any] = {
    "total": 1_000_000,
    "rate": None,
    "amount": 1024**3,
    "duration": 10.0,
    "drip_every": 1.0,
    "quiet": 3.0,
    "after": 3.0,
    "probe_every": 0.05,
    "tries": 5,
    "try_after": 1.0,
    "try_timeout": 5.0,
    "send": b"1",
    "expect": b"welcome to server!",
}
"""What a plan does unless it says otherwise. The words are those of ``twistd sockserver``."""


def read_target(text: str) -> tuple[str, int]:
    """
    Read where a server is, as an address of loopback and a port.

    Raises:
        ConfigurationError: If it cannot be read, or is not on this machine.
    """
    found = re.fullmatch(r"(?:tcp:)?(?:\[([0-9a-fA-F:.]+)\]|([^:\[\]]+)):([0-9]{1,5})", text)
    if found is None or not 0 < int(found[3]) < 65536:
        raise ConfigurationError(f"{text!r} is no target; write it like 127.0.0.1:8001")
    host = found[1] or found[2]
    network = _network("127.0.0.1" if host == "localhost" else host)
    _see_that_it_is_loopback(network)
    return str(network.network_address), int(found[3])


def _network(text: str) -> Network:
    try:
        return ip_network(text)
    except ValueError as error:
        raise ConfigurationError(
            f"{text!r} is no address of loopback; write it like 127.0.0.1, ::1 or 127.1.0.0/16"
        ) from error


def _see_that_it_is_loopback(network: Network) -> None:
    # Of a network, all that is in it. IPv6 has ::1 alone, and no mapped address is in it.
    if not network.is_loopback:
        raise ConfigurationError(
            f"{shown(network)} is not loopback; attacks stay on this machine: 127.0.0.0/8 and ::1"
        )


def shown(network: Network) -> str:
    """A network as a person writes it: one of a single address is that address."""
    one = network.num_addresses == 1
    return str(network.network_address if one else network)


def addresses(network: Network) -> list[str]:
    """The addresses of a network that take part; the first and the last may be used, too."""
    return [str(each) for each in islice(network, MAX_SOURCES)]


def read_bytes(text: str) -> bytes:
    r"""
    Read bytes as a person writes them: as they are, with ``\r``, ``\n``, ``\x00`` and the like.

    Raises:
        ConfigurationError: If an escape is cut off.
    """
    try:
        # The first step keeps what is not ASCII apart from what an escape stands for.
        return text.encode().decode("unicode_escape").encode("latin-1")
    except UnicodeError as error:
        raise ConfigurationError(f"{text!r} has an escape that cannot be read") from error
