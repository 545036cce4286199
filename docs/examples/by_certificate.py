from sockproto import Accept, Peer, Reject


class ByCertificate:
    """Let in whoever shows a certificate, under the first name that stands in it."""

    async def serve(self, peer: Peer) -> Accept | Reject:
        if peer.tls is None or not peer.tls.names:
            return Reject(b"who are you?\n", reason="no certificate with a name in it")
        name = peer.tls.names[0]
        return Accept(f"hello {name}\n".encode(), identity=name)

    async def connect(self, peer: Peer) -> Accept | Reject:
        answer = (await peer.receive_line(max_bytes=300)).decode("utf-8", "replace")
        return Accept() if answer.startswith("hello ") else Reject(reason=answer)
