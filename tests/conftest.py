"""
What every test is held to: it leaves nothing behind, and it does not ask how fast the machine is.

pytest-twisted runs the tests under one reactor and does not notice what they leave in it. A timer,
a port or a connection that a test has forgotten would fire in the middle of another one, and an
error that was only logged would be nobody's.
"""

from __future__ import annotations

import gc
import os
import signal
import socket
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from sockproto.cli import main
from sockproto.testing.leftovers import LoggedFailures

# How long an example may take, and how long it may take to make one, says something of the machine.
settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")

# argparse and Twisted's usage wrap their lines to it.
os.environ["COLUMNS"] = "80"

# A shell starts what runs in its background with SIGINT ignored, and so would be what we start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

SLOW_TIMEOUT = 900.0
"""Seconds for a test that takes tens of them here, on a machine that is ten times slower."""


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "ipv6: needs the address ::1, which some containers lack")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out what the machine cannot do, and be patient with what takes long."""
    no_ipv6 = pytest.mark.skip(reason="this machine has no ::1")
    with_ipv6 = _has_ipv6()
    for item in items:
        if not with_ipv6 and item.get_closest_marker("ipv6"):
            item.add_marker(no_ipv6)
        if item.get_closest_marker("slow") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(SLOW_TIMEOUT))


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as trying:
            trying.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.fixture(scope="session")
def has_ipv6() -> bool:
    """Whether a server can listen on ``::1``."""
    return _has_ipv6()


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
