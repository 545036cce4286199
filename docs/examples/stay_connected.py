from typing import Any

from chat import Chat
from door import Passphrase
from twisted.application.internet import ClientService
from twisted.internet.endpoints import clientFromString
from twisted.internet.protocol import Factory
from twisted.internet.task import react

from sockproto import HandshakeEndpoint


async def main(reactor: Any) -> None:
    server = clientFromString(reactor, "tcp:127.0.0.1:8471")
    endpoint = HandshakeEndpoint(server, Passphrase(b"sesame"))
    service = ClientService(endpoint, Factory.forProtocol(Chat))
    service.startService()
    chat = await service.whenConnected(failAfterFailures=3)
    print((await chat.answer).decode())
    await service.stopService()


if __name__ == "__main__":
    react(main)
