"""What is known about a peer, in plain values that any transport can fill in."""

from __future__ import annotations

from dataclasses import dataclass, fields
from ipaddress import IPv6Address
from typing import Literal, Protocol

Family = Literal["inet", "inet6", "unix", "memory"]


@dataclass(frozen=True, slots=True, init=False)
class Address:
    """
    One end of a connection.

    Attributes:
        family: ``"inet"``, ``"inet6"``, ``"unix"``, or ``"memory"`` where there is no network.
        host: The numeric address; empty for the other families.
        port: The port; 0 for the other families.
        path: The file of a unix socket; empty for a client that did not bind one. An abstract
            name begins with a NUL (unix(7)), shown as ``@``.
    """

    family: Family
    host: str
    port: int
    path: str

    def __init__(self, family: Family, host: str = "", port: int = 0, path: str = "") -> None:
        # There is one for each connection. What dataclass would write for a frozen class looks
        # each of these up by its name, which takes twice the time.
        _set_family(self, family)
        _set_host(self, host)
        _set_port(self, port)
        _set_path(self, path)

    @classmethod
    def ip(cls, host: str, port: int) -> Address:
        """
        An address of the right family, with an IPv4 address that came in through an IPv6 socket
        unmapped: ``::ffff:192.0.2.1`` is ``192.0.2.1`` (RFC 4291 section 2.5.5.2).
        """
        if ":" not in host:
            return cls("inet", host, port)
        if host[:7].lower() == "::ffff:":
            mapped = IPv6Address(host).ipv4_mapped
            if mapped is not None:
                return cls("inet", str(mapped), port)
        return cls("inet6", host, port)

    def __str__(self) -> str:
        if self.family == "inet":
            return f"{self.host}:{self.port}"
        if self.family == "inet6":
            return f"[{self.host}]:{self.port}"
        if self.path:
            return f"{self.family}:{self.path.replace(chr(0), '@', 1)}"
        return self.family


_set_family, _set_host, _set_port, _set_path = (
    vars(Address)[each.name].__set__ for each in fields(Address)
)


@dataclass(frozen=True, slots=True)
class TlsFacts:
    """
    What TLS has established.

    Attributes:
        alpn: The application protocol that was negotiated (RFC 7301), or None.
        names: The DNS names in the peer's *verified* certificate (RFC 6125); empty without one.
        certificate: That certificate, DER-encoded, or None.
        end_point: What both ends know of this very connection and nobody in between can have:
            ``tls-server-end-point`` (RFC 5929 section 4), a hash of the server's certificate. Empty
            if it is unknown, and for a certificate that has none, as one signed with Ed25519.
    """

    alpn: str | None = None
    names: tuple[str, ...] = ()
    certificate: bytes | None = None
    end_point: bytes = b""


class Facts(Protocol):
    """What is known about a peer before it has said a word; :class:`PeerFacts` says what."""

    @property
    def address(self) -> Address: ...

    @property
    def local(self) -> Address: ...

    @property
    def tls(self) -> TlsFacts | None: ...

    @property
    def uid(self) -> int | None: ...

    @property
    def sessions(self) -> tuple[str, ...]: ...


@dataclass(frozen=True, slots=True)
class PeerFacts:
    """
    Everything that is known about a peer before it has said a word.

    Attributes:
        address: Where it is.
        local: Where we are, as it sees us.
        tls: What TLS has established, or None without TLS.
        uid: The user id on the other end of a unix socket (SO_PEERCRED, unix(7)), or None.
        sessions: The names of the sessions on offer.
    """

    address: Address = Address("memory")
    local: Address = Address("memory")
    tls: TlsFacts | None = None
    uid: int | None = None
    sessions: tuple[str, ...] = ()


NO_FACTS = PeerFacts()
