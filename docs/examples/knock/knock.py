from datetime import UTC, datetime

from twisted.internet.protocol import Protocol

from sockproto import Accept, Peer, Reject


class Knock:
    """Accept whoever knocks so many times, and no more than that."""

    def __init__(self, times: int = 3) -> None:
        self.times = times

    async def serve(self, peer: Peer) -> Accept | Reject:
        knocks = await peer.receive_line(max_bytes=64)
        if knocks == b"knock" * self.times:
            return Accept(b"come in\n")
        return Reject(b"nobody is at home\n", reason="wrong knock")

    async def connect(self, peer: Peer) -> Accept | Reject:
        peer.send(b"knock" * self.times + b"\n")
        if await peer.expect(b"come in\n"):
            return Accept()
        return Reject(reason="nobody is at home")


class Time(Protocol):
    """Say what time it is, and close."""

    def connectionMade(self) -> None:
        self.transport.write(f"{datetime.now(UTC):%H:%M} UTC\n".encode())
        self.transport.loseConnection()
