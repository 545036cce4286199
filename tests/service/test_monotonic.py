"""Time as it passes, whatever the wall clock is set to."""

import time

import pytest
from twisted.internet.selectreactor import SelectReactor

from sockproto.service.monotonic import follow_monotonic_time


class Clocks:
    """The two clocks of a machine, which an administrator may set."""

    def __init__(self) -> None:
        self.wall, self.monotonic = 1_700_000_000.0, 50.0

    def advance(self, seconds: float) -> None:
        self.wall += seconds
        self.monotonic += seconds


@pytest.fixture
def clocks(monkeypatch):
    clocks = Clocks()
    monkeypatch.setattr(time, "time", lambda: clocks.wall)
    monkeypatch.setattr(time, "monotonic", lambda: clocks.monotonic)
    return clocks


@pytest.fixture
def reactor(clocks):
    """A real reactor, which nobody has installed."""
    reactor = SelectReactor()
    # As Twisted has it, but for the clock of this test.
    reactor.seconds = time.time
    yield reactor
    for reader in reactor._internalReaders.copy():
        reactor.removeReader(reader)
        reader.connectionLost(None)


def test_it_starts_at_the_time_of_day(reactor, clocks):
    follow_monotonic_time(reactor)

    assert reactor.seconds() == clocks.wall


@pytest.mark.parametrize("step", [-3600.0, 3600.0])
def test_a_clock_that_is_set_changes_no_deadline(reactor, clocks, step):
    follow_monotonic_time(reactor)
    fired = []
    reactor.callLater(1, fired.append, "now")

    clocks.wall += step
    clocks.advance(0.75)
    reactor.runUntilCurrent()
    assert fired == []
    clocks.advance(0.25)
    reactor.runUntilCurrent()

    assert fired == ["now"]


def test_what_was_scheduled_before_keeps_its_time(reactor, clocks):
    fired = []
    reactor.callLater(1, fired.append, "now")

    follow_monotonic_time(reactor)
    clocks.advance(0.75)
    reactor.runUntilCurrent()
    assert fired == []
    clocks.advance(0.25)
    reactor.runUntilCurrent()

    assert fired == ["now"]


def test_to_be_asked_again_changes_nothing(reactor, clocks):
    follow_monotonic_time(reactor)
    clocks.wall += 3600
    before = reactor.seconds()

    follow_monotonic_time(reactor)

    assert reactor.seconds() == before
