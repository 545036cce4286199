"""pytest fixtures. Needs pytest-twisted; costs nothing in a test run that does not use them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred
    from twisted.internet.task import Clock

    from sockproto.testing.leftovers import LoggedFailures
    from sockproto.testing.server import RunningServer


@pytest.fixture
def sockproto_server() -> Iterator[Callable[..., Deferred[RunningServer]]]:
    """
    Start real servers on free ports, and stop them after the test.

    Called with what :func:`sockproto.testing.serve` takes::

        @pytest_twisted.ensureDeferred
        async def test_the_word_opens_the_door(sockproto_server):
            server = await sockproto_server(Passphrase(b"sesame"))
            assert await server.say(b"sesame\\n") == b"OK\\n"
    """
    import pytest_twisted

    from sockproto.testing.server import serve

    started: list[RunningServer] = []

    def start(*arguments: Any, **terms: Any) -> Deferred[RunningServer]:
        def keep(server: RunningServer) -> RunningServer:
            started.append(server)
            return server

        return serve(*arguments, **terms).addCallback(keep)

    yield start
    for server in started:
        pytest_twisted.blockon(server.stop())


@pytest.fixture
def sockproto_client() -> Callable[..., Deferred[Any]]:
    """
    Shake hands with a server that ``sockproto_server`` has started.

    Called with the server, the handshake and perhaps a session::

        assert await sockproto_client(server, Passphrase(b"sesame")) == Accept()
    """

    def connect(
        server: RunningServer, handshake: Any, session: Any = None, **terms: Any
    ) -> Deferred[Any]:
        from sockproto.transport.client import connect

        return connect(server.endpoint, handshake, session, **terms)

    return connect


@pytest.fixture
def sockproto_clock() -> Iterator[Clock]:
    """A clock whose time the test moves; a timer that is left in it fails the test."""
    from twisted.internet.task import Clock

    clock = Clock()
    yield clock
    left = [str(each) for each in clock.getDelayedCalls()]
    if left:
        pytest.fail("\n".join(f"left in the clock: {each}" for each in left), pytrace=False)


@pytest.fixture
def sockproto_failures() -> Iterator[LoggedFailures]:
    """The failures that the test logs; ``take()`` those that it expects."""
    from twisted.logger import globalLogPublisher

    from sockproto.testing.leftovers import LoggedFailures

    failures: Any = LoggedFailures()
    globalLogPublisher.addObserver(failures)
    yield failures
    globalLogPublisher.removeObserver(failures)


@pytest.fixture
def sockproto_hygiene(sockproto_failures: LoggedFailures) -> Iterator[None]:
    """
    Fail a test that leaves timers, ports or connections in the reactor, or logged failures.

    Ask for it in all tests of a folder with ``pytestmark = pytest.mark.usefixtures(...)``, or with
    a fixture of your own that is ``autouse``.
    """
    from sockproto.testing.leftovers import Leftovers

    leftovers = Leftovers()
    yield
    left = leftovers.find()
    if left:
        left = leftovers.settle(_turn)
    trouble = [f"left in the reactor: {each}" for each in left] + sockproto_failures.describe()
    if trouble:
        pytest.fail("\n".join(trouble), pytrace=False)


def _turn() -> None:
    """Let the reactor do what it has to, for a moment."""
    import pytest_twisted
    from twisted.internet.task import deferLater

    from sockproto.testing.leftovers import the_reactor

    pytest_twisted.blockon(deferLater(the_reactor(), 0.005, lambda: None))
