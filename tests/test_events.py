from dataclasses import FrozenInstanceError
from typing import get_args

import pytest

from sockproto.core.facts import Address
from sockproto.events import (
    ConnectionEnded,
    ConnectionOpened,
    Ending,
    Event,
    HandshakeEnded,
    Phase,
    Reason,
)

HERE, THERE = Address("inet", "192.0.2.1", 1), Address("inet", "192.0.2.2", 2)

EVENTS = [
    ConnectionOpened(1, HERE, THERE),
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


def test_an_event_is_one_of_three():
    assert get_args(Event) == tuple(type(each) for each in EVENTS)


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_an_event_is_a_frozen_value(event):
    assert event == eval(repr(event))
    with pytest.raises(FrozenInstanceError):
        event.number = 2


def test_endings_compare_by_reason_and_phase():
    assert Ending("lost", "handshake") == Ending("lost", "handshake")
    assert Ending("lost", "handshake") != Ending("lost", "session")
    assert len({Ending("lost", "tls"), Ending("lost", "tls")}) == 1
