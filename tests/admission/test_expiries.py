from math import inf
from random import Random

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from sockproto.admission.expiries import MAX_SOURCES, Expiries, by_family


def test_a_time_is_remembered_and_replaced():
    table = Expiries()

    table.put(7, 10.0, 0.0)
    assert table.until(7) == 10.0

    table.put(7, 10.5, 0.0)
    assert table.until(7) == 10.5

    table.put(7, 30.0, 0.0)
    assert (table.until(7), len(table)) == (30.0, 1)


def test_nothing_is_known_about_who_was_never_seen():
    assert Expiries().until(7) == 0.0


def test_a_full_table_forgets_the_soonest_to_expire():
    table = Expiries(3)
    for source, until in ((1, 30.0), (2, 10.0), (3, 20.0)):
        table.put(source, until, 0.0)

    table.put(4, 5.0, 0.0)
    assert [table.until(source) for source in (1, 2, 3, 4)] == [30.0, 0.0, 20.0, 5.0]

    table.put(5, 40.0, 0.0)
    assert [table.until(source) for source in (1, 3, 4, 5)] == [30.0, 20.0, 0.0, 40.0]


def test_a_time_that_was_put_off_is_not_forgotten_by_its_old_one():
    table = Expiries(2)
    table.put(1, 10.0, 0.0)
    table.put(2, 20.0, 0.0)
    table.put(1, 30.0, 0.0)

    table.put(3, 40.0, 0.0)

    assert [table.until(source) for source in (1, 2, 3)] == [30.0, 0.0, 40.0]


def test_a_full_table_forgets_nobody_to_move_a_time():
    table = Expiries(2)
    table.put(1, 10.0, 0.0)
    table.put(2, 20.0, 0.0)

    table.put(2, 30.0, 0.0)

    assert (table.until(1), table.until(2)) == (10.0, 30.0)


def test_a_mark_goes_with_its_source():
    table = Expiries(1)
    table.put(1, 10.0, 0.0)
    table.marked.add(1)

    table.put(2, 20.0, 0.0)

    assert table.marked == set()


def test_what_has_expired_goes_bit_by_bit():
    table = Expiries()
    for source in range(100):
        table.put(source, 10.0, 0.0)

    sizes = []
    for source in range(100, 105):
        table.put(source, 50.0, 20.0)
        sizes.append(len(table))

    assert sizes == [99, 98, 97, 96, 95]


def test_a_time_that_moves_for_ever_leaves_nothing_behind():
    table = Expiries()
    table.put(1, 600.0, 0.0)

    for now in range(10_000):
        table.put(2, now + 600.0, float(now))

    # Seconds whose sources have all gone elsewhere are tidied up in passing.
    assert len(table) == 1
    assert len(table._buckets) == len(table._order) <= 601


def test_strangers_without_end_leave_no_more_than_a_table():
    table = Expiries()
    random = Random(1)

    for step in range(200_000):
        now = step / 1000
        table.put(random.getrandbits(64), now + 600.0, now)

    assert len(table) == MAX_SOURCES == sum(map(len, table._buckets.values()))


def test_a_flood_in_one_family_leaves_the_others_alone():
    tables = by_family(2)
    tables["inet"].put(1, 10.0, 0.0)

    for source in range(100):
        tables["inet6"].put(source, 20.0, 0.0)

    assert {family: len(table) for family, table in tables.items()} == {
        "inet": 1,
        "inet6": 2,
        "unix": 0,
        "memory": 0,
    }


class Remembering(RuleBasedStateMachine):
    """A table beside a dict that is searched."""

    def __init__(self):
        super().__init__()
        self.table = Expiries(5)
        self.known = {}
        self.now = 0.0

    @rule(source=st.integers(0, 9), ahead=st.integers(1, 40))
    def put(self, source, ahead):
        until = self.now + ahead / 4
        full = source not in self.known and len(self.known) == 5

        self.table.put(source, until, self.now)

        kept = {each for each in self.known if each == source or self.table.until(each)}
        gone = [int(self.known.pop(each)) for each in self.known.keys() - kept]
        stayed = [int(self.known[each]) for each in kept - {source}]
        assert full <= len(gone) <= 2
        # One may have gone for the room; others only because their time was up.
        assert all(second + 1 <= self.now for second in sorted(gone)[: len(gone) - full])
        assert max(gone, default=-1) <= min(stayed, default=inf)
        self.known[source] = until

    @rule(seconds=st.integers(1, 20))
    def advance(self, seconds):
        self.now += seconds / 4

    @invariant()
    def the_two_agree(self):
        assert len(self.table) == len(self.known) <= 5
        assert all(self.table.until(each) == until for each, until in self.known.items())

    @invariant()
    def every_source_is_in_the_bucket_of_its_second(self):
        for second, sources in self.table._buckets.items():
            assert all(int(self.known[each]) == second for each in sources)
        assert sorted(self.table._buckets) == sorted(self.table._order)


Remembering.TestCase.settings = settings(deadline=None, max_examples=60, stateful_step_count=40)
test_a_table_agrees_with_a_dict_that_is_searched = Remembering.TestCase


@pytest.mark.parametrize("size", [1, 2, 64])
def test_a_table_is_never_larger_than_it_may_be(size):
    table = Expiries(size)
    random = Random(size)
    now = 0.0

    for _ in range(5000):
        now += random.random() / 10
        table.put(random.randrange(2 * size), now + random.random() * 20, now)
        assert len(table) <= size
