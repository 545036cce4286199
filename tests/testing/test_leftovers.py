"""What a test has left behind is found."""

from __future__ import annotations

import pytest
from twisted.internet import reactor
from twisted.internet.protocol import Factory
from twisted.logger import Logger, globalLogPublisher

from sockproto.testing.leftovers import Leftovers, LoggedFailures


def test_a_timer_and_a_port_are_found_once_each_until_they_are_gone():
    leftovers = Leftovers()
    timer = reactor.callLater(60, lambda: None)
    port = reactor.listenTCP(0, Factory(), interface="127.0.0.1")
    try:
        assert {type(each) for each in leftovers.find()} == {type(timer), type(port)}
        assert len(leftovers.find()) == 2
    finally:
        timer.cancel()
        port.stopListening()

    assert leftovers.settle(lambda: reactor.iterate(0)) == []


def test_what_stays_is_told_after_a_moment(monkeypatch):
    monkeypatch.setattr("sockproto.testing.leftovers.SETTLING", 0.0)
    leftovers = Leftovers()
    timer = reactor.callLater(60, lambda: None)

    assert leftovers.settle(lambda: None) == [timer]
    timer.cancel()


def test_where_no_reactor_is_installed_nothing_is_left_in_it(monkeypatch):
    monkeypatch.delitem(__import__("sys").modules, "twisted.internet.reactor")

    assert Leftovers().find() == []


@pytest.fixture
def failures(logged_failures):
    found = LoggedFailures()
    globalLogPublisher.addObserver(found)
    yield found
    globalLogPublisher.removeObserver(found)
    logged_failures.take(ZeroDivisionError, KeyError)


def test_a_failure_that_was_logged_is_kept_until_it_is_taken_out(failures):
    for error in (ZeroDivisionError("nought"), KeyError("nobody")):
        try:
            raise error
        except Exception:
            Logger().failure("it broke")

    taken = failures.take(KeyError)

    assert [each.type for each in taken] == [KeyError]
    assert failures.describe() == ["logged failure: it broke: ZeroDivisionError('nought')"]
    assert len(failures.take()) == 1
    assert failures.describe() == []
