import hashlib
import os
import re
import socket
import struct

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from OpenSSL import SSL, crypto
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.protocols.tls import TLSMemoryBIOFactory

from sockproto.core.facts import Address, PeerFacts, TlsFacts
from sockproto.transport.facts import (
    address_of,
    answer_as,
    facts_of,
    speaks_tls,
    tls_facts_of,
    twisted_address,
    uid_of,
)
from sockproto.transport.tls import ClientTls, ServerTls

from .kit import LOCAL, PEER, Connection, Recorder, Sessions, TlsPair, certificate, end_point


@pytest.mark.parametrize(
    ("twisted", "ours"),
    [
        (IPv4Address("TCP", "192.0.2.1", 80), Address("inet", "192.0.2.1", 80)),
        (IPv6Address("TCP", "2001:db8::1", 80), Address("inet6", "2001:db8::1", 80)),
        (IPv6Address("TCP", "::ffff:192.0.2.1", 80), Address("inet", "192.0.2.1", 80)),
        (UNIXAddress("/run/x"), Address("unix", path="/run/x")),
        (UNIXAddress(b"\0hidden"), Address("unix", path="\0hidden")),
        (UNIXAddress(b"/run/\xff"), Address("unix", path="/run/\udcff")),
        (UNIXAddress(None), Address("unix")),
        (object(), Address("memory")),
        (None, Address("memory")),
    ],
)
def test_an_address_is_translated(twisted, ours):
    assert address_of(twisted) == ours


def test_a_path_that_twisted_gives_as_text_is_taken_as_it_is():
    class Named:
        name = "/run/x"

    assert address_of(Named()) == Address("unix", path="/run/x")


@pytest.mark.parametrize(
    ("ours", "twisted"),
    [
        (Address("inet", "192.0.2.1", 80), IPv4Address("TCP", "192.0.2.1", 80)),
        (Address("inet6", "2001:db8::1", 80), IPv6Address("TCP", "2001:db8::1", 80)),
        (Address("unix", path="/run/x"), UNIXAddress(b"/run/x")),
        (Address("unix", path="\0hidden"), UNIXAddress(b"\0hidden")),
        (Address("unix", path="/run/\udcff"), UNIXAddress(b"/run/\xff")),
        (Address("unix"), UNIXAddress(None)),
        (Address("memory"), UNIXAddress(None)),
    ],
)
def test_an_address_is_translated_back(ours, twisted):
    assert twisted_address(ours) == twisted


def test_a_transport_answers_what_it_is_told_to():
    transport = StringTransport()
    client, local = Address("inet", "192.0.2.7", 4711), Address("inet6", "2001:db8::1", 443)

    answer_as(transport, PeerFacts(client, local))

    assert transport.getPeer() == IPv4Address("TCP", "192.0.2.7", 4711)
    assert transport.getHost() == IPv6Address("TCP", "2001:db8::1", 443)
    assert facts_of(transport, (), tls=False) == PeerFacts(client, local)


def test_a_plain_transport_tells_both_addresses():
    facts = facts_of(StringTransport(), ("chat",), tls=False)

    assert facts == PeerFacts(PEER, LOCAL, None, None, ("chat",))


class UnixTransport(StringTransport):
    """A StringTransport on a real socket's handle."""

    def __init__(self, handle):
        super().__init__(UNIXAddress(b"/run/x"), UNIXAddress(None))
        self.handle = handle

    def getHandle(self):
        return self.handle


def test_a_unix_socket_tells_the_user_on_the_other_end():
    here, there = socket.socketpair()
    with here, there:
        facts = facts_of(UnixTransport(here), (), tls=False)

    assert facts == PeerFacts(Address("unix"), Address("unix", path="/run/x"), uid=os.getuid())


def test_a_socket_that_does_not_tell_has_no_user():
    here, there = socket.socketpair()
    here.close()
    there.close()

    assert facts_of(UnixTransport(here), (), tls=False).uid is None


def test_there_is_no_user_where_there_is_no_socket():
    assert uid_of(None) is None


@pytest.mark.parametrize("user", [0, 1000, 65534, 2**32 - 2])
def test_the_number_of_a_user_is_never_negative(user):
    class Told:
        """A socket whose peer is in a user namespace of its own (user_namespaces(7))."""

        def getsockopt(self, level, option, size):
            return struct.pack("iII", 1, user, user)

    assert uid_of(Told()) == user


def test_a_unix_transport_in_memory_has_no_user():
    transport = StringTransport(UNIXAddress(b"/run/x"), UNIXAddress(None))

    assert facts_of(transport, (), tls=False).uid is None


def established(**terms):
    clock = Clock()
    pair = TlsPair(Sessions(Recorder), Sessions(Recorder), clock, **terms)
    pair.pump()
    return pair


def test_only_what_encrypts_speaks_tls():
    pair = established()

    assert [speaks_tls(each.protocol) for each in pair.ends] == [True, True]
    assert not speaks_tls(StringTransport())


def test_a_client_knows_the_names_and_the_certificate_that_it_has_verified():
    found, _ = certificate("localhost")

    facts = tls_facts_of(established(alpn=[b"chat"]).client.protocol, serving=False)

    der = found.public_bytes(Encoding.DER)
    assert facts == TlsFacts("chat", ("localhost",), der, end_point())


def test_a_server_that_asks_for_no_certificate_knows_of_none():
    facts = tls_facts_of(established().server.protocol, serving=True)

    assert facts == TlsFacts(end_point=end_point())


def test_a_server_knows_the_client_whose_certificate_it_has_verified():
    found, _ = certificate("ann")

    facts = tls_facts_of(established(names=("localhost", "ann")).server.protocol, serving=True)

    assert facts == TlsFacts(None, ("ann",), found.public_bytes(Encoding.DER), end_point())


def test_a_certificate_without_names_has_none():
    pair = established(names=("localhost", ""))

    facts = tls_facts_of(pair.server.protocol, serving=True)

    assert facts.names == ()
    assert facts.certificate is not None


def test_a_peer_that_was_asked_for_a_certificate_and_has_none_is_not_known():
    pair = established(ask=True)

    assert tls_facts_of(pair.server.protocol, serving=True) == TlsFacts(end_point=end_point())


def pem(found, key):
    return found.public_bytes(Encoding.PEM) + key.private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )


def known_by_names(folder, names):
    """A client's certificate with this SubjectAltName, in DER, and what a server knows of it."""
    template, key = certificate("")
    found = (
        x509.CertificateBuilder()
        .subject_name(template.subject)
        .issuer_name(template.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(template.not_valid_before_utc)
        .not_valid_after(template.not_valid_after_utc)
        .add_extension(
            x509.UnrecognizedExtension(x509.SubjectAlternativeName.oid, names), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    hers, his = folder / "server.pem", folder / "client.pem"
    hers.write_bytes(pem(*certificate("localhost")))
    his.write_bytes(pem(found, key))
    clock, sessions = Clock(), Sessions(Recorder)
    pair = TlsPair(sessions, sessions, clock)
    server = ServerTls(hers, client_ca=his, clock=clock)
    client = ClientTls("localhost", ca=hers, cert=his, clock=clock)
    pair.server = Connection(TLSMemoryBIOFactory(server, False, sessions, clock))
    pair.client = Connection(TLSMemoryBIOFactory(client, True, sessions, clock))
    pair.ends = (pair.server, pair.client)
    pair.pump()
    return found.public_bytes(Encoding.DER), tls_facts_of(pair.server.protocol, serving=True)


def test_names_that_are_not_of_hosts_are_left_to_who_reads_the_certificate(tmp_path):
    names = x509.SubjectAlternativeName(
        [
            x509.UniformResourceIdentifier("spiffe://example.org/ann"),
            x509.DNSName("ann.example.org"),
            x509.RFC822Name("ann@example.org"),
            x509.DNSName("*.example.org"),
        ]
    )

    der, known = known_by_names(tmp_path, names.public_bytes())

    assert known == TlsFacts(None, ("ann.example.org", "*.example.org"), der, end_point())


@pytest.mark.parametrize(
    "names",
    [
        # RFC 5280 section 4.2.1.6: a dNSName that is not ASCII, an iPAddress of two bytes, and
        # an x400Address, which nobody reads. OpenSSL verifies all three.
        bytes.fromhex("3005 8203 ff6162"),
        bytes.fromhex("3009 8203 616e6e 8702 0102"),
        bytes.fromhex("3007 a305 3003 0c0178"),
    ],
)
def test_a_certificate_whose_names_make_no_sense_has_none(tmp_path, names):
    der, known = known_by_names(tmp_path, names)

    assert known == TlsFacts(None, (), der, end_point())


class Verified:
    """A transport on which TLS was established, and its handle and context in one."""

    negotiatedProtocol = None

    def __init__(self, der):
        self.der = der

    def getHandle(self):
        return self

    get_context = getHandle

    def get_verify_mode(self):
        return SSL.VERIFY_PEER

    def getPeerCertificate(self):
        return crypto.load_certificate(crypto.FILETYPE_ASN1, self.der)

    get_peer_certificate = getPeerCertificate


@pytest.mark.parametrize(
    ("written", "instead"),
    [
        # RFC 5280 section 4.1: version 17, and a time on the 99th of some month.
        (rb"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x10"),
        (rb"(?<=\x17\r....)..", b"99"),
        # Section 4.2.1.6: a directoryName whose title is a bit string, instead of a dNSName.
        (
            rb"0\x12\x82\x10a{16}",
            bytes.fromhex("3012 a410 300e 310c 300a 0603 55040c 0303 616e6e"),
        ),
    ],
)
def test_a_certificate_that_openssl_alone_can_read_has_no_names(written, instead):
    der = certificate("a" * 16)[0].public_bytes(Encoding.DER)
    odd = re.sub(written, instead, der, count=1)
    assert odd != der

    facts = tls_facts_of(Verified(odd), serving=False)

    assert facts == TlsFacts(None, (), odd, hashlib.sha256(odd).digest())


def test_tls_facts_are_told_when_tls_is_there():
    pair = established(alpn=[b"chat"])

    facts = facts_of(pair.server.protocol, ("chat",), tls=True)

    known = TlsFacts("chat", end_point=end_point())
    assert facts == PeerFacts(PEER, LOCAL, known, None, ("chat",))


@pytest.mark.parametrize("names", [("localhost", None), ("localhost", "ann")])
def test_both_ends_know_the_same_end_point_whoever_shows_a_certificate(names):
    pair = established(names=names)

    server = facts_of(pair.server.protocol, (), tls=True, serving=True)
    client = facts_of(pair.client.protocol, (), tls=True, serving=False)

    assert server.tls.end_point == client.tls.end_point == end_point()


def test_without_a_certificate_of_the_server_there_is_no_end_point():
    class Anonymous:
        """A connection of a cipher suite that authenticates nobody (RFC 5246 section A.5)."""

        negotiatedProtocol = None

        def getHandle(self):
            return self

        def get_context(self):
            return self

        def get_verify_mode(self):
            return SSL.VERIFY_NONE

        def get_certificate(self):
            return None

    assert tls_facts_of(Anonymous(), serving=True) == TlsFacts()
