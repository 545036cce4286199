"""
What one writes on Twisted without us: a line within five seconds, and an answer.

It stands among the rivals, and behind those of them that only pass connections on. Its timeout is
what ``TimeoutMixin`` invites to: set when the connection is made, and set again when bytes arrive.
"""

from __future__ import annotations

import sys
from hmac import compare_digest
from typing import Any

from twisted.internet.protocol import Factory, connectionDone
from twisted.protocols.basic import LineReceiver
from twisted.protocols.policies import TimeoutMixin
from twisted.python.failure import Failure

TIMEOUT = 5.0
BACKLOG = 4096


class Word(LineReceiver, TimeoutMixin):
    """Says ``OK`` to who knows the word."""

    delimiter = b"\n"
    MAX_LENGTH = 64
    word = b"sesame"
    transport: Any

    def connectionMade(self) -> None:
        self.setTimeout(TIMEOUT)

    def dataReceived(self, data: bytes) -> None:
        self.resetTimeout()
        super().dataReceived(data)

    def lineReceived(self, line: bytes) -> None:
        self.transport.write(b"OK\n" if compare_digest(line, self.word) else b"NO\n")
        self.transport.loseConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.setTimeout(None)


def main(port: int) -> None:
    """Serve on a port of 127.0.0.1, for ever."""
    from twisted.internet import reactor

    factory = Factory.forProtocol(Word)
    factory.noisy = False
    chosen: Any = reactor
    chosen.listenTCP(port, factory, BACKLOG, "127.0.0.1")
    chosen.run()


if __name__ == "__main__":
    main(int(sys.argv[1]))
