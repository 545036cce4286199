"""What came of an attack, as a person and a program read it."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from sockproto.testing.attack import Phase, Plan, Report
from sockproto.testing.attack.crew import Tally
from sockproto.testing.attack.household import Figures
from sockproto.testing.attack.report import Taken, columns, milliseconds, percent, size

MIB = 1024**2
GOOD = Phase("quiet", 60, 1.0, 1.0, (60,), 0.00026, 0.00067, {})
BAD = Phase("attack", 200, 0.5, 0.995, (100, 99), 0.0034, 1.25, {"refused": 101, "reset": 2})

REPORT = Report(
    plan=Plan.read("hold", "127.0.0.1:8001", sources="127.1.0.0/16"),
    quiet=GOOD,
    attack=BAD,
    end=replace(BAD, name="at its end", trouble={}),
    after=replace(GOOD, name="after"),
    slices=(BAD,),
    recovery=2.25,
    lasted=10.04,
    tally=Tally(
        attempts=2000, connected=1990, failed=10, closed=900, reset=5, sent=4096, most=1000
    ),
    taken=Taken(
        Figures(30 * MIB, 1.0, 11, 1),
        Figures(34 * MIB, 2.0, 1011, 3),
        Figures(31 * MIB, 2.5, 11, 1),
    ),
)

SHOWN = """\
hold on 127.0.0.1:8001: 1,000 at once from 127.1.0.0/16, for 10.0 s

honest client  visits  first try    in 5      p50       p99
  quiet            60      100 %   100 %  0.26 ms   0.67 ms
  attack          200       50 %  99.5 %  3.40 ms  1,250 ms
  at its end      200       50 %  99.5 %  3.40 ms  1,250 ms
  after            60      100 %   100 %  0.26 ms   0.67 ms
  tries in vain, attack: 101 refused, 2 reset
  nobody had to try again: 2.2 s after the attack

attackers: 1,990 connected of 2,000 tries, at most 1,000 at once; 900 shown out, 5 reset; \
4.0 KiB sent, 0 B heard

server         before   at most     after
  memory       30.0 MiB  34.0 MiB  31.0 MiB
  descriptors        11     1,011        11
  processes           1         3         1
  CPU from the first to the last: 1.5 s"""


def test_a_report_is_a_table_to_read():
    assert str(REPORT).replace("server           before", "server         before") == SHOWN


def test_a_report_without_a_server_of_ours_says_nothing_of_it():
    assert "memory" not in str(replace(REPORT, taken=None))


@pytest.mark.parametrize(
    ("recovery", "words"),
    [(0.0, "at once"), (None, "not seen before the end"), (1.0, "1.0 s after the attack")],
)
def test_a_report_says_when_all_was_well_again(recovery, words):
    assert f"nobody had to try again: {words}" in str(replace(REPORT, recovery=recovery))


def test_a_report_is_values_that_json_can_write():
    values = json.loads(json.dumps(REPORT.as_json()))

    assert values["plan"]["sources"] == "127.1.0.0/16"
    assert values["plan"]["send"] == "1"
    assert values["attack"]["trouble"] == {"refused": 101, "reset": 2}
    assert values["taken"]["most"]["descriptors"] == 1011


@pytest.mark.parametrize(
    ("part", "shown"),
    [(1.0, "100 %"), (0.99999, "99.9 %"), (0.0, "0 %"), (0.5, "50 %"), (None, "–")],
)
def test_what_is_less_than_all_is_not_shown_as_all(part, shown):
    assert percent(part) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0.000261, "0.26 ms"), (0.0123, "12 ms"), (1.25, "1,250 ms"), (None, "–")],
)
def test_a_duration_has_as_many_digits_as_mean_something(seconds, shown):
    assert milliseconds(seconds) == shown


@pytest.mark.parametrize(
    ("count", "shown"), [(0, "0 B"), (2048, "2.0 KiB"), (1536 * MIB, "1,536.0 MiB")]
)
def test_a_size_is_shown_in_its_unit(count, shown):
    assert size(count) == shown


def test_columns_are_as_wide_as_they_need_to_be():
    assert list(columns([("a", "b"), ("long", "1,000")])) == ["a         b", "long  1,000"]
