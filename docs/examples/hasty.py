from sockproto import Accept, Peer, Reject
from sockproto.testing import converse


class Hasty:
    """Take the first chunk for the whole name, as one ``recv`` would."""

    async def serve(self, peer: Peer) -> Accept | Reject:
        name = await peer.receive_some(64)
        return Accept(b"come in\n") if name == b"bob\n" else Reject(b"go away\n")


if __name__ == "__main__":
    try:
        converse(Hasty().serve, b"bob\n")
    except AssertionError as trouble:
        print(trouble)
