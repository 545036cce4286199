"""The fixture that holds every test to leaving nothing behind does catch those that do."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

LEAKING = """
import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python import log
from twisted.python.failure import Failure


def test_timer():
    reactor.callLater(1000, print)


def test_port():
    reactor.listenTCP(0, Factory(), interface="127.0.0.1")


def test_failure():
    Logger().failure("oh", Failure(ValueError("lost")))


def test_failure_in_the_old_style():
    log.err(Failure(ValueError("lost")))


def test_unhandled_deferred():
    Deferred().errback(KeyError("unseen"))


def test_failure_of_another_kind(logged_failures):
    Logger().failure("oh", Failure(ValueError("another")))
    logged_failures.take(KeyError)


def test_nothing():
    pass


def test_failure_that_was_taken(logged_failures):
    Logger().failure("oh", Failure(ValueError("expected")))
    assert [each.getErrorMessage() for each in logged_failures.take(ValueError)] == ["expected"]


@pytest_twisted.ensureDeferred
async def test_timer_that_fired():
    await deferLater(reactor, 0.01, lambda: None)


def test_timer_that_settles():
    reactor.callLater(0.02, lambda: None)
"""


def test_a_test_that_leaves_something_behind_fails(tmp_path):
    conftest = Path(__file__).parents[1] / "conftest.py"
    (tmp_path / "conftest.py").write_text(conftest.read_text())
    (tmp_path / "test_leaking.py").write_text(LEAKING)

    command = [sys.executable, "-m", "pytest", "-rA", "--tb=short", "-p", "no:cacheprovider"]
    done = subprocess.run([*command, "."], cwd=tmp_path, capture_output=True, text=True, timeout=60)

    ends = [line.partition(" - ")[0] for line in done.stdout.splitlines()]
    leaking = [line for line in ends if line.startswith("ERROR test_leaking.py")]
    assert leaking == [
        f"ERROR test_leaking.py::test_{name}"
        for name in (
            "timer",
            "port",
            "failure",
            "failure_in_the_old_style",
            "unhandled_deferred",
            "failure_of_another_kind",
        )
    ], done.stdout
    assert "10 passed, 6 errors" in done.stdout
    assert "left in the reactor: <DelayedCall" in done.stdout
    assert "logged failure: oh: ValueError('lost')" in done.stdout
