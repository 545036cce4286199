"""What was logged, in words."""

import gc

import pytest
from twisted.logger import formatEvent, globalLogPublisher


class Log:
    """The failures that a test expects to be logged."""

    def __init__(self, failures):
        self._failures = failures
        self._lines = []
        self._kinds = set()

    def __call__(self, event):
        failure = event.get("log_failure")
        if failure is not None:
            self._lines.append(f"{formatEvent(event)}: {failure.value!r}")
            self._kinds.add(failure.type)

    def take(self):
        """Take them out, those included that only a garbage collection brings to light."""
        gc.collect()
        lines, self._lines = self._lines, []
        self._failures.take(*self._kinds)
        return lines


@pytest.fixture
def logged(logged_failures):
    log = Log(logged_failures)
    globalLogPublisher.addObserver(log)
    yield log
    globalLogPublisher.removeObserver(log)
