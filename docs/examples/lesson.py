from sockproto import Accept, Peer, Reject


class Lesson:
    """Welcome whoever says 1."""

    async def serve(self, peer: Peer) -> Accept | Reject:
        word = await peer.receive_some(1024)
        if word == b"1":
            return Accept(b"welcome to server!")
        return Reject(b"please go out!", reason=f"expected b'1', got {word[:20]!r}")
