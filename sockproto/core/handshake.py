"""The contract: what a class must offer to be a handshake."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Protocol, TypeAlias

from sockproto.core.outcomes import Accept, Reject
from sockproto.core.peer import Peer

Outcome: TypeAlias = Accept | Reject

Side: TypeAlias = Callable[[Peer], Coroutine[Any, Any, Outcome]]
"""One side of a handshake: ``handshake.serve`` or ``handshake.connect``."""


class ServerHandshake(Protocol):
    """The side that a server needs."""

    async def serve(self, peer: Peer) -> Outcome:
        """Talk to a client that has just connected, and decide."""
        ...


class ClientHandshake(Protocol):
    """The side that a client needs."""

    async def connect(self, peer: Peer) -> Outcome:
        """Talk to the server that we have just connected to, and decide."""
        ...


class Handshake(ServerHandshake, ClientHandshake, Protocol):
    """
    The rules for a fresh connection, both sides of them.

    One object serves every connection, so what belongs to one connection lives in the coroutine's
    local variables. A coroutine may await the peer's verbs, Deferreds, and coroutines that do.
    """
