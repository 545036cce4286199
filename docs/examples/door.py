from hmac import compare_digest

from sockproto import Accept, Peer, Reject


class Passphrase:
    def __init__(self, word: bytes) -> None:
        self.word = word

    async def serve(self, peer: Peer) -> Accept | Reject:
        word = await peer.receive_until(b"\n", max_bytes=64)
        return Accept(b"OK\n") if compare_digest(word, self.word) else Reject(b"NO\n", "wrong word")

    async def connect(self, peer: Peer) -> Accept | Reject:
        peer.send(self.word + b"\n")
        return Accept() if await peer.expect(b"OK\n") else Reject(reason="wrong word")
