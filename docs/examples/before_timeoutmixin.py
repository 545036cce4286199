from typing import Any

from twisted.internet import reactor
from twisted.internet.endpoints import serverFromString
from twisted.internet.protocol import Factory, connectionDone
from twisted.protocols.basic import LineReceiver
from twisted.protocols.policies import TimeoutMixin
from twisted.python.failure import Failure


class Door(LineReceiver, TimeoutMixin):
    delimiter = b"\n"
    MAX_LENGTH = 64

    def connectionMade(self) -> None:
        self.setTimeout(5)

    def lineReceived(self, line: bytes) -> None:
        self.setTimeout(None)
        if line == b"sesame":
            self.sendLine(b"OK")
            self.setRawMode()
        else:
            self.sendLine(b"NO")
            self.transport.loseConnection()

    def rawDataReceived(self, data: bytes) -> None:
        self.transport.write(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.setTimeout(None)


def listening(port: Any) -> None:
    print(f"listens on 127.0.0.1:{port.getHost().port}")


endpoint = serverFromString(reactor, "tcp:8471:interface=127.0.0.1")
endpoint.listen(Factory.forProtocol(Door)).addCallback(listening)
reactor.run()
