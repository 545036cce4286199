from typing import Any

from twisted.internet import reactor
from twisted.internet.endpoints import serverFromString
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.protocols.policies import TimeoutMixin
from twisted.python.failure import Failure


class Lesson(Protocol, TimeoutMixin):
    transport: Any
    answered = False

    def connectionMade(self) -> None:
        self.setTimeout(5)

    def dataReceived(self, data: bytes) -> None:
        if self.answered:
            return
        self.answered = True
        self.transport.write(b"welcome to server!" if data == b"1" else b"please go out!")
        self.transport.loseWriteConnection()
        self.resetTimeout()

    def timeoutConnection(self) -> None:
        if not self.answered:
            print("time out")
        self.transport.abortConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.setTimeout(None)


def listening(port: Any) -> None:
    print(f"listens on 127.0.0.1:{port.getHost().port}")


endpoint = serverFromString(reactor, "tcp:8001:interface=127.0.0.1")
endpoint.listen(Factory.forProtocol(Lesson)).addCallback(listening)
reactor.run()
