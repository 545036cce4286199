"""Times, sizes, numbers and rates as operators write them."""

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sockproto.admission.rate import Rate
from sockproto.service.units import (
    rate,
    seconds,
    show_seconds,
    show_size,
    size,
    switch,
    whole,
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5", 5.0),
        ("500ms", 0.5),
        ("10s", 10.0),
        ("2m", 120.0),
        ("1h", 3600.0),
        ("0.5", 0.5),
        ("1.5m", 90.0),
        ("off", inf),
    ],
)
def test_a_time_is_a_number_and_perhaps_a_unit(text, value):
    assert seconds(text) == value


NO_TIMES = ["", "0", "0s", "0.0ms", "-1", "+1", "5 s", "s", ".5", "5.", "1e3", "nan", "inf", "5d"]


# The last three: more than a float holds, less than it can tell from zero, and an Arabic three.
@pytest.mark.parametrize("text", [*NO_TIMES, "9" * 400, f"0.{'0' * 400}1", "\u0663"])
def test_anything_else_is_no_time(text):
    with pytest.raises(ValueError) as caught:
        seconds(text)

    assert str(caught.value) == (
        f"{text!r} is not a time above zero; write it like 5, 500ms, 10s or 2m"
    )


@pytest.mark.parametrize(
    ("text", "value"),
    [("1", 1), ("4096", 4096), ("16k", 16384), ("16K", 16384), ("1m", 2**20), ("2g", 2**31)],
)
def test_a_size_is_a_number_of_bytes_or_of_kilobytes_and_so_on(text, value):
    assert size(text) == value


NO_SIZES = ["", "0", "0k", "-1", "1.5k", "k", "4 k", "4kb", "1t", "off"]


@pytest.mark.parametrize("text", [*NO_SIZES, "9" * 5000, "\u0663"])
def test_anything_else_is_no_size(text):
    with pytest.raises(ValueError) as caught:
        size(text)

    assert str(caught.value) == f"{text!r} is not a size above zero; write it like 4096, 16k or 1m"


@pytest.mark.parametrize(("text", "value"), [("1", 1), ("4096", 4096), ("2147483647", 2**31 - 1)])
def test_a_whole_number_is_one_that_the_kernel_can_count_to(text, value):
    assert whole(text) == value


NO_NUMBERS = ["", "0", "-1", "1.0", "1k", "x", "2147483648"]


@pytest.mark.parametrize("text", [*NO_NUMBERS, "9" * 5000, "\u0663"])
def test_anything_else_is_no_whole_number(text):
    with pytest.raises(ValueError) as caught:
        whole(text)

    assert str(caught.value) == f"{text!r} is not a whole number from 1 to 2147483647"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("50/10s", Rate(50, 10)),
        ("1/1", Rate(1, 1)),
        ("3/500ms", Rate(3, 0.5)),
        ("100/2m", Rate(100, 120)),
        ("3/1234567.5s", Rate(3, 1234567.5)),
    ],
)
def test_a_rate_is_a_number_and_a_time(text, value):
    assert rate(text) == value
    assert rate(str(value)) == value


@pytest.mark.parametrize("text", ["", "5", "5/", "/5", "0/5", "5/0", "5/off", "5/5/5", "-5/5", "x"])
def test_anything_else_is_no_rate(text):
    with pytest.raises(ValueError) as caught:
        rate(text)

    assert str(caught.value) == f"{text!r} is not a rate; write it like 50/10s"


def test_a_switch_is_on_or_off():
    assert (switch("on"), switch("off")) == (True, False)
    for text in ("", "yes", "On", "1"):
        with pytest.raises(ValueError) as caught:
            switch(text)
        assert str(caught.value) == f"{text!r} is not on or off"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (5.0, "5s"),
        (0.5, "500ms"),
        (1.5, "1.5s"),
        (120.0, "120s"),
        (1234567.5, "1234567.5s"),
        (3e-07, "0.0003ms"),
        (inf, "off"),
    ],
)
def test_a_time_is_shown_as_it_is_written(value, text):
    assert show_seconds(value) == text
    assert seconds(text) == value


@given(st.floats(1e-12, 1e12))
def test_every_time_that_is_shown_can_be_read(value):
    assert seconds(show_seconds(value)) == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize(
    ("value", "text"), [(1, "1"), (1000, "1000"), (4096, "4k"), (3 * 2**20, "3m"), (2**30, "1g")]
)
def test_a_size_is_shown_as_it_is_written(value, text):
    assert show_size(value) == text


@given(st.integers(1, 2**40))
def test_every_size_that_is_shown_can_be_read(value):
    assert size(show_size(value)) == value
