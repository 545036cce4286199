from typing import Any

from door import Passphrase
from twisted.internet.defer import Deferred
from twisted.internet.task import react

from sockproto import listen_datagrams


async def main(reactor: Any) -> None:
    port = listen_datagrams(reactor, "udp:8471:interface=127.0.0.1", Passphrase(b"sesame"))
    print(f"listens on {port.address}")
    await Deferred()


if __name__ == "__main__":
    react(main)
