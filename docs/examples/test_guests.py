from guests import GuestList

from sockproto import Accept, Reject
from sockproto.testing import converse, rehearse


def test_a_guest_comes_in():
    outcome = converse(GuestList("ann,bob").serve, b"bob\n")

    assert outcome == Accept(b"come in\n", identity="bob")


def test_a_stranger_stays_out():
    outcome = converse(GuestList("ann,bob").serve, b"eve\n")

    assert outcome == Reject(b"you are not on the list\n", reason="no guest is called eve")


def test_both_sides_agree():
    assert rehearse(GuestList("ann,bob")).client == Accept()
