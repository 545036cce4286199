from typing import get_args

import pytest

from sockproto.core.facts import Address
from sockproto.events import (
    AcceptingPaused,
    CapReached,
    ConnectionEnded,
    ConnectionOpened,
    Ending,
    Event,
    HandshakeEnded,
    Phase,
    Reason,
    RefusalWaived,
    wanted_by,
)

HERE, THERE = Address("inet", "192.0.2.1", 1), Address("inet", "192.0.2.2", 2)

EVENTS = [
    ConnectionOpened(1, HERE, THERE),
    RefusalWaived(1, HERE, THERE, "max_connections: 7 of 7 connections are taken"),
    HandshakeEnded(
        1,
        HERE,
        THERE,
        "accepted",
        "handshake",
        "",
        "ann",
        "chat",
        duration=0.5,
        received=4,
        error=None,
    ),
    ConnectionEnded(1, HERE, THERE, Ending("accepted", "session"), "ann", duration=2.0),
]

WAITING = [AcceptingPaused(HERE, OSError(24, "Too many open files")), CapReached(HERE)]


def test_there_are_ten_reasons_and_six_phases():
    assert get_args(Reason) == (
        "accepted",
        "rejected",
        "timeout",
        "lost",
        "probe",
        "limit",
        "violation",
        "crashed",
        "refused",
        "shutdown",
    )
    assert get_args(Phase) == ("admission", "proxy", "tls", "handshake", "closing", "session")


def test_an_event_is_about_a_connection_or_about_all_that_have_to_wait():
    assert set(get_args(Event)) == {type(each) for each in [*EVENTS, *WAITING]}


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_an_event_is_a_frozen_value(event):
    assert event == eval(repr(event))
    with pytest.raises(AttributeError):
        event.number = 2


def test_endings_compare_by_reason_and_phase():
    assert Ending("lost", "handshake") == Ending("lost", "handshake")
    assert Ending("lost", "handshake") != Ending("lost", "session")
    assert len({Ending("lost", "tls"), Ending("lost", "tls")}) == 1


class Picky:
    """An observer that wants little."""

    def __init__(self, *wants):
        self.wants = wants

    def __call__(self, event):
        """It does not matter what it does."""

    def __repr__(self):
        return "<Picky>"


def test_an_observer_that_does_not_say_what_it_wants_is_told_everything():
    assert wanted_by([].append) == (
        AcceptingPaused,
        CapReached,
        ConnectionOpened,
        RefusalWaived,
        ConnectionEnded,
        *get_args(Reason),
    )


def test_an_observer_may_want_kinds_of_events_and_verdicts_with_a_reason():
    assert wanted_by(Picky()) == ()
    assert wanted_by(Picky("crashed", ConnectionEnded)) == ("crashed", ConnectionEnded)


def test_to_want_the_verdicts_is_to_want_each_of_their_reasons():
    assert wanted_by(Picky(HandshakeEnded)) == get_args(Reason)


def test_what_is_wanted_twice_is_told_once():
    assert len(wanted_by(Picky("crashed", HandshakeEnded, "crashed"))) == 10


@pytest.mark.parametrize("wish", ["crash", Ending, None])
def test_nobody_can_want_what_does_not_exist(wish):
    with pytest.raises(ValueError) as caught:
        wanted_by(Picky(wish))

    assert str(caught.value) == f"<Picky> wants {wish!r}, which is neither an event nor a reason"
