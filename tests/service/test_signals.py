"""Whoever sends a second signal does not want to wait, and gets no traceback for it."""

import signal

import pytest

from sockproto.service.signals import when_told_again


class Reactor:
    """Takes signals as Twisted's does, and runs at once what comes from a signal."""

    def sigInt(self, number, frame):
        raise AssertionError("told a second time")

    sigTerm = sigInt

    def callFromThread(self, call):
        call()


@pytest.fixture(autouse=True)
def handlers():
    before = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_that_the_reactor_has_taken_calls(number):
    reactor, calls = Reactor(), []
    signal.signal(signal.SIGINT, reactor.sigInt)
    signal.signal(signal.SIGTERM, reactor.sigTerm)

    when_told_again(reactor, lambda: calls.append(1))
    signal.raise_signal(number)
    signal.raise_signal(number)

    assert calls == [1, 1]


def test_a_signal_that_somebody_else_has_taken_is_left_alone():
    theirs = []
    signal.signal(signal.SIGTERM, lambda number, frame: theirs.append(number))

    when_told_again(Reactor(), lambda: None)
    signal.raise_signal(signal.SIGTERM)

    assert theirs == [signal.SIGTERM]


def test_a_clock_takes_no_signals():
    before = signal.getsignal(signal.SIGTERM)

    when_told_again(object(), lambda: None)

    assert signal.getsignal(signal.SIGTERM) == before
