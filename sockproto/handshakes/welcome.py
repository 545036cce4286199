"""
The lesson: one word, one answer, goodbye.

Wire format: the client sends a token; the server answers with one of two texts and closes. Nothing
says where the token ends: it is what the first read brings, so a token that the network cuts in two
is a wrong one. That is how the twenty-line tutorial works that this project grew from, and why a
handshake of your own should end its words with a delimiter or begin them with a length.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from sockproto.core.errors import PeerDisconnected, shorten
from sockproto.core.outcomes import Accept, Reject
from sockproto.core.peer import Peer

MAX_READ = 1024
"""The most that is read for a token, and for a reply: the tutorial's ``recv(1024)``."""


class Welcome:
    """
    Welcome whoever sends the token, and ask all others out.

    Args:
        token: What a welcome client sends.
        welcome: The answer to it.
        goodbye: The answer to anything else.
    """

    def __init__(
        self,
        token: bytes = b"1",
        welcome: bytes = b"welcome to server!",
        goodbye: bytes = b"please go out!",
    ) -> None:
        self.token, self.welcome, self.goodbye = token, welcome, goodbye
        self._accept = Accept(welcome)

    async def serve(self, peer: Peer) -> Accept | Reject:
        """Read once, at most 1024 bytes, and answer."""
        token = await peer.receive_some(MAX_READ)
        if token == self.token:
            return self._accept
        reason = f"expected {shorten(self.token)}, got {shorten(token)}"
        return Reject(self.goodbye, reason=reason)

    async def connect(
        self,
        peer: Peer,
        send: bytes | None = None,
        delay: Callable[[], Awaitable[object]] | None = None,
    ) -> Accept | Reject:
        """
        Send a token and read the answer, to its end.

        Args:
            peer: The server.
            send: The token; the right one unless given.
            delay: Called and awaited before the token is sent, as the tutorial sleeps two seconds.

        Returns:
            ``Accept`` with the answer as its ``result`` if it is the welcome; else ``Reject`` with
            the answer as its ``reason``.
        """
        if delay is not None:
            await delay()
        peer.send(self.token if send is None else send)
        answer = await peer.receive_to_end(MAX_READ)
        if answer == self.welcome:
            return Accept(result=answer)
        if not answer:
            raise PeerDisconnected(0, "an answer")
        return Reject(reason=answer.decode("utf-8", "backslashreplace"))
