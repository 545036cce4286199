from typing import Protocol

from twisted.internet.defer import Deferred

from sockproto import Accept, Peer, Reject


class Directory(Protocol):
    """Whatever knows the members: a database, another server."""

    def find(self, number: bytes) -> Deferred[str | None]: ...


class Members:
    """Let in whoever the directory knows."""

    def __init__(self, directory: Directory) -> None:
        self.directory = directory

    async def serve(self, peer: Peer) -> Accept | Reject:
        number = await peer.receive_line(max_bytes=16)
        name = await self.directory.find(number)
        if name is None:
            return Reject(b"NO\n", reason="not a member")
        return Accept(b"OK\n", identity=name)
