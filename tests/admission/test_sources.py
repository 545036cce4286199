import pytest

from sockproto.admission.networks import Networks, number_of
from sockproto.admission.sources import Sources
from sockproto.core.errors import ConfigurationError
from sockproto.core.facts import Address

DEFAULT = Sources()


def at(host):
    return number_of(Address.ip(host, 8471))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("192.0.2.1", "::ffff:192.0.2.1"),
        ("2001:db8::1", "2001:db8::ffff:ffff:ffff:ffff"),
        ("fe80::1%eth0", "fe80::2%eth1"),
    ],
)
def test_these_addresses_are_one_source(one, other):
    assert DEFAULT.find(at(one), None) == DEFAULT.find(at(other), None)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("192.0.2.1", "192.0.2.2"),
        ("2001:db8::1", "2001:db8:0:1::1"),
        ("0.0.0.0", "::"),
        ("0.0.0.7", "::7"),
    ],
)
def test_these_addresses_are_two_sources(one, other):
    assert DEFAULT.find(at(one), None) != DEFAULT.find(at(other), None)


def test_ten_thousand_addresses_of_one_network_are_one_source():
    hosts = (f"2001:db8:0:1::{number:x}" for number in range(10_000))

    assert len({DEFAULT.find(at(host), None) for host in hosts}) == 1


def test_the_prefixes_can_be_chosen():
    sources = Sources(24, 48)

    assert sources.find(at("192.0.2.1"), None) == sources.find(at("192.0.2.99"), None)
    assert sources.find(at("192.0.2.1"), None) != sources.find(at("192.0.3.1"), None)
    assert sources.find(at("2001:db8::1"), None) == sources.find(at("2001:db8:0:1::1"), None)
    assert sources.find(at("2001:db8::1"), None) != sources.find(at("2001:db8:1::1"), None)


def test_a_prefix_of_no_bits_makes_one_source_of_a_whole_family():
    sources = Sources(0, 0, Networks())

    assert sources.find(at("192.0.2.1"), None) == sources.find(at("127.0.0.1"), None)
    assert sources.find(at("2001:db8::1"), None) == sources.find(at("::1"), None)
    assert sources.find(at("::1"), None) != sources.find(at("127.0.0.1"), None)


@pytest.mark.parametrize(
    ("prefixes", "words"),
    [
        ((33, 64), "an IPv4 source of 33 bits cannot be; give from 0 to 32"),
        ((32, 129), "an IPv6 source of 129 bits cannot be; give from 0 to 128"),
        ((-1, 64), "an IPv4 source of -1 bits cannot be; give from 0 to 32"),
    ],
)
def test_a_prefix_that_no_address_has_is_an_error(prefixes, words):
    with pytest.raises(ConfigurationError) as caught:
        Sources(*prefixes)

    assert str(caught.value) == words


def test_loopback_is_exempt_unless_nobody_is():
    assert DEFAULT.find(at("127.0.0.1"), None) is None
    assert DEFAULT.find(at("::1"), None) is None
    assert Sources(exempt=Networks()).find(at("127.0.0.1"), None) is not None


def test_everybody_can_be_exempt():
    sources = Sources(exempt=Networks.parse("all"))

    assert sources.find(at("192.0.2.1"), None) is None
    assert sources.find(at("2001:db8::1"), None) is None


def test_the_peers_of_a_unix_socket_are_known_by_their_user():
    assert DEFAULT.find(None, 1000) == DEFAULT.find(None, 1000)
    assert DEFAULT.find(None, 1000) != DEFAULT.find(None, 1001)
    assert DEFAULT.find(None, 0) is not None
    assert DEFAULT.find(None, None) is None


def test_no_user_is_the_same_source_as_an_address():
    everybody = Sources(exempt=Networks())

    assert everybody.find(at("0.0.0.7"), None) != everybody.find(None, 7)
    assert everybody.find(at("::7"), None) != everybody.find(None, 7)


@pytest.mark.parametrize(
    ("number", "uid", "words"),
    [
        (at("192.0.2.1"), None, "192.0.2.1/32"),
        (at("2001:db8::1"), None, "2001:db8::/64"),
        (at("0.0.0.0"), None, "0.0.0.0/32"),
        (at("::"), None, "::/64"),
        (at("::1"), None, "exempt"),
        (None, 1000, "user 1000"),
        (None, 0, "user 0"),
        (None, None, "of no known source"),
    ],
)
def test_a_source_can_be_named(number, uid, words):
    assert DEFAULT.describe(number, uid) == words


def test_a_chosen_prefix_is_part_of_the_name():
    sources = Sources(20, 44)

    assert sources.describe(at("192.0.2.1"), None) == "192.0.0.0/20"
    assert sources.describe(at("2001:db8:ff::1"), None) == "2001:db8:f0::/44"
