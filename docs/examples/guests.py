from sockproto import Accept, Peer, Reject


class GuestList:
    """Let in whoever is on the list; the names are separated by commas."""

    def __init__(self, names: str) -> None:
        self.names = names.split(",")

    async def serve(self, peer: Peer) -> Accept | Reject:
        peer.send(b"who is there?\n")
        name = (await peer.receive_line(max_bytes=64)).decode("utf-8", "replace")
        if name not in self.names:
            return Reject(b"you are not on the list\n", reason=f"no guest is called {name}")
        return Accept(b"come in\n", identity=name)

    async def connect(self, peer: Peer) -> Accept | Reject:
        await peer.receive_line(max_bytes=64)
        peer.send(self.names[0].encode() + b"\n")
        if await peer.expect(b"come in\n"):
            return Accept()
        return Reject(reason=(await peer.receive_line(max_bytes=64)).decode("utf-8", "replace"))
