"""What the visits of an honest client add up to."""

from __future__ import annotations

import pytest

from sockproto.testing.attack.phases import Phase, last_part, phase, quantile, recovery, slices
from sockproto.testing.attack.prober import CLOSED, LATE, SERVED, Try, Visit


def visit(began: float, *came_to: str, took: float = 0.001) -> Visit:
    """A visit whose tries are a second apart."""
    return Visit([Try(began + number, took, each) for number, each in enumerate(came_to)])


def test_a_phase_sums_up_the_visits_that_began_in_it():
    visits = [
        visit(9.0, LATE),
        visit(10.0, SERVED, took=0.001),
        visit(11.0, CLOSED, SERVED, took=0.003),
        visit(12.0, CLOSED, CLOSED),
        visit(13.0, SERVED, took=0.002),
        visit(14.0, LATE),
    ]

    assert phase("attack", visits, 10.0, 14.0) == Phase(
        "attack", 4, 0.5, 0.75, (2, 1), 0.002, 0.003, {CLOSED: 3}
    )


def test_a_phase_without_visits_says_nothing():
    assert phase("quiet", [], 0.0, 1.0) == Phase("quiet", 0, None, None, (), None, None, {})


def test_a_visit_that_the_end_may_have_rescued_does_not_count_as_served_in_the_attack():
    visits = [visit(1.0, CLOSED, CLOSED), visit(9.0, CLOSED, SERVED)]

    summed = phase("attack", visits, 0.0, 10.0, patience=4.0)

    assert summed.served == 0.0
    # Its first try was in the attack all the same.
    assert summed.visits == 2


def test_in_an_attack_shorter_than_the_patience_every_visit_counts():
    assert phase("attack", [visit(1.0, CLOSED, SERVED)], 0.0, 2.0, patience=4.0).served == 1.0


def test_a_visit_that_gave_up_counts_with_each_of_its_tries():
    summed = phase("attack", [visit(0.0, CLOSED, LATE, CLOSED)], 0.0, 1.0)

    assert summed.trouble == {CLOSED: 2, LATE: 1}
    assert (summed.first_try, summed.served, summed.tries) == (0.0, 0.0, ())


@pytest.mark.parametrize(
    ("part", "expected"), [(0.0, 1.0), (0.5, 2.0), (0.51, 3.0), (0.99, 4.0), (1.0, 4.0)]
)
def test_a_quantile_is_one_of_the_values(part, expected):
    assert quantile([1.0, 2.0, 3.0, 4.0], part) == expected


def test_of_nothing_there_is_no_quantile():
    assert quantile([], 0.5) is None


def test_who_is_served_throughout_needs_no_recovery():
    assert recovery([visit(9.0, SERVED), visit(11.0, SERVED)], 10.0) == 0.0


def test_recovery_lasts_until_the_last_try_in_vain_is_over():
    visits = [visit(9.5, CLOSED, CLOSED, SERVED, took=0.25), visit(12.0, SERVED)]

    assert recovery(visits, 10.0) == pytest.approx(0.75)


def test_recovery_was_not_seen_if_nobody_was_served_after_the_last_try_in_vain():
    assert recovery([visit(11.0, SERVED), visit(12.0, CLOSED)], 10.0) is None
    assert recovery([], 10.0) is None


def test_the_end_of_an_attack_leaves_time_for_all_tries():
    assert last_part(100.0, 160.0, 4.0) == (146.0, 156.0)


def test_the_end_of_a_short_attack_is_no_more_than_its_first_half():
    assert last_part(100.0, 106.0, 4.0) == (100.0, 103.0)


def test_an_attack_is_cut_into_slices_of_ten_seconds():
    visits = [visit(1.0, SERVED), visit(12.0, CLOSED), visit(23.0, CLOSED, SERVED)]

    cut = slices(visits, 0.0, 24.0, 2.0)

    assert [(each.name, each.visits, each.served) for each in cut] == [
        ("0-10 s", 1, 1.0),
        ("10-20 s", 1, 0.0),
        ("20-24 s", 1, 1.0),
    ]
