"""What a test leaves behind: timers, ports and connections in the reactor, and logged failures."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

SETTLING = 0.5
"""Seconds that what a test has closed may take to be gone."""


class LoggedFailures:
    """The failures that were logged during a test, and that it has not yet taken out."""

    def __init__(self) -> None:
        self._logged: list[tuple[str, Any]] = []

    def __call__(self, event: Any) -> None:
        """An event was logged."""
        from twisted.logger import formatEvent

        # The reactor logs what its callbacks raise in the old style still.
        failure = event.get("log_failure") or (event.get("isError") and event.get("failure"))
        if failure:
            self._logged.append((formatEvent(event).partition("\n")[0], failure))

    def take(self, *kinds: type[BaseException]) -> list[Any]:
        """Take out the failures of these kinds, or all of them; the test expects them."""
        wanted = kinds or (BaseException,)
        # Not check(): for a failure, BaseException is no class of anything.
        taken = [failure for _, failure in self._logged if isinstance(failure.value, wanted)]
        self._logged = [each for each in self._logged if each[1] not in taken]
        return taken

    def describe(self) -> list[str]:
        """What is left, a line for each."""
        return [f"logged failure: {text}: {failure.value!r}" for text, failure in self._logged]


class Leftovers:
    """What is in the reactor that was not there when this was made."""

    def __init__(self) -> None:
        self._before = _everything()

    def find(self) -> list[Any]:
        """What is new: timers, ports, connections, each once."""
        known = {id(each) for each in self._before}
        # One that reads and writes is there twice.
        left = {id(each): each for each in _everything()}
        return [each for which, each in left.items() if which not in known]

    def settle(self, turn: Callable[[], object]) -> list[Any]:
        """
        Turn the reactor until nothing is left, or for a moment: a close takes a few turns.

        Args:
            turn: Turns it.

        Returns:
            What is left then.
        """
        end = time.monotonic() + SETTLING
        while (left := self.find()) and time.monotonic() < end:
            turn()
        return left


def the_reactor() -> Any:
    """The reactor, if somebody has installed one; to ask Twisted for it would install it."""
    return sys.modules.get("twisted.internet.reactor")


def _everything() -> list[Any]:
    reactor = the_reactor()
    if reactor is None:
        return []
    own = getattr(reactor, "_internalReaders", ())
    files = [each for each in [*reactor.getReaders(), *reactor.getWriters()] if each not in own]
    return [*reactor.getDelayedCalls(), *files]
