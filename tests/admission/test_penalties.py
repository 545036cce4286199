import tracemalloc
from math import inf, nan
from random import Random
from time import thread_time
from typing import get_args

import pytest

from sockproto.admission.expiries import MAX_SOURCES
from sockproto.admission.penalties import Penalties, SourcePenalties
from sockproto.admission.rules import Applicant
from sockproto.core.errors import ConfigurationError
from sockproto.events import Reason


def peer(now=0.0, source=7, family="inet"):
    return Applicant(family, None, source, False, now)


def charged(*reasons, now=0.0, penalties=None, silent=False):
    rule = SourcePenalties(penalties or Penalties())
    for reason in reasons:
        rule.charge(peer(), reason, silent, now)
    return rule


def refused(rule, now, source=7):
    return bool(rule.odds(peer(now, source)))


@pytest.mark.parametrize(
    ("reason", "silent", "seconds"),
    [
        ("timeout", False, 10.0),
        ("timeout", True, 1.0),
        ("rejected", False, 5.0),
        ("rejected", True, 5.0),
        ("violation", False, 10.0),
        ("limit", False, 10.0),
        ("limit", True, 10.0),
        ("crashed", True, 90.0),
    ],
)
def test_an_ending_costs_what_it_costs(reason, silent, seconds):
    rule = charged(reason, silent=silent, penalties=Penalties(threshold=0.0))

    assert refused(rule, seconds - 0.01)
    assert not refused(rule, seconds)


def test_nothing_else_costs_anything():
    costs = charged().costs

    assert {each for each, seconds in costs.items() if seconds} == {
        "timeout",
        "rejected",
        "violation",
        "limit",
        "crashed",
    }
    assert set(costs) < set(get_args(Reason))


def test_nothing_happens_below_the_threshold():
    assert not refused(charged("rejected", "rejected"), 0.0)
    assert refused(charged("rejected", "rejected", "rejected"), 0.0)
    assert refused(charged("crashed"), 0.0)


def test_penalties_run_down_as_time_does():
    rule = charged("timeout")

    rule.charge(peer(), "rejected", False, 0.5)
    assert not refused(rule, 0.5)

    rule.charge(peer(), "rejected", False, 4.9)
    assert refused(rule, 4.9)


def test_it_is_not_let_in_again_before_all_has_run_down():
    rule = charged("timeout", "timeout")

    assert [refused(rule, now) for now in (0.0, 5.1, 10.0, 19.9, 20.0, 21.0)] == [
        True,
        True,
        True,
        True,
        False,
        False,
    ]


def test_once_they_have_run_down_it_starts_anew():
    rule = charged("timeout", "timeout")

    rule.charge(peer(), "timeout", False, 20.0)
    assert not refused(rule, 20.0)

    rule.charge(peer(), "rejected", False, 20.0)
    assert refused(rule, 20.0)


def test_it_is_never_more_than_the_most():
    rule = charged(*["crashed"] * 20)

    assert refused(rule, 599.9)
    assert not refused(rule, 600.0)


def test_who_did_nothing_is_not_refused_for_others():
    rule = charged("crashed")
    rule.charge(peer(source=None), "crashed", False, 0.0)

    assert not refused(rule, 0.0, source=8)
    assert not refused(rule, 0.0, source=None)


def test_what_costs_nothing_is_not_remembered():
    penalties = Penalties(reject=0.0, threshold=0.0)
    rule = charged("rejected", penalties=penalties)

    assert not refused(rule, 0.0)
    assert rule.figures(peer()) == "0.0 s have accrued, enforced from 0 s"


# A slot, while they are scarce


def held(rule, seconds, now, scarcity, reason="timeout", source=7):
    """Somebody had a slot for so long, which ends now."""
    silent = reason in ("timeout", "probe")
    rule.charge(peer(now - seconds, source), reason, silent, now, scarcity)
    return rule


@pytest.mark.parametrize("reason", ["timeout", "probe", "lost", "rejected", "limit", "violation"])
def test_while_slots_are_scarce_one_costs_as_long_as_it_was_held_however_it_ended(reason):
    rule = held(charged(), 5.0, 5.0, 0.5, reason)
    assert rule.figures(peer(5.0)) == "75.0 s have accrued by one slip, enforced with the next"

    held(rule, 5.0, 10.0, 1.0, reason)

    assert refused(rule, 5.0 + 75.0 + 150.0 - 0.01)
    assert not refused(rule, 5.0 + 75.0 + 150.0)


@pytest.mark.parametrize("reason", ["timeout", "probe", "lost", "rejected", "limit", "violation"])
def test_one_slip_is_let_pass_and_the_next_is_not(reason):
    rule = held(charged(), 5.0, 5.0, 1.0, reason)
    assert not refused(rule, 5.0)

    assert refused(held(rule, 0.5, 6.0, 0.5, reason), 6.0)


def test_a_slip_that_has_run_down_is_forgotten():
    rule = held(charged(), 5.0, 5.0, 1.0)

    assert not refused(held(rule, 5.0, 155.0, 1.0), 155.0)


def test_a_crash_is_no_slip_however_long_it_took():
    assert refused(held(charged(), 5.0, 5.0, 1.0, "crashed"), 5.0)


def test_where_slots_are_plenty_it_does_not_matter_for_how_long_one_was_held():
    rule = charged()
    for now in range(100):
        held(rule, 4.9, now, 0.0, "probe")
        held(rule, 5.0, now, 0.0, "timeout", source=8)

    assert rule.figures(peer(99.0)) == "0.0 s have accrued, enforced from 15 s"
    assert not refused(rule, 99.0, source=8)


def test_a_health_check_that_comes_every_second_is_never_kept_out():
    rule = charged()
    for now in range(600):
        held(rule, 0.01, now, 1.0, "probe")
        assert not refused(rule, now)


def test_a_slot_never_costs_more_than_the_most():
    rule = held(held(charged(), 60.0, 60.0, 1.0), 60.0, 60.0, 1.0)

    assert refused(rule, 659.9)
    assert not refused(rule, 660.0)


def test_a_slot_may_cost_nothing():
    rule = charged(penalties=Penalties(held=0.0))

    assert not refused(held(held(rule, 10.0, 10.0, 1.0), 10.0, 10.0, 1.0), 10.0)


def test_a_full_table_lets_the_soonest_to_expire_off():
    rule = SourcePenalties(Penalties(), max_sources=2)
    for source, reasons in ((1, 2), (2, 1), (3, 3)):
        for _ in range(reasons):
            rule.charge(peer(source=source), "crashed", False, 0.0)

    assert [refused(rule, 0.0, source) for source in (1, 2, 3)] == [True, False, True]


def test_families_have_a_table_each():
    rule = SourcePenalties(Penalties(), max_sources=1)
    for source, family in ((1, "inet"), (2, "inet6"), (3, "unix")):
        rule.charge(peer(source=source, family=family), "crashed", False, 0.0)

    assert [bool(rule.odds(peer(0.0, *each))) for each in ((1, "inet"), (2, "inet6"))] == [
        True,
        True,
    ]


def test_a_full_table_of_the_worst_takes_32_mib_at_most():
    random = Random(1)
    tracemalloc.start()
    rule = SourcePenalties(Penalties())

    for step in range(100_000):
        source = 1 << 128 | random.getrandbits(64) << 64
        rule.charge(peer(source=source, family="inet6"), "crashed", False, step / 1000)

    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak <= 32 * 1024 * 1024


@pytest.mark.slow
def test_a_million_networks_leave_a_full_table_and_each_takes_as_long_as_the_last():
    random = Random(1)
    rule = SourcePenalties(Penalties())

    def charge(first, count):
        begun = thread_time()
        for step in range(first, first + count):
            source = 1 << 128 | random.getrandbits(64) << 64
            rule.charge(peer(source=source, family="inet6"), "crashed", False, step / 1000)
        return thread_time() - begun

    # The thread's own time, and the quickest of a few: others may want the caches, too.
    charge(0, 100_000)
    early = min(charge(100_000 + 20_000 * each, 20_000) for each in range(10))
    charge(300_000, 500_000)
    late = min(charge(800_000 + 20_000 * each, 20_000) for each in range(10))

    assert len(rule._tables["inet6"]) == MAX_SOURCES
    assert late < 2 * early


@pytest.mark.slow
def test_a_million_networks_take_32_mib_at_most():
    random = Random(1)
    tracemalloc.start()
    rule = SourcePenalties(Penalties())

    for step in range(1_000_000):
        source = 1 << 128 | random.getrandbits(64) << 64
        rule.charge(peer(source=source, family="inet6"), "crashed", False, step / 1000)

    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak <= 32 * 1024 * 1024
    assert len(rule._tables["inet6"]) == MAX_SOURCES


def test_it_says_how_much_has_accrued_and_how_long_to_wait():
    rule = charged("timeout")

    assert rule.figures(peer(4.0)) == "6.0 s have accrued, enforced from 15 s"
    rule.charge(peer(), "timeout", False, 4.0)
    assert rule.figures(peer(5.0)) == ("refused for 15.0 s more, for how its source has behaved")
    assert rule.figures(peer(50.0)) == "0.0 s have accrued, enforced from 15 s"
    assert rule.figures(peer(50.0, source=None)) == "not limited per source"


@pytest.mark.parametrize(
    "name", ["deadline", "reject", "silence", "violation", "crash", "held", "most"]
)
@pytest.mark.parametrize("value", [-1.0, nan, inf])
def test_a_penalty_that_is_no_time_is_an_error(name, value):
    with pytest.raises(ConfigurationError) as caught:
        Penalties(**{name: value})

    assert (
        str(caught.value) == f"a penalty's {name} must be 0 seconds or more, and end, got {value}"
    )


def test_a_threshold_that_is_never_reached_is_an_error():
    with pytest.raises(ConfigurationError) as caught:
        Penalties(threshold=20.0, most=10.0)

    assert str(caught.value) == (
        "penalties enforced from 20 s but cut at 10 s are never enforced; "
        "give a lower threshold, or a higher most"
    )
