from typing import Any

from door import Passphrase
from twisted.internet.defer import Deferred
from twisted.internet.task import react
from twisted.web.resource import Resource
from twisted.web.server import Site

from sockproto import ServerFactory, listen


class Hello(Resource):
    isLeaf = True

    def render_GET(self, request: Any) -> bytes:
        return b"hello from behind the door\n"


async def main(reactor: Any) -> None:
    factory = ServerFactory(Passphrase(b"sesame"), Site(Hello()))
    port = listen(reactor, "tcp:8471:interface=127.0.0.1", factory)
    print(f"listens on 127.0.0.1:{port.getHost().port}")
    await Deferred()


if __name__ == "__main__":
    react(main)
