from typing import Any

from door import Passphrase
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import clientFromString
from twisted.internet.protocol import Factory
from twisted.internet.task import react
from twisted.protocols.basic import LineReceiver

from sockproto import HandshakeEndpoint


class Chat(LineReceiver):
    """Say one line, and keep the first one that comes back."""

    def __init__(self) -> None:
        self.answer: Deferred[bytes] = Deferred()

    def connectionMade(self) -> None:
        self.sendLine(b"hello")

    def lineReceived(self, line: bytes) -> None:
        self.answer.callback(line)
        self.transport.loseConnection()


async def main(reactor: Any) -> None:
    server = clientFromString(reactor, "tcp:127.0.0.1:8471")
    endpoint = HandshakeEndpoint(server, Passphrase(b"sesame"))
    chat = await endpoint.connect(Factory.forProtocol(Chat))
    print((await chat.answer).decode())


if __name__ == "__main__":
    react(main)
