"""
No handshake: whoever comes is accepted.

Wire format: nothing. The session begins with the first byte, in both directions. It is for what has
a protocol of its own, and wants what stands around a handshake: bounds, admission, logs, hand-over.
"""

from __future__ import annotations

from sockproto.core.outcomes import Accept, Reject
from sockproto.core.peer import Peer


class NoHandshake:
    """Accept at once, without a byte."""

    async def serve(self, peer: Peer) -> Accept | Reject:
        """Accept whoever it is."""
        return Accept()

    async def connect(self, peer: Peer) -> Accept | Reject:
        """Go on as if the server had accepted us; it has, if it does likewise."""
        return Accept()
