import random
from math import isclose

import pytest

from benchmarks import timing
from benchmarks.timing import KINDS, challenges, compare, times, tokens, welch


def test_t_is_welchs():
    # By hand: means 2 and 6, variances 1 and 4, three of each.
    assert isclose(welch([1, 2, 3], [4, 6, 8]), -4 / (1 / 3 + 4 / 3) ** 0.5)


def servers(late):
    """What was measured of forty servers, one of whose kinds takes longer now and then."""
    noise = random.Random(4711)

    def some(more):
        return [int(noise.gauss(5000, 50)) + more * noise.randrange(2) for _ in range(50)]

    return [{"one": some(0), "other": some(late)} for _ in range(40)]


def test_what_takes_longer_tells():
    [finding] = compare(servers(40))

    assert finding.tells
    assert finding.t < -timing.THRESHOLD
    assert str(finding).startswith("one               other")


def test_what_takes_the_same_does_not():
    [finding] = compare(servers(0))

    assert not finding.tells


@pytest.mark.parametrize("make", KINDS)
def test_every_attempt_is_refused_and_timed(make, monkeypatch):
    monkeypatch.setattr(timing, "BLOCK", 64)

    measured = times(make, 128)

    assert len(measured) == 2
    assert {kind for each in measured for kind in each} == set(KINDS[make])
    assert [sum(map(len, each.values())) for each in measured] == [64, 64]


def test_the_command_says_what_it_has_found(capsys, monkeypatch):
    monkeypatch.setattr(timing, "BLOCK", 64)

    timing.main(["--count", "128"])

    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line[0] != " "] == [
        "challenges, 128 refusals",
        "tokens, 128 refusals",
    ]
    assert len(lines) == 14


def what_tells_each_time(measure, most=3):
    """
    Which kinds tell in every measurement of a few, and in the same direction.

    With six pairs and six percentiles of each, chance reaches the threshold once in thousands of
    measurements. What is so of the code is so in the next one, too.
    """
    told = None
    for _ in range(most):
        found = {(each.one, each.other, each.t > 0): str(each) for each in measure() if each.tells}
        told = found if told is None else {key: told[key] for key in told if key in found}
        if not told:
            break
    return list(told.values())


def test_what_tells_each_time_is_found_and_what_does_so_once_is_not():
    by_chance = iter([servers(40), servers(0)])

    assert len(what_tells_each_time(lambda: list(compare(servers(40))))) == 1
    assert what_tells_each_time(lambda: list(compare(next(by_chance)))) == []


@pytest.mark.slow
@pytest.mark.parametrize(("make", "count"), [(challenges, 1_000_000), (tokens, 250_000)])
def test_how_long_a_refusal_takes_does_not_tell_why_it_is_one(make, count):
    assert what_tells_each_time(lambda: compare(times(make, count))) == []
