from __future__ import annotations

import pytest
from twisted.logger import globalLogBeginner

from sockproto.commands import simulate


@pytest.fixture(autouse=True)
def no_logging_begins(monkeypatch, logged_failures):
    monkeypatch.setattr(globalLogBeginner, "beginLoggingTo", lambda *args, **kwargs: None)
    yield
    logged_failures.take()


def test_it_says_how_many_and_gives_a_digest_that_is_the_same_again(sockproto_command):
    status, out, err = sockproto_command("simulate", "--seeds", "20", "--from", "7")
    again = sockproto_command("simulate", "--seeds", "20", "--from", "7")[1]

    assert (status, err) == (0, "")
    assert out.startswith("20 worlds, ")
    assert "every promise was kept\ndigest " in out
    assert out.splitlines()[1] == again.splitlines()[1]


def test_another_seed_has_another_digest(sockproto_command):
    digests = {
        sockproto_command("simulate", "--seeds", "1", "--from", each)[1].splitlines()[1]
        for each in ("1", "2", "3")
    }

    assert len(digests) == 3


def test_one_seed_tells_its_story(sockproto_command):
    status, out, _ = sockproto_command("simulate", "--seed", "1")

    assert status == 0
    assert " ConnectionEnded " in out


def test_a_broken_promise_is_shown_with_the_command_that_replays_it(monkeypatch, sockproto_command):
    story = (1, [f"0.0 line {each}" for each in range(99)], "timers are left")
    monkeypatch.setattr(simulate, "story_of", lambda seed: story)

    status, out, _ = sockproto_command("simulate", "--from", "12")
    lines = out.splitlines()

    assert status == 1
    assert len(lines) == simulate.TAIL + 2
    assert lines[-2:] == [
        "seed 12 breaks a promise: timers are left",
        "to see all of it: sockproto simulate --seed 12",
    ]
    assert sockproto_command("simulate", "--seed", "12")[0] == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--seeds", "0"], "argument --seeds: no world would be run; write a number above 0"),
        (["--seeds", "many"], "argument --seeds: 'many' is not a number from 0; write it like 1"),
        (["--seed", "-1"], "argument --seed: "),
    ],
)
def test_a_mistake_is_one_line(sockproto_command, arguments, said):
    status, out, err = sockproto_command("simulate", *arguments)

    assert (status, out) == (2, "")
    assert err.startswith(f"sockproto: {said}")
    assert err.count("\n") == 1
