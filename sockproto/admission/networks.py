"""
Sets of networks: whose header is believed, who may come in, who is never limited.

Membership is asked on every accept, so a network is a number and a mask here, and the networks of
one prefix length share a set: a look-up takes a step for each *length*, however many networks there
are.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_interface
from socket import AF_INET, AF_INET6, inet_pton
from typing import TypeAlias

from sockproto.core.errors import ConfigurationError
from sockproto.core.facts import Address

_Network: TypeAlias = IPv4Network | IPv6Network
_Table: TypeAlias = tuple[tuple[int, int, frozenset[int]], ...]

INET = 1 << 32
INET6 = 1 << 128
"""The bit above an address's own, which tells the numbers of the two families apart."""


@dataclass(frozen=True, slots=True, repr=False)
class Networks:
    """
    A set of IPv4 and IPv6 networks. Without arguments it is empty; :meth:`parse` fills one.

    ``address in networks`` asks whether any of them holds an
    :class:`~sockproto.core.facts.Address`. A unix socket's address is in none, whatever the set.
    """

    # Of each family a table: prefix length, mask, and the networks of that length. The longest
    # comes first, so that the first match is the most specific one.
    _inet: _Table = ()
    _inet6: _Table = ()

    @classmethod
    def parse(cls, text: str) -> Networks:
        """
        Read networks as operators write them: ``10.0.0.0/8,192.0.2.1,2001:db8::/32``.

        A bare address is a network of its own. ``none``, or nothing, is the empty set; ``all`` is
        every IPv4 and IPv6 address.

        Raises:
            ConfigurationError: If a piece is no network, or has bits set beyond its prefix; it
                names that piece, and says how to write it.
        """
        if text in ("", "none"):
            return cls()
        pieces = ("0.0.0.0/0,::/0" if text == "all" else text).split(",")
        networks = [_read(piece.strip()) for piece in pieces]
        return cls(
            _table(each for each in networks if each.version == 4),
            _table(each for each in networks if each.version == 6),
        )

    def match(self, address: Address) -> int | None:
        """
        How closely an address is known.

        Returns:
            The prefix length of the smallest network that holds it, or None if none does.
        """
        return self.match_number(number_of(address))

    def match_number(self, number: int | None) -> int | None:
        """The same by what :func:`number_of` says, for whoever asks several sets about one peer."""
        if number is None:
            return None
        for length, mask, networks in self._inet if number < INET6 else self._inet6:
            if number & mask in networks:
                return length
        return None

    def __contains__(self, address: Address) -> bool:
        return self.match(address) is not None

    def __bool__(self) -> bool:
        return bool(self._inet or self._inet6)

    def __str__(self) -> str:
        """The networks as :meth:`parse` reads them, in order."""
        inet = sorted(map(IPv4Network, _listed(self._inet)))
        inet6 = sorted(map(IPv6Network, _listed(self._inet6)))
        return ",".join(map(str, [*inet, *inet6])) or "none"

    def __repr__(self) -> str:
        return f"Networks.parse({str(self)!r})"


def number_of(address: Address) -> int | None:
    """
    An address as a number, with the bit of its family set.

    Returns:
        None for an address without a number: a unix socket's, or a name.
    """
    try:
        if address.family == "inet":
            return INET | int.from_bytes(inet_pton(AF_INET, address.host), "big")
        if address.family == "inet6":
            # A link-local address names its interface: fe80::1%eth0 (RFC 4007 section 11).
            host = address.host.partition("%")[0]
            return INET6 | int.from_bytes(inet_pton(AF_INET6, host), "big")
    except (OSError, ValueError):
        # A name, from somebody's own transport; ValueError if it is none that could be looked up.
        pass
    return None


def require_networks(name: str, value: object) -> None:
    """
    Refuse what was given as text; it would be found out when the first peer comes.

    Raises:
        TypeError: If it is no :class:`Networks`.
    """
    if not isinstance(value, Networks):
        given = type(value).__name__
        raise TypeError(f"{name} must be Networks, got a {given}: Networks.parse('10.0.0.0/8')")


def _read(piece: str) -> _Network:
    interface = None
    # ip_interface() would also take a netmask after the slash, or the opposite of one.
    if re.fullmatch(r"[^/%]+(/[0-9]+)?", piece):
        with suppress(ValueError):
            interface = ip_interface(piece)
    if interface is None:
        raise ConfigurationError(
            f"{piece!r} is not a network; write it like 10.0.0.0/8, 192.0.2.1 or 2001:db8::/32"
        )
    network = interface.network
    if interface.ip != network.network_address:
        raise ConfigurationError(
            f"{piece!r} has bits set beyond its first {network.prefixlen}; "
            f"write {network} for that network, or {interface.ip} for the address alone"
        )
    return _unmapped(network)


def _unmapped(network: _Network) -> _Network:
    """What an IPv4-mapped network stands for; the addresses that are asked for are unmapped too."""
    if network.version == 6 and network.prefixlen >= 96:
        mapped = network.network_address.ipv4_mapped
        if mapped is not None:
            return IPv4Network((mapped, network.prefixlen - 96))
    return network


def _table(networks: Iterable[_Network]) -> _Table:
    masks: dict[int, int] = {}
    of_length: dict[int, set[int]] = {}
    for each in networks:
        masks[each.prefixlen] = int(each.netmask)
        of_length.setdefault(each.prefixlen, set()).add(int(each.network_address))
    lengths = sorted(of_length, reverse=True)
    return tuple((length, masks[length], frozenset(of_length[length])) for length in lengths)


def _listed(table: _Table) -> list[tuple[int, int]]:
    return [(number, length) for length, _, networks in table for number in networks]
