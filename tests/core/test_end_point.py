import hashlib
from datetime import UTC, datetime
from functools import cache

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from sockproto.core.end_point import end_point_of

WHEN = datetime(2026, 1, 1, tzinfo=UTC)


@cache
def key_of(kind):
    if kind == "rsa":
        return rsa.generate_private_key(65537, 2048)
    return ec.generate_private_key(ec.SECP256R1())


def signed(key, hash_function, rsa_padding=None):
    """A certificate, DER-encoded."""
    nobody = x509.Name([])
    return (
        x509.CertificateBuilder()
        .subject_name(nobody)
        .issuer_name(nobody)
        .public_key(key.public_key())
        .serial_number(4711)
        .not_valid_before(WHEN)
        .not_valid_after(WHEN)
        .sign(key, hash_function, rsa_padding=rsa_padding)
        .public_bytes(Encoding.DER)
    )


def element(tag, *contents):
    content = b"".join(contents)
    return bytes([tag, len(content)]) + content


def certificate(*algorithm):
    """The outline of a certificate with a signature algorithm of these elements."""
    return element(0x30, element(0x30), element(0x30, *algorithm), element(0x03, b"\0"))


def oid(digits):
    return element(0x06, bytes.fromhex(digits))


@pytest.mark.parametrize("bits", [224, 256, 384, 512])
@pytest.mark.parametrize("kind", ["rsa", "ecdsa", "rsa-pss"])
def test_it_is_the_hash_that_the_certificate_was_signed_with(kind, bits):
    chosen = getattr(hashes, f"SHA{bits}")()
    pss = padding.PSS(padding.MGF1(chosen), padding.PSS.DIGEST_LENGTH)
    der = signed(key_of(kind[:3]), chosen, pss if kind == "rsa-pss" else None)

    assert end_point_of(der) == hashlib.new(f"sha{bits}", der).digest()


@pytest.mark.parametrize(
    "algorithm",
    [
        # md5WithRSAEncryption, sha1WithRSAEncryption, ecdsa-with-SHA1.
        [oid("2a864886f70d010104"), element(0x05)],
        [oid("2a864886f70d010105"), element(0x05)],
        [oid("2a8648ce3d0401")],
        # RSASSA-PSS that says nothing, only how long its salt is, or SHA-1.
        [oid("2a864886f70d01010a"), element(0x30)],
        [oid("2a864886f70d01010a"), element(0x30, element(0xA2, b"\x02\x01\x20"))],
        [
            oid("2a864886f70d01010a"),
            element(0x30, element(0xA0, element(0x30, oid("2b0e03021a"), element(0x05)))),
        ],
    ],
)
def test_in_the_place_of_a_broken_hash_it_is_sha_256(algorithm):
    der = certificate(*algorithm)

    assert end_point_of(der) == hashlib.sha256(der).digest()


def test_a_certificate_signed_without_a_hash_has_none():
    assert end_point_of(signed(ed25519.Ed25519PrivateKey.generate(), None)) == b""


@pytest.mark.parametrize(
    "der",
    [
        b"",
        b"\x30",
        b"\x30\xff",
        b"GET / HTTP/1.1\r\n",
        element(0x30),
        element(0x30, element(0x30), element(0x30), element(0x03)),
        element(0x31, element(0x30), element(0x30, oid("2a8648ce3d0401")), element(0x03)),
        # A hash that nobody knows, PSS without parameters, and an algorithm that is no OID.
        certificate(oid("2a8648ce3d0409")),
        certificate(oid("2a864886f70d01010a")),
        certificate(
            oid("2a864886f70d01010a"), element(0x30, element(0xA0, element(0x30, oid("2a"))))
        ),
        certificate(element(0x04, bytes.fromhex("2a8648ce3d0401"))),
    ],
)
def test_what_makes_no_sense_has_none(der):
    assert end_point_of(der) == b""


def test_a_certificate_that_is_cut_off_has_none():
    der = signed(key_of("ecdsa"), hashes.SHA256())

    assert {end_point_of(der[:size]) for size in range(len(der))} == {b""}
