"""
What ties a handshake to the TLS connection that it runs in, on any side and with any TLS library.

``tls-server-end-point`` (RFC 5929 section 4) is a hash of the server's certificate. Whoever stands
in the middle shows the client a certificate of its own, so what server and client compute differs.
The hash function is the one that the certificate was signed with, which only its DER tells; that is
read by hand here, because a client may have no more than the standard library.
"""

from __future__ import annotations

import hashlib

_RSA = bytes.fromhex("2a864886f70d0101")
_ECDSA = bytes.fromhex("2a8648ce3d04")
_SHA2 = bytes.fromhex("6086480165030402")

_RSA_PSS = _RSA + b"\x0a"

_SIGNED_WITH = {
    # RFC 3279 section 2.2 and RFC 4055 section 5. For MD5 and SHA-1 it is SHA-256 (RFC 5929
    # section 4.1).
    _RSA + b"\x04": "sha256",
    _RSA + b"\x05": "sha256",
    _RSA + b"\x0e": "sha224",
    _RSA + b"\x0b": "sha256",
    _RSA + b"\x0c": "sha384",
    _RSA + b"\x0d": "sha512",
    # RFC 5758 section 3.2, and RFC 3279 section 2.2.3 for SHA-1.
    _ECDSA + b"\x01": "sha256",
    _ECDSA + b"\x03\x01": "sha224",
    _ECDSA + b"\x03\x02": "sha256",
    _ECDSA + b"\x03\x03": "sha384",
    _ECDSA + b"\x03\x04": "sha512",
}

_HASHES = {
    # RFC 4055 section 2.1; RSASSA-PSS names its hash in its parameters.
    bytes.fromhex("2b0e03021a"): "sha256",
    _SHA2 + b"\x04": "sha224",
    _SHA2 + b"\x01": "sha256",
    _SHA2 + b"\x02": "sha384",
    _SHA2 + b"\x03": "sha512",
}

_OID, _SEQUENCE, _HASH_OF_PSS = 0x06, 0x30, 0xA0


def end_point_of(certificate: bytes) -> bytes:
    """
    The ``tls-server-end-point`` channel binding of a server's certificate.

    Args:
        certificate: As it came through TLS, DER-encoded; it need not have been verified.

    Returns:
        A hash of it; empty where RFC 5929 defines none: for a certificate that is signed without a
        hash function of its own, as with Ed25519, and for what is no certificate.
    """
    try:
        (tag, whole), *_ = _elements(certificate)
        _, (_, algorithm), _ = _elements(whole)
        (kind, name), *parameters = _elements(algorithm)
        if (tag, kind) != (_SEQUENCE, _OID):
            return b""
        found = _hash_of_pss(parameters) if name == _RSA_PSS else _SIGNED_WITH.get(name)
    except (IndexError, ValueError):
        return b""
    return b"" if found is None else hashlib.new(found, certificate).digest()


def _hash_of_pss(parameters: list[tuple[int, bytes]]) -> str | None:
    """What ``RSASSA-PSS-params`` says (RFC 4055 section 3.1); by default that is SHA-1."""
    ((_, fields),) = parameters
    for tag, content in _elements(fields):
        if tag == _HASH_OF_PSS:
            ((_, algorithm),) = _elements(content)
            (_, name), *_ = _elements(algorithm)
            return _HASHES.get(name)
    return "sha256"


def _elements(der: bytes) -> list[tuple[int, bytes]]:
    """The tag and the content of each element (X.690 section 8.1)."""
    found = []
    while der:
        size, start = der[1], 2
        if size > 0x7F:
            start += size & 0x7F
            size = int.from_bytes(der[2:start], "big")
        content = der[start : start + size]
        if len(content) != size:
            raise ValueError("cut off")
        found.append((der[0], content))
        der = der[start + size :]
    return found
