import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sockproto.testing import every_cut

unhurried = settings(deadline=None)


@pytest.mark.parametrize(
    ("data", "cuts"),
    [
        (b"", [()]),
        (b"a", [(b"a",)]),
        (b"ab", [(b"ab",), (b"a", b"b")]),
        (b"abc", [(b"abc",), (b"a", b"b", b"c"), (b"a", b"bc"), (b"ab", b"c")]),
        (
            b"abcd",
            [
                (b"abcd",),
                (b"a", b"b", b"c", b"d"),
                (b"a", b"bcd"),
                (b"ab", b"cd"),
                (b"abc", b"d"),
            ],
        ),
    ],
)
def test_bytes_are_cut_whole_then_one_by_one_then_in_two_at_every_place(data, cuts):
    assert list(every_cut(data)) == cuts


@pytest.mark.parametrize("data", [b"", b"a", b"ab", b"abc"])
def test_there_are_no_random_cuts_when_all_cuts_have_been_given(data):
    assert list(every_cut(data, random_cuts=9)) == list(every_cut(data))


def test_random_cuts_come_last_and_have_more_than_two_chunks():
    cuts = list(every_cut(b"0123456789", random_cuts=7))

    assert cuts[:-7] == list(every_cut(b"0123456789"))
    assert all(2 < len(cut) < 10 for cut in cuts[-7:])


def test_the_same_seed_gives_the_same_cuts():
    data = bytes(range(64))
    cuts = list(every_cut(data, random_cuts=5, seed=1))

    assert cuts == list(every_cut(data, random_cuts=5, seed=1))
    assert cuts != list(every_cut(data, random_cuts=5, seed=2))


@unhurried
@given(data=st.binary(max_size=60), random_cuts=st.integers(0, 9), seed=st.integers())
def test_no_chunk_is_empty_and_all_of_them_are_the_data(data, random_cuts, seed):
    for cut in every_cut(data, random_cuts=random_cuts, seed=seed):
        assert b"".join(cut) == data
        assert b"" not in cut


@unhurried
@given(data=st.binary(max_size=60))
def test_no_cut_is_given_twice_unless_at_random(data):
    cuts = list(every_cut(data))

    # Cuts of the same data are told apart by the lengths of their chunks.
    shapes = {tuple(map(len, cut)) for cut in cuts}
    assert len(shapes) == len(cuts) == {0: 1, 1: 1, 2: 2}.get(len(data), len(data) + 1)
