from random import Random

import pytest

from sockproto.admission.early_drop import EarlyDrop
from sockproto.core.errors import ConfigurationError

DEFAULT = EarlyDrop(256, 30, 1024)


@pytest.mark.parametrize(
    ("pending", "odds"),
    [
        (0, 0.0),
        (255, 0.0),
        (256, 0.3),
        (448, 0.475),
        (640, 0.65),
        (832, 0.825),
        (1024, 1.0),
        (5000, 1.0),
    ],
)
def test_the_odds_rise_in_a_straight_line_from_the_start_to_full(pending, odds):
    assert DEFAULT.odds(pending) == pytest.approx(odds, abs=1e-12)


def test_a_rate_of_100_drops_everybody_from_the_start():
    assert [EarlyDrop(4, 100, 8).odds(pending) for pending in (3, 4, 7, 8)] == [0, 1, 1, 1]


def test_a_start_that_is_full_is_a_plain_cap():
    assert [EarlyDrop(4, 30, 4).odds(pending) for pending in (3, 4)] == [0.0, 1.0]


@pytest.mark.parametrize(
    ("pending", "patience"),
    [(1, 1.0), (768, 1.0), (832, 0.8), (896, 0.6), (960, 0.4), (1024, 0.2)],
)
def test_patience_shrinks_to_a_fifth_between_three_quarters_and_full(pending, patience):
    assert DEFAULT.patience(pending) == pytest.approx(patience, abs=1e-12)


@pytest.mark.parametrize("full", [1, 2, 3, 4, 5, 1024])
def test_patience_is_never_used_up(full):
    cap = EarlyDrop(1, 30, full)

    patience = [cap.patience(pending) for pending in range(1, full + 1)]

    assert patience == sorted(patience, reverse=True)
    assert all(0.2 - 1e-12 <= each <= 1.0 for each in patience)


@pytest.mark.parametrize(
    ("text", "cap"),
    [
        ("256:30:1024", DEFAULT),
        ("1:1:1", EarlyDrop(1, 1, 1)),
        ("10:100:10", EarlyDrop(10, 100, 10)),
        ("1024", EarlyDrop(1024, 100, 1024)),
    ],
)
def test_a_cap_is_read_as_operators_write_it(text, cap):
    assert EarlyDrop.parse(text) == cap
    assert EarlyDrop.parse(str(cap)) == cap


@pytest.mark.parametrize(
    "text", ["", "10:30", "10:30:", "a:b:c", "10:30:40:50", "-1", "1.5", "٣", " 10", "1" * 10]
)
def test_what_is_no_cap_is_named_with_how_to_write_one(text):
    with pytest.raises(ConfigurationError) as caught:
        EarlyDrop.parse(text)

    assert str(caught.value) == (
        f"{text!r} is not a cap on pending handshakes; "
        "write START:RATE:FULL like 256:30:1024, or one number"
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "20:30:10",
            "'20:30:10' starts to drop at 20 and is full at 10; "
            "start at 1 or more, and not above what is full",
        ),
        (
            "0:30:10",
            "'0:30:10' starts to drop at 0 and is full at 10; "
            "start at 1 or more, and not above what is full",
        ),
        ("10:0:20", "'10:0:20' drops 0 percent at first; give from 1 to 100"),
        ("10:101:20", "'10:101:20' drops 101 percent at first; give from 1 to 100"),
    ],
)
def test_a_cap_that_cannot_be_says_why(text, words):
    with pytest.raises(ConfigurationError) as caught:
        EarlyDrop.parse(text)

    assert str(caught.value) == words


@pytest.mark.parametrize("pending", [0, 255, 256, 400, 550, 700, 850, 1023])
def test_what_is_dropped_agrees_with_the_odds(pending):
    tries = 2000
    odds = DEFAULT.odds(pending)
    random = Random(pending)

    dropped = sum(random.random() < odds for _ in range(tries))

    # What is seen of 2.576 standard deviations on each side is 99 in 100.
    spread = 2.576 * (tries * odds * (1 - odds)) ** 0.5
    assert abs(dropped - tries * odds) <= spread
