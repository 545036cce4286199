"""What trial gives to a test of a handshake: servers that stop, and nothing left behind."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred
    from twisted.internet.task import Clock

    from sockproto.testing.server import RunningServer


class HandshakeTestMixin:
    """
    For a ``twisted.trial.unittest.TestCase``::

        class OnARealSocket(HandshakeTestMixin, TestCase):
            async def test_the_word_opens_the_door(self):
                server = await self.serve(Passphrase(b"sesame"))
                self.assertEqual(await server.say(b"sesame\\n"), b"OK\\n")

    trial itself notices timers, ports and logged failures that a test leaves behind.
    """

    def serve(self, *arguments: Any, **terms: Any) -> Deferred[RunningServer]:
        """Start a server, as :func:`sockproto.testing.serve` does, and stop it after the test."""
        from sockproto.testing.server import serve

        def stop_later(server: RunningServer) -> RunningServer:
            case: Any = self
            case.addCleanup(server.stop)
            return server

        return serve(*arguments, **terms).addCallback(stop_later)

    def connect(self, server: RunningServer, handshake: Any, session: Any = None) -> Deferred[Any]:
        """Shake hands with a server, as :func:`sockproto.connect` does."""
        from sockproto.transport.client import connect

        return connect(server.endpoint, handshake, session)

    def clock(self) -> Clock:
        """A clock for a test in virtual time; it fails the test if timers are left in it."""
        from twisted.internet.task import Clock

        clock = Clock()

        def look() -> None:
            left = [str(each) for each in clock.getDelayedCalls()]
            if left:
                raise AssertionError("\n".join(f"left in the clock: {each}" for each in left))

        case: Any = self
        case.addCleanup(look)
        return clock
