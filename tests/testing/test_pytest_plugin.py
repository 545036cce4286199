"""The fixture, in a test run of somebody else's."""

from __future__ import annotations

import subprocess
import sys

TESTS = """
import socket

import pytest
import pytest_twisted

from sockproto.handshakes.welcome import Welcome

ports = []


@pytest_twisted.ensureDeferred
async def test_it_starts_as_many_servers_as_are_asked_for(sockproto_server):
    for token in (b"1", b"2"):
        server = await sockproto_server(Welcome(token))
        assert await server.say(token) == b"welcome to server!"
        ports.append(server.port)


def test_they_are_gone_after_the_test():
    assert len(set(ports)) == 2
    for port in ports:
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port))


@pytest_twisted.ensureDeferred
async def test_one_may_be_stopped_by_the_test(sockproto_server):
    server = await sockproto_server(Welcome())
    await server.stop()


@pytest_twisted.ensureDeferred
async def test_one_that_cannot_listen_is_an_error_of_the_test(sockproto_server):
    server = await sockproto_server(Welcome())
    with pytest.raises(Exception, match="in use"):
        await sockproto_server(Welcome(), listen=f"tcp:{server.port}:interface=127.0.0.1")


def test_one_that_is_never_started_is_nothing_to_stop(sockproto_server):
    pass
"""


def pytest_run(folder, *options):
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_a_server_is_started_for_a_test_and_gone_afterwards(tmp_path):
    (tmp_path / "test_others.py").write_text(TESTS)

    done = pytest_run(tmp_path)

    assert "5 passed" in done.stdout, done.stdout


def test_the_fixture_is_listed_with_what_it_does(tmp_path):
    done = pytest_run(tmp_path, "--fixtures")

    assert "Start real servers on free ports, and stop them after the test." in done.stdout


def test_it_costs_nothing_where_it_is_not_used():
    ask = "import sys, sockproto.testing.pytest_plugin; print(*sys.modules, sep='\\n')"

    done = subprocess.run(
        [sys.executable, "-c", ask], capture_output=True, text=True, timeout=60, check=True
    )

    loaded = done.stdout.split()
    assert "sockproto.testing.pytest_plugin" in loaded
    assert not [name for name in loaded if name.startswith(("twisted.", "pytest_twisted"))]


HYGIENE = """
import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.logger import Logger

from sockproto import Accept
from sockproto.handshakes.passphrase import Passphrase

pytestmark = pytest.mark.usefixtures("sockproto_hygiene")


@pytest_twisted.ensureDeferred
async def test_a_client_shakes_hands_and_leaves_nothing(sockproto_server, sockproto_client):
    server = await sockproto_server(Passphrase(b"sesame"))
    assert await sockproto_client(server, Passphrase(b"sesame")) == Accept()


def test_a_timer():
    reactor.callLater(60, print)


def test_a_failure():
    try:
        1 / 0
    except ZeroDivisionError:
        Logger().failure("it broke")


def test_a_failure_that_is_expected(sockproto_failures):
    test_a_failure()
    assert len(sockproto_failures.take(ZeroDivisionError)) == 1


def test_a_clock(sockproto_clock):
    sockproto_clock.callLater(1, print)
"""


def test_what_a_test_leaves_behind_fails_it(tmp_path):
    (tmp_path / "test_others.py").write_text(HYGIENE)

    done = pytest_run(tmp_path)

    words = done.stdout
    assert "5 passed, 3 errors" in words, words
    assert "left in the reactor: <DelayedCall" in words
    assert "logged failure: it broke: ZeroDivisionError('division by zero')" in words
    assert "left in the clock: <DelayedCall" in words
