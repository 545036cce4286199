"""
What every test is held to: it leaves nothing behind.

pytest-twisted runs the tests under one reactor and does not notice what they leave in it. A timer,
a port or a connection that a test has forgotten would fire in the middle of another one, and an
error that was only logged would be nobody's.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import pytest

from sockproto.cli import main
from sockproto.testing.leftovers import LoggedFailures


@pytest.fixture(autouse=True, scope="module")
def what_is_older_set_aside() -> None:
    """Leave what there was before a module out of every collection: many tests ask for one."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def logged_failures(sockproto_failures: LoggedFailures) -> LoggedFailures:
    """The failures that this test logs; one that it does not take out fails the test."""
    return sockproto_failures


@pytest.fixture(autouse=True)
def nothing_left_behind(sockproto_hygiene: None) -> None:
    """Fail a test that leaves timers, readers or writers in the reactor, or logged failures."""


@pytest.fixture
def sockproto_command(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[Any, str, str]]:
    """Run ``sockproto`` in this process: exit status, standard output and standard error."""

    def run(*arguments: str) -> tuple[Any, str, str]:
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        said = capsys.readouterr()
        return caught.value.code, said.out, said.err

    return run
