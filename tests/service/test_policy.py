"""The options that say who may start: what becomes of them, and what is said of a mistake."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest

from sockproto import ConfigurationError
from sockproto.admission.early_drop import EarlyDrop
from sockproto.admission.networks import Networks
from sockproto.admission.policy import DEFAULT_POLICY, Policy
from sockproto.admission.rate import Rate
from sockproto.service.policy import (
    MAX_GOODBYE,
    POLICY_OPTIONS,
    max_connections_for,
    policy_of,
)

UNBOUNDED = -1
"""RLIM_INFINITY, as the resource module has it."""


def read(name: str, text: str) -> dict[str, object]:
    return POLICY_OPTIONS[name].read(text)


@pytest.mark.parametrize(
    ("descriptors", "most"),
    [
        (20000, 9936),
        (1024, 448),
        (256, 64),
        # Half less 64 would leave nothing, or next to it.
        (255, 63),
        (130, 32),
        (64, 16),
        (1, 1),
        (0, 1),
        (UNBOUNDED, None),
    ],
)
def test_half_of_the_descriptors_less_some_are_for_connections(descriptors, most):
    assert max_connections_for(descriptors) == most


def test_unless_something_is_said_the_policy_is_the_default_with_a_cap_on_connections():
    assert policy_of({}, 1024) == replace(DEFAULT_POLICY, max_connections=448)
    assert policy_of({}, UNBOUNDED) == DEFAULT_POLICY


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("max-connections", "7", {"max_connections": 7}),
        ("max-connections", "off", {"max_connections": None}),
        ("max-connections-per-source", "7", {"max_connections_per_source": 7}),
        ("max-connections-per-source", "off", {"max_connections_per_source": None}),
        ("max-pending", "10:30:100", {"max_pending": EarlyDrop(10, 30, 100)}),
        ("max-pending", "100", {"max_pending": EarlyDrop(100, 100, 100)}),
        ("max-pending", "off", {"max_pending": None}),
        ("max-pending-tls", "10:30:100", {"max_pending_tls": EarlyDrop(10, 30, 100)}),
        ("max-pending-tls", "off", {"max_pending_tls": None}),
        ("max-pending-per-source", "7", {"max_pending_per_source": 7}),
        ("max-pending-per-source", "off", {"max_pending_per_source": None}),
        ("max-rate-per-source", "50/10s", {"max_rate_per_source": Rate(50, 10)}),
        ("max-rate-per-source", "off", {"max_rate_per_source": None}),
        ("source-prefix", "24,56", {"inet_prefix": 24, "inet6_prefix": 56}),
        ("allow", "10.0.0.0/8", {"allow": Networks.parse("10.0.0.0/8")}),
        ("allow", "none", {"allow": Networks()}),
        ("deny", "10.0.0.0/8, ::1", {"deny": Networks.parse("10.0.0.0/8,::1")}),
        ("penalties", "on", {"penalties": DEFAULT_POLICY.penalties}),
        ("penalties", "off", {"penalties": None}),
        ("exempt", "none", {"exempt": Networks(), "exempt_unix": False}),
        ("exempt", "unix", {"exempt": Networks(), "exempt_unix": True}),
        ("exempt", "::1", {"exempt": Networks.parse("::1"), "exempt_unix": False}),
        ("exempt", "unix, ::1", {"exempt": Networks.parse("::1"), "exempt_unix": True}),
        ("on-limit", "wait", {"wait": True}),
        ("on-limit", "close", {"wait": False}),
        ("on-limit", "reply:421 busy: later", {"wait": False, "goodbye": b"421 busy: later"}),
        ("on-limit", "reply:grüß\n", {"wait": False, "goodbye": "grüß\n".encode()}),
        ("on-limit", "reply:\udcff", {"wait": False, "goodbye": b"\xff"}),
    ],
)
def test_an_option_says_something_of_the_policy(name, text, said):
    assert read(name, text) == said
    assert policy_of(said, 1024) == replace(policy_of({}, 1024), **said)


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("max-connections", "0", "'0' is not a whole number from 1 to 2147483647"),
        ("max-pending", "5:1", "'5:1' is not a cap on pending handshakes; write START:RATE:FULL"),
        ("max-pending", "9:30:8", "'9:30:8' starts to drop at 9 and is full at 8; start at 1 or "),
        ("max-rate-per-source", "50", "'50' is not a rate; write it like 50/10s"),
        ("source-prefix", "32", "'32' is not a prefix length of IPv4 and one of IPv6, like 32,64"),
        ("source-prefix", "33,64", "an IPv4 source of 33 bits cannot be; give from 0 to 32"),
        ("source-prefix", "32,129", "an IPv6 source of 129 bits cannot be; give from 0 to 128"),
        ("allow", "10.0.0.1/8", "'10.0.0.1/8' has bits set beyond its first 8; write 10.0.0.0/8"),
        ("allow", " ", "it is empty; name networks like 10.0.0.0/8,192.0.2.1, or write none"),
        ("deny", "off", "'off' is not a network; write it like 10.0.0.0/8, 192.0.2.1 or "),
        ("penalties", "yes", "'yes' is not on or off"),
        ("on-limit", "drop", "'drop' is not wait, close or reply:TEXT"),
        ("on-limit", "reply:", "'reply:' is not wait, close or reply:TEXT"),
        ("on-limit", "close:bye", "'close:bye' is not wait, close or reply:TEXT"),
        (
            "on-limit",
            "reply:" + "x" * (MAX_GOODBYE + 1),
            "a reply of 1025 bytes is too long; give at most 1024",
        ),
    ],
)
def test_a_mistake_is_told_in_one_sentence(name, text, complaint):
    with pytest.raises((ValueError, ConfigurationError)) as caught:
        read(name, text)

    assert str(caught.value).startswith(complaint)


def test_what_is_shown_as_a_default_is_the_default():
    for name, each in POLICY_OPTIONS.items():
        if name != "max-connections":
            assert policy_of(each.read(each.default), UNBOUNDED) == DEFAULT_POLICY, name


def test_every_field_of_a_policy_has_an_option():
    said = set()
    for each, text in zip(
        POLICY_OPTIONS.values(),
        ["1", "1", "1", "1", "1", "1/1", "32,64", "all", "none", "on", "none", "reply:x"],
        strict=True,
    ):
        said |= set(each.read(text))

    # How much is remembered at most is nothing that an operator has to choose.
    assert said == {each.name for each in fields(Policy)} - {"max_sources"}
