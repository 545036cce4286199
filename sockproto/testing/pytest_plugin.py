"""pytest fixtures. Needs pytest-twisted; costs nothing in a test run that does not use them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred

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
