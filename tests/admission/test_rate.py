from fractions import Fraction
from math import inf, nan

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sockproto.admission.rate import MaxRatePerSource, Rate
from sockproto.admission.rules import Applicant
from sockproto.core.errors import ConfigurationError


def at(now, source=7, family="inet"):
    return Applicant(family, None, source, False, now)


def tries(rule, *times):
    """What becomes of attempts at these times: a word of y and n."""
    answers = []
    for now in times:
        refused = rule.odds(at(now))
        if not refused:
            rule.count(at(now))
        answers.append("n" if refused else "y")
    return "".join(answers)


def test_so_many_may_come_at_once_and_then_one_in_every_part_of_the_time():
    rule = MaxRatePerSource(Rate(4, 8.0))

    assert tries(rule, 0.0, 0.0, 0.0, 0.0, 0.0) == "yyyyn"
    assert tries(rule, 1.9, 2.0, 2.1, 4.0, 4.1) == "nynyn"


def test_after_a_quiet_time_it_is_as_if_nothing_had_been():
    rule = MaxRatePerSource(Rate(2, 10.0))

    assert tries(rule, 0.0, 0.0, 0.0) == "yyn"
    assert tries(rule, 10.0, 10.0, 10.0) == "yyn"


def test_what_is_refused_does_not_count():
    rule = MaxRatePerSource(Rate(1, 10.0))

    assert tries(rule, 0.0, *[0.1 * each for each in range(1, 100)], 10.0) == "y" + "n" * 99 + "y"


@pytest.mark.parametrize("start", [0.0, 1e5, 1.7e9])
@pytest.mark.parametrize("rate", [Rate(50, 10.0), Rate(7, 3.0), Rate(3, 0.1), Rate(1, 3600.0)])
def test_the_count_is_exact_whatever_the_clock_reads(rate, start):
    rule = MaxRatePerSource(rate)

    assert tries(rule, *[start] * (rate.count + 1)) == "y" * rate.count + "n"


def test_sources_do_not_share_and_who_has_none_is_not_limited():
    rule = MaxRatePerSource(Rate(1, 10.0))
    rule.count(at(0.0, source=7))
    rule.count(at(0.0, source=None))

    assert rule.odds(at(0.0, source=7))
    assert not rule.odds(at(0.0, source=8))
    assert not rule.odds(at(0.0, source=None))


def test_it_says_how_much_is_used_and_how_long_to_wait():
    rule = MaxRatePerSource(Rate(2, 10.0))

    assert rule.figures(at(0.0)) == "0 of 2/10s are used, the next may come in 0.0 s"
    rule.count(at(0.0))
    assert rule.figures(at(0.0)) == "1 of 2/10s are used, the next may come in 0.0 s"
    rule.count(at(0.0))
    assert rule.figures(at(1.0)) == "2 of 2/10s are used, the next may come in 4.0 s"
    assert rule.figures(at(1.0, source=None)) == "not limited per source"


def test_a_full_table_forgets_who_would_be_forgotten_first():
    rule = MaxRatePerSource(Rate(1, 10.0), max_sources=2)
    for now, source in ((0.0, 1), (1.0, 2), (2.0, 3)):
        rule.count(at(now, source))

    assert [bool(rule.odds(at(2.0, source))) for source in (1, 2, 3)] == [False, True, True]


@pytest.mark.parametrize("rate", [(0, 10.0), (-1, 10.0), (5, 0.0), (5, -1.0), (5, nan), (5, inf)])
def test_what_is_no_rate_is_named_with_how_to_give_one(rate):
    with pytest.raises(ConfigurationError) as caught:
        Rate(*rate)

    assert str(caught.value) == (
        f"{rate[0]}/{rate[1]:g}s is not a rate; give a count and a time above 0, like 50/10s"
    )


# Whole milliseconds, so that the model can be exact.
@settings(deadline=None)
@given(st.integers(1, 8), st.integers(1, 20), st.lists(st.integers(0, 3000), max_size=60))
def test_it_agrees_with_a_bucket_that_is_filled_by_the_drop(count, seconds, pauses):
    rule = MaxRatePerSource(Rate(count, float(seconds)))
    tokens, now = Fraction(count), 0

    for pause in pauses:
        now += pause
        tokens = min(Fraction(count), tokens + Fraction(pause * count, seconds * 1000))
        who = at(now / 1000)
        assert bool(rule.odds(who)) == (tokens < 1)
        if tokens >= 1:
            tokens -= 1
            rule.count(who)
