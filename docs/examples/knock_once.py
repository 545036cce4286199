from typing import Any

from door import Passphrase
from twisted.internet.endpoints import clientFromString
from twisted.internet.task import react

from sockproto import PeerError, Rejected, connect


async def main(reactor: Any) -> None:
    server = clientFromString(reactor, "tcp:127.0.0.1:8471")
    for word in (b"sesame", b"simsim"):
        try:
            accept = await connect(server, Passphrase(word))
        except Rejected as error:
            print(f"no: {error.reason}")
        except PeerError as error:
            print(f"nothing came of it: {error}")
        else:
            print(f"yes: {accept}")


if __name__ == "__main__":
    react(main)
