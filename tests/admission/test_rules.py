import pytest

from sockproto.admission.counts import Counts
from sockproto.admission.early_drop import EarlyDrop
from sockproto.admission.networks import Networks, number_of
from sockproto.admission.rules import (
    AllowDeny,
    Applicant,
    MaxConnections,
    MaxPending,
    MaxPerSource,
    Verdict,
)
from sockproto.core.facts import Address


def applicant(host="192.0.2.1", source=None, tls=False):
    address = Address.ip(host, 8471)
    return Applicant(address.family, number_of(address), source, tls, 0.0)


NAMELESS = Applicant("unix", None, 1000, False, 0.0)


def verdict(allow, deny, who):
    rule = AllowDeny(Networks.parse(allow), Networks.parse(deny))
    return {0: "admitted", 1: "refused"}[rule.odds(who)]


@pytest.mark.parametrize(
    ("allow", "deny", "host", "expected"),
    [
        ("all", "none", "192.0.2.1", "admitted"),
        ("all", "192.0.2.0/24", "192.0.2.1", "refused"),
        ("all", "192.0.2.0/24", "192.0.3.1", "admitted"),
        ("all", "0.0.0.0/0", "192.0.2.1", "refused"),
        ("all", "0.0.0.0/0", "2001:db8::1", "admitted"),
        ("192.0.2.0/24", "none", "192.0.2.1", "admitted"),
        ("192.0.2.0/24", "none", "192.0.3.1", "refused"),
        ("192.0.2.0/24", "none", "2001:db8::1", "refused"),
        ("192.0.2.1", "192.0.2.0/24", "192.0.2.1", "admitted"),
        ("192.0.2.1", "192.0.2.0/24", "192.0.2.2", "refused"),
        ("192.0.2.0/24", "192.0.2.1", "192.0.2.1", "refused"),
        ("192.0.2.0/24", "192.0.2.1", "192.0.2.2", "admitted"),
        ("192.0.2.0/24", "192.0.2.0/24", "192.0.2.1", "refused"),
        ("none", "none", "192.0.2.1", "refused"),
        ("none", "none", "2001:db8::1", "refused"),
        ("10.0.0.0/8,10.1.2.3", "10.1.0.0/16", "10.1.2.3", "admitted"),
        ("10.0.0.0/8,10.1.2.3", "10.1.0.0/16", "10.1.2.4", "refused"),
        ("10.0.0.0/8,10.1.2.3", "10.1.0.0/16", "10.2.0.0", "admitted"),
        ("0.0.0.0/0", "none", "192.0.2.1", "admitted"),
        ("0.0.0.0/0", "none", "2001:db8::1", "refused"),
    ],
)
def test_the_most_specific_network_has_the_say(allow, deny, host, expected):
    assert verdict(allow, deny, applicant(host)) == expected


@pytest.mark.parametrize(
    ("allow", "deny"), [("all", "all"), ("none", "none"), ("192.0.2.1", "none")]
)
def test_who_has_no_numeric_address_is_nobodys_business(allow, deny):
    assert verdict(allow, deny, NAMELESS) == "admitted"


def test_it_says_by_how_close_a_network_one_is_known():
    rule = AllowDeny(Networks.parse("10.0.0.0/8"), Networks.parse("10.1.0.0/16"))

    assert rule.figures(applicant("10.1.0.1")) == "allowed by a /8, denied by a /16"
    assert rule.figures(applicant("10.2.0.1")) == "allowed by a /8, denied by none"
    assert rule.figures(applicant("192.0.2.1")) == "allowed by none, denied by none"


def test_connections_are_capped():
    counts = Counts()
    rule = MaxConnections(2, counts)

    counts.enter(None, False)
    assert not rule.odds(applicant())
    assert rule.figures(applicant()) == "1 of 2 connections are taken"

    counts.enter(None, True)
    assert rule.odds(applicant())


def test_pending_handshakes_are_capped_apart_from_those_of_tls():
    counts = Counts()
    rule = MaxPending("max_pending", EarlyDrop(1, 50, 3), counts)
    counts.enter(None, True)
    counts.enter(None, True)

    assert rule.odds(applicant()) == 0.0
    assert rule.odds(applicant(tls=True)) == 0.75
    assert rule.figures(applicant()) == "0 are pending, of 1:50:3"
    assert rule.figures(applicant(tls=True)) == "2 are pending, of 1:50:3"


def test_a_source_is_capped_and_others_are_not():
    counts_of = {7: 2}
    rule = MaxPerSource("max_pending_per_source", 2, counts_of, "pending")

    assert rule.odds(applicant(source=7))
    assert not rule.odds(applicant(source=8))
    assert rule.figures(applicant(source=7)) == "2 of 2 pending from its source"
    assert rule.figures(applicant(source=8)) == "0 of 2 pending from its source"


def test_who_has_no_source_has_no_cap():
    rule = MaxPerSource("max_pending_per_source", 1, {}, "pending")

    assert not rule.odds(applicant())
    assert rule.figures(applicant()) == "not limited per source"


@pytest.mark.parametrize(
    ("odds", "word"),
    [(0.0, "admits"), (0.3, "refuses 30 %"), (0.475, "refuses 48 %"), (1.0, "refuses")],
)
def test_a_verdict_has_a_word_for_what_it_is(odds, word):
    assert Verdict("max_pending", odds, "").word == word
