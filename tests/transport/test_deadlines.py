from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock

from sockproto.transport.deadlines import GRANULARITY, NOT_FILED, Deadlines


class Alarm:
    """Notes when it rings; what it does then may be replaced."""

    def __init__(self, clock, due):
        self.clock, self.due = clock, due
        self.bucket = NOT_FILED
        self.rang = []

    def deadline_passed(self):
        self.rang.append(self.clock.seconds())
        self.act()

    def act(self):
        pass

    def __repr__(self):
        return f"<Alarm due {self.due}>"


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def deadlines(clock):
    return Deadlines(clock)


@pytest.fixture
def alarm(clock, deadlines):
    def filed(due, act=None):
        made = Alarm(clock, due)
        if act is not None:
            made.act = act
        deadlines.file(made)
        return made

    return filed


def test_a_deadline_is_kept_within_a_bucket(clock, alarm):
    rung = alarm(0.73)

    clock.advance(0.73)
    assert rung.rang == []
    clock.advance(0.07)

    assert rung.rang == [pytest.approx(0.8)]
    assert clock.getDelayedCalls() == []


def test_a_deadline_on_the_edge_of_a_bucket_is_kept_at_once(clock, alarm):
    rung = alarm(5.0)

    clock.advance(4.999)
    assert rung.rang == []
    clock.advance(0.001)

    assert rung.rang == [5.0]


def test_a_deadline_that_is_already_over_is_kept_at_once(clock, alarm):
    clock.advance(100)
    rung = alarm(7.0)

    clock.advance(0)

    assert rung.rang == [100]


def test_never_is_not_filed(clock, deadlines, alarm):
    rung = alarm(inf)

    assert (len(deadlines), rung.bucket, clock.getDelayedCalls()) == (0, NOT_FILED, [])


def test_thousands_of_deadlines_are_one_reactor_call(clock, deadlines, alarm):
    alarms = [alarm(1 + number / 1000) for number in range(5000)]

    assert len(deadlines) == 5000
    assert len(clock.getDelayedCalls()) == 1
    clock.advance(7)

    assert [len(each.rang) for each in alarms] == [1] * 5000
    assert clock.getDelayedCalls() == []


def test_no_call_is_ever_reset(clock, alarm):
    class Stubborn(Clock):
        def callLater(self, *args):
            call = super().callLater(*args)
            call.reset = call.delay = None
            return call

    clock = Stubborn()
    deadlines = Deadlines(clock)
    for due in (5, 3, 9, 1):
        deadlines.file(Alarm(clock, due))

    clock.pump([0.5] * 30)

    assert len(deadlines) == 0


def test_a_deadline_that_moves_later_costs_no_call_and_is_kept_then(clock, deadlines, alarm):
    rung = alarm(1.0)
    before = clock.getDelayedCalls()[:]

    for step in range(1, 101):
        rung.due = 1.0 + step / 100
        deadlines.file(rung)

    assert clock.getDelayedCalls() == before
    clock.advance(1.0)
    assert rung.rang == []
    clock.advance(1.0)
    assert rung.rang == [2.0]


def test_a_deadline_that_moves_earlier_is_kept_then_when_it_is_filed_again(clock, deadlines, alarm):
    rung = alarm(9.0)

    rung.due = 1.0
    deadlines.file(rung)
    clock.advance(1.0)

    assert rung.rang == [1.0]
    assert len(deadlines) == 0


def test_a_deadline_that_moved_earlier_leaves_no_timer_behind_for_where_it_was(
    clock, deadlines, alarm
):
    rung = alarm(9.0)
    rung.due = 1.0
    deadlines.file(rung)

    clock.advance(1.0)

    assert rung.rang == [1.0]
    assert clock.getDelayedCalls() == []


def test_a_deadline_that_becomes_never_is_let_go(clock, deadlines, alarm):
    rung = alarm(1.0)
    rung.due = inf
    deadlines.file(rung)

    clock.advance(100)

    assert (rung.rang, len(deadlines), clock.getDelayedCalls()) == ([], 0, [])


def test_a_deadline_is_never_early_not_even_by_a_millisecond(clock, deadlines, alarm):
    rung = alarm(1.0)
    rung.due = 1.0009

    clock.advance(1.0)
    assert rung.rang == []
    clock.advance(0.1)

    assert rung.rang == [1.1]


def test_one_that_is_withdrawn_is_not_told(clock, deadlines, alarm):
    rung, other = alarm(1.0), alarm(1.0)

    deadlines.withdraw(rung)
    clock.advance(1.0)

    assert (rung.rang, other.rang) == ([], [1.0])


def test_the_last_one_withdrawn_takes_the_timer_with_it(clock, deadlines, alarm):
    first, second = alarm(1.0), alarm(2.0)

    deadlines.withdraw(first)
    assert len(clock.getDelayedCalls()) == 1
    deadlines.withdraw(second)

    assert clock.getDelayedCalls() == []
    assert len(deadlines) == 0


def test_to_withdraw_what_is_not_filed_does_nothing(deadlines, alarm):
    rung = alarm(inf)

    deadlines.withdraw(rung)

    assert len(deadlines) == 0


def test_one_that_is_withdrawn_while_its_bucket_is_emptied_is_not_told(clock, deadlines, alarm):
    alarms = [alarm(1.0) for _ in range(10)]

    def withdraw_the_others():
        for each in alarms:
            deadlines.withdraw(each)

    for each in alarms:
        each.act = withdraw_the_others
    clock.advance(1.0)

    assert sum(len(each.rang) for each in alarms) == 1
    assert (len(deadlines), clock.getDelayedCalls()) == (0, [])


def test_one_that_is_withdrawn_and_filed_again_while_its_bucket_is_emptied_is_told_once(
    clock, deadlines, alarm
):
    alarms = [alarm(1.0) for _ in range(2)]

    def refile_the_other(other):
        if not other.rang:
            deadlines.withdraw(other)
            deadlines.file(other)

    alarms[0].act = lambda: refile_the_other(alarms[1])
    alarms[1].act = lambda: refile_the_other(alarms[0])
    clock.advance(1.0)

    assert [each.rang for each in alarms] == [[1.0], [1.0]]
    assert (len(deadlines), clock.getDelayedCalls()) == (0, [])


def test_one_that_moves_earlier_out_of_a_bucket_that_is_being_emptied_is_told(
    clock, deadlines, alarm
):
    late = alarm(2.0)

    def bring_forward():
        late.due = 0.5
        deadlines.file(late)

    early = alarm(1.0, bring_forward)
    clock.advance(3.0)

    assert early.rang == [3.0]
    assert late.rang == [3.0]
    assert (len(deadlines), clock.getDelayedCalls()) == (0, [])


def test_one_that_raises_is_reported_and_the_others_are_told(clock, deadlines, alarm, logged):
    def fail():
        raise ZeroDivisionError("oops")

    broken, healthy, later = alarm(1.0, fail), alarm(1.0), alarm(2.0)

    clock.advance(1.0)
    clock.advance(1.0)

    assert (broken.rang, healthy.rang, later.rang) == ([1.0], [1.0], [2.0])
    assert logged.take() == [
        "a deadline could not be kept: <Alarm due 1.0>: ZeroDivisionError('oops')"
    ]


def test_one_that_files_itself_again_waits_for_the_next_turn(clock, deadlines, alarm):
    rung = alarm(0.5)
    turns = []

    def again():
        if len(rung.rang) < 3:
            deadlines.file(rung)
            turns.append(clock.getDelayedCalls()[:])

    rung.act = again
    clock.advance(0.6)

    assert rung.rang == [0.6, 0.6, 0.6]
    assert [len(each) for each in turns] == [1, 1]


def test_a_busy_table_keeps_its_timer_and_leaves_none_when_it_settles(clock, deadlines, alarm):
    deadlines.busy = True
    first = alarm(1.0)
    call = clock.getDelayedCalls()[0]

    deadlines.withdraw(first)
    assert clock.getDelayedCalls() == [call]
    second = alarm(1.0)
    assert clock.getDelayedCalls() == [call]
    deadlines.settle()
    assert clock.getDelayedCalls() == [call]
    deadlines.withdraw(second)
    deadlines.busy = False
    deadlines.settle()

    assert clock.getDelayedCalls() == []
    deadlines.settle()


def test_a_busy_table_that_has_run_empty_has_no_timer(clock, deadlines, alarm):
    deadlines.busy = True
    alarm(1.0)

    clock.advance(1.0)

    assert clock.getDelayedCalls() == []


def test_time_of_day_does_not_make_it_spin():
    clock = Clock()
    clock.rightNow = 1.79e9 + 0.123456
    deadlines = Deadlines(clock)
    alarms = [Alarm(clock, clock.seconds() + number / 7) for number in range(100)]
    for each in alarms:
        deadlines.file(each)

    clock.pump([0.0101] * 2000)

    assert [len(each.rang) for each in alarms] == [1] * 100
    assert all(0 <= each.rang[0] - each.due <= GRANULARITY + 0.0102 for each in alarms)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["file", "move", "withdraw", "wait"]),
            st.integers(0, 4),
            st.floats(0, 3),
        ),
        max_size=40,
    )
)
def test_whatever_happens_each_filed_deadline_is_kept_once_late_by_a_bucket_at_most(steps):
    clock = Clock()
    deadlines = Deadlines(clock)
    alarms = [Alarm(clock, inf) for _ in range(5)]
    tick = GRANULARITY / 4
    for step, which, seconds in steps:
        each = alarms[which]
        if step == "wait":
            for _ in range(round(seconds / tick)):
                clock.advance(tick)
        elif step == "withdraw":
            deadlines.withdraw(each)
        elif step == "file" or each.bucket != NOT_FILED:
            each.due = clock.seconds() + seconds
            deadlines.file(each)
        assert len(deadlines) == sum(each.bucket != NOT_FILED for each in alarms)
        assert len(clock.getDelayedCalls()) <= 1
        for each in alarms:
            if each.bucket != NOT_FILED:
                assert clock.seconds() <= each.due + GRANULARITY + tick
            for rang in each.rang:
                assert -1e-5 <= rang - each.due <= GRANULARITY + tick
            each.rang.clear()
    for each in alarms:
        deadlines.withdraw(each)
    assert (len(deadlines), clock.getDelayedCalls()) == (0, [])
