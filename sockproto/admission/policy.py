"""Everything that an operator can say about who may start, in one frozen dataclass."""

from __future__ import annotations

from dataclasses import dataclass

from sockproto.admission.early_drop import EarlyDrop
from sockproto.admission.expiries import MAX_SOURCES
from sockproto.admission.networks import Networks, require_networks
from sockproto.admission.penalties import Penalties
from sockproto.admission.rate import Rate
from sockproto.admission.rules import EVERYBODY
from sockproto.admission.sources import LOOPBACK
from sockproto.core.errors import ConfigurationError

NOBODY = Networks()
MAX_PENDING = EarlyDrop(256, 30, 1024)
MAX_PENDING_TLS = EarlyDrop(64, 30, 256)
DEFAULT_PENALTIES = Penalties()

_COUNTS = ("max_connections", "max_pending_per_source", "max_connections_per_source", "max_sources")


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """
    Who may start, and how many.

    Attributes:
        allow, deny: Who may come in, and who may not; see
            :class:`~sockproto.admission.rules.AllowDeny`. To allow no network lets only peers in
            that have no numeric address, as those of a unix socket.
        exempt: Who is neither limited per source nor penalised. The other caps hold for everybody.
        exempt_unix: Whether the peers of unix sockets are not, either.
        max_connections: The most connections, with or without a verdict; None for no such cap.
        wait: Whether newcomers wait in the kernel's queue while there are as many connections as
            may be, where the listener is ours. Otherwise, and anywhere else, they are refused.
        goodbye: What somebody is told who is refused at a cap, in the clear; nobody is told that it
            is denied or penalised.
        max_pending: The cap on handshakes without a verdict; None for no such cap.
        max_pending_tls: The same where TLS comes first. They are counted apart, so that a flood of
            one kind leaves room for the other.
        max_pending_per_source: The most of both that one source may have, or None.
        max_connections_per_source: The most connections that one source may have, or None.
        max_rate_per_source: How often one source is admitted, or None.
        penalties: What bad endings cost, or None if nothing.
        inet_prefix, inet6_prefix: How many leading bits of an address make its source.
        max_sources: How many sources of each family are remembered that have no connection.

    Raises:
        ConfigurationError: If a count is not at least 1.
        TypeError: If networks are given as text.
    """

    allow: Networks = EVERYBODY
    deny: Networks = NOBODY
    exempt: Networks = LOOPBACK
    exempt_unix: bool = True
    max_connections: int | None = None
    wait: bool = True
    goodbye: bytes = b""
    max_pending: EarlyDrop | None = MAX_PENDING
    max_pending_tls: EarlyDrop | None = MAX_PENDING_TLS
    max_pending_per_source: int | None = 16
    max_connections_per_source: int | None = None
    max_rate_per_source: Rate | None = None
    penalties: Penalties | None = DEFAULT_PENALTIES
    inet_prefix: int = 32
    inet6_prefix: int = 64
    max_sources: int = MAX_SOURCES

    def __post_init__(self) -> None:
        for name in ("allow", "deny", "exempt"):
            require_networks(name, getattr(self, name))
        for name in _COUNTS:
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigurationError(f"{name} must be at least 1, got {value}")


DEFAULT_POLICY = Policy()
