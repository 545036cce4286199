import pytest

from sockproto.core.facts import NO_FACTS, Address, PeerFacts, TlsFacts


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("192.0.2.1", Address("inet", "192.0.2.1", 80)),
        ("2001:db8::1", Address("inet6", "2001:db8::1", 80)),
        ("fe80::1%eth0", Address("inet6", "fe80::1%eth0", 80)),
        ("::1", Address("inet6", "::1", 80)),
    ],
)
def test_an_address_finds_its_family(host, address):
    assert Address.ip(host, 80) == address


@pytest.mark.parametrize("host", ["::ffff:192.0.2.1", "::FFFF:192.0.2.1", "::ffff:c000:201"])
def test_an_ipv4_address_that_came_through_ipv6_is_unmapped(host):
    assert Address.ip(host, 80) == Address("inet", "192.0.2.1", 80)


def test_an_address_that_only_looks_mapped_is_left_alone():
    # RFC 2765 section 2.1: IPv4-translated, not IPv4-mapped.
    host = "::ffff:0:c000:201"

    assert Address.ip(host, 80) == Address("inet6", host, 80)


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        (Address("inet", "192.0.2.1", 80), "192.0.2.1:80"),
        (Address("inet6", "2001:db8::1", 80), "[2001:db8::1]:80"),
        (Address("unix", path="/run/door.sock"), "unix:/run/door.sock"),
        (Address("unix", path="\0door"), "unix:@door"),
        (Address("unix"), "unix"),
        (Address("memory"), "memory"),
    ],
)
def test_an_address_is_shown_as_operators_write_it(address, shown):
    assert str(address) == shown


def test_addresses_are_values():
    assert Address.ip("192.0.2.1", 80) in {Address("inet", "192.0.2.1", 80)}


def test_nothing_is_known_unless_somebody_says_so():
    assert (
        PeerFacts()
        == NO_FACTS
        == PeerFacts(
            address=Address("memory"), local=Address("memory"), tls=None, uid=None, sessions=()
        )
    )


def test_tls_without_a_certificate_names_nobody():
    assert TlsFacts(alpn="chat") == TlsFacts(alpn="chat", names=(), certificate=None, end_point=b"")
