"""
Which addresses are one source: what is limited, and penalised, together.

One host of IPv6 commands a whole /64 (RFC 4291 section 2.5.4), so that its addresses count as one;
of IPv4 every address is a source of its own. Both can be told otherwise. The peers of a unix socket
are known by their user, unless they are exempt like those of loopback: whatever brings everybody's
connections from this machine, as a proxy does, is one user.
"""

from __future__ import annotations

from ipaddress import ip_network
from typing import TypeAlias

from sockproto.admission.networks import INET, INET6, Networks
from sockproto.core.errors import ConfigurationError

Source: TypeAlias = int
"""
A source's number: of an address what its prefix leaves of it, with the bit of its family, so that
those of different families differ; a user id has 32 bits at most.
"""

LOOPBACK = Networks.parse("127.0.0.0/8,::1/128")


class Sources:
    """
    Tells which source an address belongs to.

    Args:
        inet_prefix, inet6_prefix: How many leading bits of an address make its source.
        exempt: Who belongs to none, and so is neither limited per source nor penalised.
        exempt_unix: Whether the peers of a unix socket belong to none, either.

    Raises:
        ConfigurationError: If a prefix is longer than an address, or negative.
    """

    __slots__ = ("_exempt", "_exempt_unix", "_inet6_mask", "_inet_mask", "_prefixes")

    def __init__(
        self,
        inet_prefix: int = 32,
        inet6_prefix: int = 64,
        exempt: Networks = LOOPBACK,
        exempt_unix: bool = False,
    ) -> None:
        self._inet_mask = INET | _mask(inet_prefix, 32)
        self._inet6_mask = INET6 | _mask(inet6_prefix, 128)
        self._prefixes = (inet_prefix, inet6_prefix)
        self._exempt = exempt
        self._exempt_unix = exempt_unix

    def find(self, number: int | None, uid: int | None) -> Source | None:
        """
        The source of a peer.

        Args:
            number: Its address, as :func:`~sockproto.admission.networks.number_of` has it.
            uid: The user id on the other end of a unix socket, or None.

        Returns:
            None for a peer that is exempt, and for one of whom nothing says who it is: its address
            is a name, or that of a unix socket whose user is not known.
        """
        if number is None:
            return None if self._exempt_unix else uid
        if self._exempt.match_number(number) is not None:
            return None
        return number & (self._inet_mask if number < INET6 else self._inet6_mask)

    def describe(self, number: int | None, uid: int | None) -> str:
        """Name the source of a peer for the operator; or say that it has none, and why."""
        source = self.find(number, uid)
        if source is None:
            return "of no known source" if number is None and uid is None else "exempt"
        if source < INET:
            return f"user {source}"
        if source < INET6:
            return str(ip_network(((source - INET).to_bytes(4, "big"), self._prefixes[0])))
        return str(ip_network(((source - INET6).to_bytes(16, "big"), self._prefixes[1])))


def _mask(prefix: int, bits: int) -> int:
    if not 0 <= prefix <= bits:
        family = "IPv4" if bits == 32 else "IPv6"
        raise ConfigurationError(
            f"an {family} source of {prefix} bits cannot be; give from 0 to {bits}"
        )
    return (1 << bits) - (1 << (bits - prefix))
