from typing import Any

from door import Passphrase
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory
from twisted.internet.task import react
from twisted.protocols.wire import Echo

from sockproto import ServerFactory, listen


async def main(reactor: Any) -> None:
    factory = ServerFactory(Passphrase(b"sesame"), Factory.forProtocol(Echo))
    port = listen(reactor, "tcp:8471:interface=127.0.0.1", factory)
    print(f"listens on {port.getHost().host}:{port.getHost().port}")
    await Deferred()


if __name__ == "__main__":
    react(main)
