import os
import socket

import pytest
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

from sockproto.core.facts import Address, PeerFacts, TlsFacts
from sockproto.transport.facts import address_of, facts_of, speaks_tls, tls_facts_of

from .kit import LOCAL, PEER, Recorder, Sessions, TlsPair, certificate


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
    from cryptography.hazmat.primitives.serialization import Encoding

    found, _ = certificate("localhost")

    facts = tls_facts_of(established(alpn=[b"chat"]).client.protocol)

    assert facts == TlsFacts("chat", ("localhost",), found.public_bytes(Encoding.DER))


def test_a_server_that_asks_for_no_certificate_knows_of_none():
    assert tls_facts_of(established().server.protocol) == TlsFacts()


def test_a_server_knows_the_client_whose_certificate_it_has_verified():
    from cryptography.hazmat.primitives.serialization import Encoding

    found, _ = certificate("ann")

    facts = tls_facts_of(established(names=("localhost", "ann")).server.protocol)

    assert facts == TlsFacts(None, ("ann",), found.public_bytes(Encoding.DER))


def test_a_certificate_without_names_has_none():
    pair = established(names=("localhost", ""))

    facts = tls_facts_of(pair.server.protocol)

    assert facts.names == ()
    assert facts.certificate is not None


def test_a_peer_that_was_asked_for_a_certificate_and_has_none_is_not_known():
    pair = established(ask=True)

    assert tls_facts_of(pair.server.protocol) == TlsFacts()


def test_tls_facts_are_told_when_tls_is_there():
    pair = established(alpn=[b"chat"])

    facts = facts_of(pair.server.protocol, ("chat",), tls=True)

    assert facts == PeerFacts(PEER, LOCAL, TlsFacts("chat"), None, ("chat",))
