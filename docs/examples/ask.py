from typing import Any

from door import Passphrase
from twisted.internet.task import react

from sockproto.transport.datagram_client import ask


async def main(reactor: Any) -> None:
    print(await ask(reactor, "udp:127.0.0.1:8471", Passphrase(b"sesame"), retries=3))


if __name__ == "__main__":
    react(main)
