"""What comes in floods is summed up: no more lines than there may be, and not one uncounted."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock

from sockproto.service.tally import (
    MAX_ACCEPTED,
    MAX_ALIKE,
    MAX_COUNTED,
    MAX_LINES,
    MAX_SUMMARIES,
    WINDOW,
    Tally,
)


class Log:
    """A tally, and the lines that it lets through."""

    def __init__(self):
        self.clock = Clock()
        self.clock.advance(1000)
        self.lines = []
        self.summed = []
        self.tally = Tally(self.clock, self.summed.append)

    def tell(self, source, outcome="rejected", times=1):
        self.tally.begin()
        for _ in range(times):
            if outcome != "accepted":
                written = self.tally.admits(source, outcome)
            elif not (written := self.tally.admits_accepted()):
                self.tally.count(source, outcome)
            if written:
                self.lines.append((self.clock.seconds(), source, outcome))

    @property
    def counted(self):
        return sum(times for summed in self.summed for _, _, times in summed)


@pytest.fixture
def log():
    log = Log()
    yield log
    log.tally.close()
    assert log.clock.getDelayedCalls() == []


def test_what_is_no_flood_has_a_line_each_and_needs_no_timer(log):
    for minute in range(5):
        for source in "abc":
            log.tell(source, times=10)
        assert len(log.lines) == 30 * (minute + 1)
        assert log.clock.getDelayedCalls() == []
        log.clock.advance(WINDOW)

    assert log.summed == []


def test_of_one_source_and_one_outcome_only_the_first_lines_are_written(log):
    log.tell("a", times=MAX_ALIKE + 412)
    log.tell("a", "timeout")
    log.tell("b")
    assert len(log.lines) == MAX_ALIKE + 2

    log.clock.advance(WINDOW)

    assert log.summed == [[("a", "rejected", 412)]]


def test_a_new_minute_has_lines_again(log):
    log.tell("a", times=MAX_ALIKE + 1)
    log.clock.advance(WINDOW)
    log.tell("a", times=MAX_ALIKE)

    assert len(log.lines) == 2 * MAX_ALIKE
    assert log.counted == 1


def test_a_minute_begins_with_its_first_line(log):
    log.tell("a", times=MAX_ALIKE + 1)
    log.clock.advance(WINDOW - 1)
    log.tell("a")
    assert log.summed == []
    log.clock.advance(1)
    assert log.summed == [[("a", "rejected", 2)]]

    log.clock.advance(WINDOW / 2)
    log.tell("a", times=MAX_ALIKE + 1)
    log.clock.advance(WINDOW - 1)
    assert len(log.summed) == 1
    log.clock.advance(1)
    assert len(log.summed) == 2


def test_many_sources_together_have_as_many_lines_as_there_may_be(log):
    for source in range(1000):
        log.tell(f"{source}")

    assert len(log.lines) == MAX_LINES // 2
    log.tally.close()
    assert log.counted == 1000 - MAX_LINES // 2


def test_a_flood_of_strangers_does_not_cost_those_who_are_accepted_a_line(log):
    log.tell("a", times=10_000)
    for source in range(1000):
        log.tell(f"{source}")
    before = len(log.lines)

    log.tell("friend", "accepted", times=MAX_ACCEPTED // 2)
    assert len(log.lines) == before + MAX_ACCEPTED // 2

    log.tell("friend", "accepted", times=7)
    log.tally.close()
    assert ("friend", "accepted", 7) in log.summed[0]


def test_those_with_most_are_told_first_and_the_others_together(log):
    for source in range(MAX_COUNTED + 500):
        log.tell(f"{source}", times=MAX_ALIKE)
    log.tell("0", "timeout", times=1000)
    log.tally.close()

    [summed] = log.summed
    assert len(summed) == MAX_SUMMARIES + 2
    assert {each[1] for each in summed[-2:]} == {"rejected", "timeout"}
    assert [each[0] for each in summed[-2:]] == ["others", "others"]
    times = [each[2] for each in summed[:-2]]
    assert times == sorted(times, reverse=True)
    assert log.counted + len(log.lines) == (MAX_COUNTED + 500) * MAX_ALIKE + 1000


def test_to_close_twice_tells_once(log):
    log.tell("a", times=MAX_ALIKE + 1)
    log.tally.close()
    log.tally.close()

    assert len(log.summed) == 1


def test_where_a_timer_is_late_the_next_line_sums_up(log):
    log.tell("a", times=MAX_ALIKE + 1)
    log.clock.rightNow += WINDOW
    log.tell("a")

    assert log.summed == [[("a", "rejected", 1)]]
    assert log.clock.getDelayedCalls() == []


def test_what_strangers_call_themselves_is_kept_within_bounds(log):
    random = Random(1)
    tracemalloc.start()

    for _ in range(50_000):
        log.tell(f"{random.getrandbits(64):x}::1", random.choice(["probe", "timeout", "lost"]))

    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak <= 1024 * 1024


TOLD = st.tuples(
    st.sampled_from(["a", "b", "c"]),
    st.sampled_from(["accepted", "rejected", "timeout"]),
    st.integers(1, 400),
    st.sampled_from([0.0, 1.0, 7.0, 29.0, 61.0]),
)


@settings(max_examples=40, deadline=None)
@given(st.lists(TOLD, max_size=25))
def test_the_lines_and_the_sums_add_up_and_no_minute_has_too_many(told):
    log = Log()
    happened = 0
    for source, outcome, times, pause in told:
        log.tell(source, outcome, times)
        happened += times
        log.clock.advance(pause)
    log.tally.close()

    assert len(log.lines) + log.counted == happened
    assert log.clock.getDelayedCalls() == []
    strangers = [when for when, _, outcome in log.lines if outcome != "accepted"]
    for start in set(strangers):
        assert sum(start <= when < start + 60 for when in strangers) <= MAX_LINES


def test_whatever_comes_and_whenever_no_minute_has_too_many_lines(log):
    random = Random(2)
    for _ in range(3000):
        log.tell(f"{random.randrange(50)}", random.choice(["lost", "probe"]), random.randrange(9))
        log.clock.advance(random.random() / 4)

    times = [when for when, _, _ in log.lines]
    most = max(
        sum(start <= when < start + 60 for when in times[at : at + MAX_LINES + 1])
        for at, start in enumerate(times)
    )
    assert MAX_LINES // 2 < most <= MAX_LINES


def test_the_operator_is_told_of_the_bounds():
    page = (Path(__file__).parents[2] / "docs" / "howto" / "operate.rst").read_text()

    assert f"a minute has {MAX_ALIKE} lines at most, and {MAX_LINES} lines of all" in page
    assert f"of them a minute has up to {MAX_ACCEPTED}." in page
