from typing import Any

from guests import GuestList
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import clientFromString
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import react
from twisted.python.failure import Failure

from sockproto import HandshakeEndpoint, Rejected


class Listen(Protocol):
    def __init__(self) -> None:
        self.over: Deferred[None] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        print("the house says:", data.decode().strip())

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.over.callback(None)


async def main(reactor: Any) -> None:
    house = clientFromString(reactor, "tcp:127.0.0.1:8471")
    for name in ("bob", "eve"):
        try:
            endpoint = HandshakeEndpoint(house, GuestList(name))
            session = await endpoint.connect(Factory.forProtocol(Listen))
            await session.over
        except Rejected as error:
            print(f"{name} stays outside:", error.reason)


if __name__ == "__main__":
    react(main)
