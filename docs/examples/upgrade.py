from hmac import compare_digest
from pathlib import Path
from typing import Any

from chat import Chat
from twisted.internet.endpoints import clientFromString
from twisted.internet.protocol import Factory
from twisted.internet.task import react
from twisted.protocols.wire import Echo

from sockproto import Accept, HandshakeEndpoint, Peer, Reject, ServerFactory, listen
from sockproto.transport.tls import ClientTls, ServerTls


class Upgrade:
    """Begin in the clear, and say the word only when TLS has been established."""

    def __init__(self, word: bytes) -> None:
        self.word = word

    async def serve(self, peer: Peer) -> Accept | Reject:
        if await peer.receive_line(max_bytes=16) != b"TLS":
            return Reject(b"NO\n", reason="no wish for TLS")
        peer.send(b"GO\n")
        await peer.start_tls()
        word = await peer.receive_line(max_bytes=64)
        return Accept(b"OK\n") if compare_digest(word, self.word) else Reject(b"NO\n", "wrong word")

    async def connect(self, peer: Peer) -> Accept | Reject:
        peer.send(b"TLS\n")
        if not await peer.expect(b"GO\n"):
            return Reject(reason="no TLS here")
        await peer.start_tls()
        peer.send(self.word + b"\n")
        return Accept() if await peer.expect(b"OK\n") else Reject(reason="wrong word")


async def main(reactor: Any) -> None:
    ours = ServerTls(Path("door.pem"), Path("door.key"))
    factory = ServerFactory(Upgrade(b"sesame"), Factory.forProtocol(Echo), tls=ours)
    port = listen(reactor, "tcp:0:interface=127.0.0.1", factory)

    theirs = ClientTls("localhost", ca=Path("door.pem"))
    server = clientFromString(reactor, f"tcp:127.0.0.1:{port.getHost().port}")
    endpoint = HandshakeEndpoint(server, Upgrade(b"sesame"), tls=theirs)
    chat = await endpoint.connect(Factory.forProtocol(Chat))
    print((await chat.answer).decode(), "by way of TLS")

    await port.stopListening()
    await factory.shut_down()


if __name__ == "__main__":
    react(main)
