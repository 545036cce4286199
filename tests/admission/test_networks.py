from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sockproto.admission.networks import Networks, number_of, require_networks
from sockproto.core.errors import ConfigurationError
from sockproto.core.facts import Address

LOOPBACK = Networks.parse("127.0.0.0/8,::1/128")
ALL = Networks.parse("all")


def at(host: str) -> Address:
    return Address.ip(host, 8471)


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.255.255.255", "127.0.0.0", "::1", "::ffff:127.0.0.1"]
)
def test_an_address_is_in_the_networks_that_hold_it(host):
    assert at(host) in LOOPBACK


@pytest.mark.parametrize("host", ["126.255.255.255", "128.0.0.0", "::", "::2", "::7f00:1"])
def test_an_address_outside_of_all_networks_is_in_none(host):
    assert at(host) not in LOOPBACK


@pytest.mark.parametrize(
    "address",
    [Address("unix", path="/run/door"), Address("unix"), Address("memory")],
)
def test_an_address_without_a_number_is_in_no_network(address):
    assert address not in ALL
    assert ALL.match(address) is None


@pytest.mark.parametrize("family", ["inet", "inet6"])
def test_a_name_is_in_no_network(family):
    assert Address(family, "localhost", 80) not in ALL


@pytest.mark.parametrize("text", ["", "none"])
def test_none_and_nothing_are_the_empty_set(text):
    assert Networks.parse(text) == Networks()
    assert at("127.0.0.1") not in Networks.parse(text)
    assert not Networks.parse(text)


def test_all_is_every_address_of_both_families():
    assert ALL
    assert Networks.parse("::/0,0.0.0.0/0") == ALL
    assert at("192.0.2.1") in ALL
    assert at("2001:db8::1") in ALL


def test_every_network_of_one_family_holds_no_address_of_the_other():
    assert at("192.0.2.1") not in Networks.parse("::/0")
    assert at("2001:db8::1") not in Networks.parse("0.0.0.0/0")


def test_a_bare_address_is_a_network_of_its_own():
    assert Networks.parse("192.0.2.1,::1") == Networks.parse("192.0.2.1/32,::1/128")


def test_an_ipv4_mapped_network_means_the_ipv4_one():
    assert Networks.parse("::ffff:192.0.2.0/120,::ffff:0:0/96") == Networks.parse(
        "192.0.2.0/24,0.0.0.0/0"
    )


def test_a_network_that_only_holds_the_mapped_ones_is_left_alone():
    assert str(Networks.parse("::/64,::fffe:0:0/96")) == "::/64,::fffe:0:0/96"


def test_the_interface_of_a_link_local_address_does_not_matter():
    assert at("fe80::1%eth0") in Networks.parse("fe80::/10")


def test_blanks_around_a_network_do_not_matter():
    assert Networks.parse(" 10.0.0.0/8 , ::1 ") == Networks.parse("10.0.0.0/8,::1")


@pytest.mark.parametrize(
    ("host", "length"),
    [
        ("10.1.2.3", 32),
        ("10.1.2.4", 24),
        ("10.1.3.1", 8),
        ("11.0.0.1", None),
        ("2001:db8::1", 128),
        ("2001:db8::2", 32),
        ("2001:db9::", None),
    ],
)
def test_the_most_specific_network_is_the_match(host, length):
    networks = Networks.parse("10.0.0.0/8,10.1.2.3,10.1.2.0/24,2001:db8::/32,2001:db8::1")

    assert networks.match(at(host)) == length


def test_that_everything_matches_is_a_match_of_no_length():
    assert ALL.match(at("192.0.2.1")) == 0


@pytest.mark.parametrize(
    "text",
    [
        "10.0.0.0/33",
        "::1/129",
        "10.0.0/8",
        "010.0.0.1",
        "localhost",
        "10.0.0.0/255.0.0.0",
        "10.0.0.0/",
        "10.0.0.0/8/8",
        "10.0.0.0/+8",
        "10.0.0.0/٨",
        "fe80::1%eth0",
        "all",
        "none",
        "",
    ],
)
def test_what_is_no_network_is_named_with_how_to_write_one(text):
    with pytest.raises(ConfigurationError) as caught:
        Networks.parse(f"127.0.0.0/8,{text}")

    assert str(caught.value) == (
        f"{text!r} is not a network; write it like 10.0.0.0/8, 192.0.2.1 or 2001:db8::/32"
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "10.1.2.3/8",
            "'10.1.2.3/8' has bits set beyond its first 8; "
            "write 10.0.0.0/8 for that network, or 10.1.2.3 for the address alone",
        ),
        (
            "2001:db8::1/32",
            "'2001:db8::1/32' has bits set beyond its first 32; "
            "write 2001:db8::/32 for that network, or 2001:db8::1 for the address alone",
        ),
    ],
)
def test_bits_beyond_the_prefix_are_an_error_that_offers_what_may_be_meant(text, words):
    with pytest.raises(ConfigurationError) as caught:
        Networks.parse(f"::1,{text}")

    assert str(caught.value) == words


def test_networks_are_values():
    assert Networks.parse("10.0.0.0/8,::1") == Networks.parse("::1,10.0.0.0/8,10.0.0.0/8")
    assert len({LOOPBACK, Networks.parse("::1,127.0.0.0/8")}) == 1
    with pytest.raises(AttributeError):
        LOOPBACK._inet = ()


def test_networks_are_shown_in_order_as_they_can_be_read():
    networks = Networks.parse("::1,192.0.2.1,10.0.0.0/8,::/0")

    assert str(networks) == "10.0.0.0/8,192.0.2.1/32,::/0,::1/128"
    assert repr(networks) == "Networks.parse('10.0.0.0/8,192.0.2.1/32,::/0,::1/128')"
    assert str(Networks()) == "none"


def any_network(version, bits):
    numbers = st.integers(0, 2**bits - 1)
    pairs = st.tuples(numbers.map(ip_address if version == 4 else _ip6), st.integers(0, bits))
    return pairs.map(lambda pair: ip_network(f"{pair[0]}/{pair[1]}", strict=False))


def _ip6(number):
    return ip_address(number.to_bytes(16, "big"))


@settings(deadline=None)
@given(st.lists(any_network(4, 32) | any_network(6, 128), max_size=8), st.data())
def test_networks_agree_with_the_standard_library(networks, data):
    networks = [each for each in networks if each.version == 4 or not each[0].ipv4_mapped]
    parsed = Networks.parse(",".join(map(str, networks)))
    inside = [each[data.draw(st.integers(0, each.num_addresses - 1))] for each in networks]
    elsewhere = data.draw(st.integers(0, 2**32 - 1).map(ip_address))

    assert Networks.parse(str(parsed)) == parsed
    for address in [*inside, elsewhere]:
        mapped = address.version == 6 and address.ipv4_mapped
        holding = [each.prefixlen for each in networks if (mapped or address) in each]
        assert parsed.match(at(str(address))) == max(holding, default=None)


def test_the_numbers_of_the_two_families_differ():
    assert number_of(at("0.0.0.1")) == 1 << 32 | 1
    assert number_of(at("::1")) == 1 << 128 | 1
    assert number_of(at("fe80::1%eth0")) == number_of(at("fe80::1"))
    assert number_of(at("::ffff:0.0.0.1")) == number_of(at("0.0.0.1"))


@pytest.mark.parametrize(
    "address",
    [
        Address("unix", path="/run/door"),
        Address("memory"),
        Address("inet", "localhost"),
        Address("inet", "local\0host"),
        Address("inet6", "\udcff"),
    ],
)
def test_who_has_no_number_is_in_no_network(address):
    assert number_of(address) is None
    assert ALL.match_number(None) is None


def test_a_number_is_matched_as_its_address_is():
    assert LOOPBACK.match_number(number_of(at("127.0.0.1"))) == 8
    assert LOOPBACK.match_number(number_of(at("::1"))) == 128
    assert LOOPBACK.match_number(number_of(at("192.0.2.1"))) is None


def test_the_first_address_of_each_family_has_a_family():
    assert Networks.parse("0.0.0.0").match(at("0.0.0.0")) == 32
    assert Networks.parse("::").match(at("::")) == 128


def test_text_is_no_network_until_it_is_parsed():
    require_networks("allow", Networks.parse("10.0.0.0/8"))
    with pytest.raises(TypeError) as raised:
        require_networks("allow", "10.0.0.0/8")
    assert str(raised.value) == "allow must be Networks, got a str: Networks.parse('10.0.0.0/8')"
