"""What Twisted knows about a connection, in the core's words."""

from __future__ import annotations

import os
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.interfaces import INegotiated

from sockproto.core.end_point import end_point_of
from sockproto.core.facts import Address, Facts, PeerFacts, TlsFacts
from sockproto.credentials import uid_of


def facts_of(
    transport: Any, sessions: tuple[str, ...], *, tls: bool, serving: bool = True
) -> PeerFacts:
    """
    Everything that a connected transport tells about its peer.

    Args:
        transport: Any stream transport of Twisted's.
        sessions: The names of the sessions on offer.
        tls: Whether TLS has been established on it.
        serving: Whether we are its server.
    """
    address = address_of(transport.getPeer())
    local = address_of(transport.getHost())
    handle = transport.getHandle() if hasattr(transport, "getHandle") else None
    uid = uid_of(handle) if local.family == "unix" else None
    established = tls_facts_of(transport, serving=serving) if tls else None
    return PeerFacts(address, local, established, uid, sessions)


def address_of(address: Any) -> Address:
    """The address that Twisted's ``IPv4Address``, ``IPv6Address`` or ``UNIXAddress`` stands for."""
    host = getattr(address, "host", None)
    if host is not None:
        return Address.ip(host, address.port)
    if hasattr(address, "name"):
        return Address("unix", path=_text(address.name))
    return Address("memory")


def twisted_address(address: Address) -> Any:
    """The other way round: Twisted's address for one of ours."""
    if address.family == "inet":
        return IPv4Address("TCP", address.host, address.port)
    if address.family == "inet6":
        return IPv6Address("TCP", address.host, address.port)
    return UNIXAddress(os.fsencode(address.path) if address.path else None)


def answer_as(transport: Any, facts: Facts) -> None:
    """Have a transport answer ``getPeer()`` and ``getHost()`` with what ``facts`` says."""
    peer, host = twisted_address(facts.address), twisted_address(facts.local)
    transport.getPeer = lambda: peer
    transport.getHost = lambda: host


def speaks_tls(transport: Any) -> bool:
    """Whether what is written to the transport is encrypted by it."""
    return bool(INegotiated.providedBy(transport))


def tls_facts_of(transport: Any, *, serving: bool) -> TlsFacts:
    """
    What TLS has established; names and certificate only if the certificate was verified.

    Args:
        transport: One that speaks TLS.
        serving: Whether we are the server of the two, and the server's certificate is ours.
    """
    alpn = transport.negotiatedProtocol
    certificate = _verified_certificate(transport)
    handle = transport.getHandle()
    server = handle.get_certificate() if serving else handle.get_peer_certificate()
    return TlsFacts(
        alpn=None if alpn is None else alpn.decode("ascii", "backslashreplace"),
        names=() if certificate is None else _dns_names(certificate),
        certificate=None if certificate is None else _der(certificate),
        # A server without a certificate would be one of anonymous cipher suites.
        end_point=b"" if server is None else end_point_of(_der(server)),
    )


def _verified_certificate(transport: Any) -> Any:
    from OpenSSL import SSL

    if not transport.getHandle().get_context().get_verify_mode() & SSL.VERIFY_PEER:
        return None
    return transport.getPeerCertificate()


def _dns_names(certificate: Any) -> tuple[str, ...]:
    from cryptography import x509

    try:
        extensions = certificate.to_cryptography().extensions
        extension = extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except (
        x509.ExtensionNotFound,
        # What an issuer has signed and OpenSSL has verified need not make sense.
        x509.InvalidVersion,
        x509.DuplicateExtension,
        x509.UnsupportedGeneralNameType,
        ValueError,
        # A directoryName with a bit string in it, for one.
        TypeError,
    ):
        return ()
    return tuple(extension.value.get_values_for_type(x509.DNSName))


def _der(certificate: Any) -> bytes:
    from OpenSSL import crypto

    return crypto.dump_certificate(crypto.FILETYPE_ASN1, certificate)


def _text(path: bytes | str | None) -> str:
    if path is None:
        return ""
    return path.decode("utf-8", "surrogateescape") if isinstance(path, bytes) else path
