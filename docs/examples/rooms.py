from sockproto import Accept, Peer, Reject


class Rooms:
    """Let the peer choose a session by its name."""

    async def serve(self, peer: Peer) -> Accept | Reject:
        name = (await peer.receive_line(max_bytes=32)).decode("utf-8", "replace")
        if name not in peer.sessions:
            return Reject(b"no such room\n", reason=f"no room is called {name}")
        return Accept(b"this way\n", session=name)
