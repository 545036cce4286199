from twisted.internet.protocol import Protocol

from sockproto import Accept


class Greeter(Protocol):
    """Say hello to whoever the handshake has let in."""

    name: str | None = None

    def handshake_accepted(self, accept: Accept) -> None:
        self.name = accept.identity

    def connectionMade(self) -> None:
        self.transport.write(f"hello {self.name}\n".encode())
        self.transport.loseConnection()
