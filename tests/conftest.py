"""
What every test is held to: it leaves nothing behind.

pytest-twisted runs the tests under one reactor and does not notice what they leave in it. A timer,
a port or a connection that a test has forgotten would fire in the middle of another one, and an
error that was only logged would be nobody's.
"""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from twisted.logger import LogEvent, formatEvent, globalLogPublisher
from twisted.python.failure import Failure

from sockproto.cli import main

SETTLING = 0.5
"""Seconds that what a test has closed may take to be gone."""


class LoggedFailures:
    """The failures that were logged during a test, and that it has not yet taken out."""

    def __init__(self) -> None:
        self._logged: list[tuple[str, Failure]] = []

    def __call__(self, event: LogEvent) -> None:
        """An event was logged."""
        # The reactor logs what its callbacks raise in the old style still.
        failure = event.get("log_failure") or (event.get("isError") and event.get("failure"))
        if failure:
            self._logged.append((formatEvent(event).partition("\n")[0], failure))

    def take(self, *kinds: type[BaseException]) -> list[Failure]:
        """Take out the failures of these kinds, or all of them; the test expects them."""
        wanted = kinds or (BaseException,)
        taken = [failure for _, failure in self._logged if failure.check(*wanted)]
        self._logged = [each for each in self._logged if not each[1].check(*wanted)]
        return taken

    def describe(self) -> list[str]:
        """What is left, a line for each."""
        return [f"logged failure: {text}: {failure.value!r}" for text, failure in self._logged]


def pytest_collection_finish() -> None:
    """Leave what has been imported out of every garbage collection: many tests ask for one."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def sockproto_command(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[Any, str, str]]:
    """Run ``sockproto`` in this process: exit status, standard output and standard error."""

    def run(*arguments: str) -> tuple[Any, str, str]:
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        said = capsys.readouterr()
        return caught.value.code, said.out, said.err

    return run


@pytest.fixture
def logged_failures() -> Iterator[LoggedFailures]:
    """The failures that this test logs; one that it does not take out fails the test."""
    failures = LoggedFailures()
    globalLogPublisher.addObserver(failures)
    yield failures
    globalLogPublisher.removeObserver(failures)


@pytest.fixture(autouse=True)
def nothing_left_behind(logged_failures: LoggedFailures) -> Iterator[None]:
    """Fail a test that leaves timers, readers or writers in the reactor, or logged failures."""
    before = _everything_in_the_reactor()
    yield
    left = _new_since(before)
    if left:
        _let_settle(before)
        left = _new_since(before)
    trouble = [f"left in the reactor: {each}" for each in left] + logged_failures.describe()
    if trouble:
        pytest.fail("\n".join(trouble), pytrace=False)


def _reactor() -> Any:
    """The reactor, if somebody has installed one; to ask Twisted for it would install it."""
    return sys.modules.get("twisted.internet.reactor")


def _everything_in_the_reactor() -> list[Any]:
    reactor = _reactor()
    if reactor is None:
        return []
    own = getattr(reactor, "_internalReaders", ())
    files = [each for each in [*reactor.getReaders(), *reactor.getWriters()] if each not in own]
    return [*reactor.getDelayedCalls(), *files]


def _new_since(before: list[Any]) -> list[Any]:
    known = {id(each) for each in before}
    # One that reads and writes is there twice.
    left = {id(each): each for each in _everything_in_the_reactor()}
    return [each for which, each in left.items() if which not in known]


def _let_settle(before: list[Any]) -> None:
    """Turn the reactor until nothing is left, or for a moment: a close takes a few turns."""
    import pytest_twisted
    from twisted.internet.task import deferLater

    end = time.monotonic() + SETTLING
    while _new_since(before) and time.monotonic() < end:
        pytest_twisted.blockon(deferLater(_reactor(), 0.005, lambda: None))
