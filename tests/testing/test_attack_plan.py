"""An attack is bounded, stays on this machine, and says in one line why it is refused."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from sockproto.core.errors import ConfigurationError
from sockproto.testing.attack import KINDS, Plan
from sockproto.testing.attack.attackers import ATTACKERS, half_a_hello
from sockproto.testing.attack.plan import BOUNDS, DEFAULTS, addresses, read_bytes, read_target


def refusal(kind: str = "hold", target: str = "127.0.0.1:8001", **more: object) -> str:
    with pytest.raises(ConfigurationError) as caught:
        Plan.read(kind, target, **more)
    return str(caught.value)


def test_a_plan_needs_no_more_than_a_kind_and_a_target():
    plan = Plan.read("hold", "127.0.0.1:8001")

    assert (plan.host, plan.port) == ("127.0.0.1", 8001)
    assert plan.sources == ip_network("127.0.0.2")
    assert plan.prober_sources == ip_network("127.0.0.1")
    assert (plan.connections, plan.return_after) == (1000, 1.0)
    assert (plan.send, plan.expect) == (b"1", b"welcome to server!")


def test_over_ipv6_everybody_comes_from_the_one_address_there_is():
    plan = Plan.read("flood", "[::1]:8001")

    assert str(plan.host) == "::1"
    assert plan.sources == plan.prober_sources == ip_network("::1")


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_its_attackers_and_defaults_within_bounds(kind):
    plan = Plan.read(kind, "127.0.0.1:8001")

    assert kind in ATTACKERS
    assert plan.connections == KINDS[kind].connections


def test_the_kinds_are_those_that_can_attack():
    assert list(ATTACKERS) == list(KINDS)


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("127.0.0.1:1", ("127.0.0.1", 1)),
        ("tcp:127.9.8.7:65535", ("127.9.8.7", 65535)),
        ("localhost:8001", ("127.0.0.1", 8001)),
        ("[::1]:8001", ("::1", 8001)),
    ],
)
def test_a_target_is_read(target, expected):
    assert read_target(target) == expected


@pytest.mark.parametrize("target", ["8001", "127.0.0.1", "127.0.0.1:0", "127.0.0.1:65536", "::1:1"])
def test_a_target_that_cannot_be_read_is_shown_how_to_write_it(target):
    assert refusal(target=target) == f"{target!r} is no target; write it like 127.0.0.1:8001"


@pytest.mark.parametrize(
    ("target", "shown"),
    [
        ("10.0.0.1:80", "10.0.0.1"),
        ("0.0.0.0:80", "0.0.0.0"),
        ("128.0.0.1:80", "128.0.0.1"),
        ("[2001:db8::1]:80", "2001:db8::1"),
        ("[::ffff:10.0.0.1]:80", "::ffff:a00:1"),
        ("[::]:80", "::"),
    ],
)
def test_a_target_that_is_not_loopback_is_refused(target, shown):
    expected = f"{shown} is not loopback; attacks stay on this machine: 127.0.0.0/8 and ::1"

    # How Python shows a mapped address has changed.
    assert refusal(target=target).replace("::ffff:10.0.0.1", "::ffff:a00:1") == expected


def test_a_name_is_refused_without_being_looked_up():
    expected = (
        "'example.org' is no address of loopback; write it like 127.0.0.1, ::1 or 127.1.0.0/16"
    )

    assert refusal(target="example.org:80") == expected


@pytest.mark.parametrize("whose", ["sources", "prober_sources"])
@pytest.mark.parametrize("network", ["10.0.0.0/8", "127.0.0.0/7", "0.0.0.0/0", "192.0.2.1"])
def test_nobody_comes_from_elsewhere(whose, network):
    # With bits of the host below the prefix, it is no network at all.
    assert "loopback" in refusal(**{whose: network})


def test_a_network_is_of_loopback_as_a_whole_or_not_at_all():
    expected = "126.0.0.0/7 is not loopback; attacks stay on this machine: 127.0.0.0/8 and ::1"

    assert refusal(sources="126.0.0.0/7") == expected


def test_a_source_that_cannot_reach_the_target_is_refused():
    expected = "::1 cannot reach 127.0.0.1: one is IPv4, the other IPv6"

    assert refusal(sources="::1") == expected


@pytest.mark.parametrize("name", BOUNDS)
def test_a_number_out_of_its_bounds_is_refused_by_name(name):
    least, most = BOUNDS[name]
    shown = name.replace("_", "-")

    for value in (most * 2, least - 1, float("nan")):
        assert refusal(**{name: value}) == (
            f"{shown} must be from {least:,g} to {most:,g}, got {value:,g}"
        )


def test_the_defaults_are_fields_of_the_plan():
    assert set(DEFAULTS) | {"connections", "return_after"} >= set(BOUNDS)


def test_an_unknown_kind_is_refused_with_those_there_are():
    assert refusal("smash") == f"no attack 'smash'; there are {', '.join(KINDS)}"


def test_a_judge_that_expects_nothing_is_refused():
    expected = "the judge has nothing to expect; give the bytes that an answer begins with"

    assert refusal(expect=b"") == expected


def test_a_judge_may_say_nothing():
    assert Plan.read("hold", "127.0.0.1:22", send=b"", expect=b"SSH-").send == b""


def test_the_patience_of_a_visit_is_from_its_first_to_its_last_try():
    assert Plan.read("hold", "127.0.0.1:22", tries=5, try_after=0.5).patience == 2.0


def test_a_network_takes_part_with_its_first_addresses():
    assert addresses(ip_network("127.1.0.0/30")) == [f"127.1.0.{number}" for number in range(4)]
    assert len(addresses(ip_network("127.0.0.0/8"))) == 65_536


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1", b"1"),
        (r"GET / HTTP/1.0\r\n\r\n", b"GET / HTTP/1.0\r\n\r\n"),
        (r"\x00\xff\\", b"\x00\xff\\"),
        ("é", "é".encode()),
        ("", b""),
    ],
)
def test_bytes_are_read_as_a_person_writes_them(text, expected):
    assert read_bytes(text) == expected


@pytest.mark.parametrize("text", ["\\x0", "\\u20ac", "tail\\"])
def test_an_escape_that_cannot_be_read_is_shown(text):
    with pytest.raises(ConfigurationError) as caught:
        read_bytes(text)
    assert str(caught.value) == f"{text!r} has an escape that cannot be read"


def test_half_a_hello_begins_a_handshake_record_and_does_not_end_it():
    half = half_a_hello()

    # RFC 8446 section 5.1: type 22, a version, and how long the record is.
    assert half[0] == 22
    assert len(half) < 5 + int.from_bytes(half[3:5], "big")
