"""What comes to the server of a world: good peers, bad ones, and what the network does to them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionAborted, ConnectionLost

from sockproto.testing.memory import MemoryConnection, MemoryTransport
from sockproto.testing.simulation.dice import Dice
from sockproto.testing.simulation.plugins import Planned, Step, good_words

SESSION_WORDS = b"and this is for the session: 0123456789"


@dataclass
class Peer:
    """
    One that comes.

    Attributes:
        port: Its port, which is its name.
        host: Where it comes from; several may share one.
        said: All that it says.
        plan: When it does what: seconds from the beginning, and the bytes that it sends, or
            ``end``, ``reset``.
        reads: Whether it reads what it is sent.
        polite: Whether it closes when the server has.
        connection: Its connection, once there is one.
        heard: What the server has been given of its words.
    """

    port: int
    host: str
    said: bytes
    plan: list[tuple[float, bytes | str]]
    reads: bool
    polite: bool
    connection: MemoryConnection | None = None
    heard: bytes = b""
    ended: bool = False
    queue: list[bytes | str] = field(default_factory=list)

    def connect(self, factory: Any) -> None:
        """The kernel has accepted it."""
        address = IPv4Address("TCP", self.host, self.port)
        transport: Any = MemoryTransport(peerAddress=address)
        protocol = factory.buildProtocol(address)
        if protocol is not None:
            self.connection = MemoryConnection(protocol, transport)

    def do(self, deed: bytes | str) -> None:
        """Send bytes, finish, or reset; what the server does not read yet waits in the network."""
        if deed == "reset":
            self.queue.clear()
            if self.connection is not None:
                self.connection.lose(ConnectionLost())
        else:
            self.queue.append(deed)

    def settle(self) -> bool:
        """Do what the network and Twisted do by themselves; gives whether that was anything."""
        connection = self.connection
        if connection is None or connection.lost:
            return False
        transport = connection.transport
        if self.reads and transport.unread:
            transport.unread = 0
            if transport.producer is not None:
                transport.producer.resumeProducing()
            return True
        if transport.aborted or (transport.disconnecting and not transport.unread):
            connection.lose(ConnectionAborted() if transport.aborted else None)
            return True
        if transport.half_closed and self.polite and not self.ended:
            self.do("end")
            self.polite = False
            return True
        if self.queue and transport.producerState == "producing" and not transport.disconnecting:
            deed = self.queue.pop(0)
            if isinstance(deed, bytes):
                self.heard += deed
                try:
                    connection.send(deed)
                except Planned as error:
                    # As Twisted's reactors do when a protocol breaks.
                    connection.lose(error)
            elif not self.ended:
                self.ended = True
                connection.send_eof()
            return True
        return False


def peer_of(dice: Dice, port: int, steps: tuple[Step, ...]) -> Peer:
    """One peer, by chance."""
    said = good_words(steps)
    mood = dice.below(10)
    if mood < 5:
        said += SESSION_WORDS[: dice.below(len(SESSION_WORDS) + 1)]
    elif mood < 7:
        at = dice.below(len(said))
        said = said[:at] + bytes([dice.below(256)]) + said[at + 1 :]
    elif mood < 8:
        said = said[: dice.below(len(said))]
    elif mood < 9:
        said = b"x" * dice.below(10_000)
    else:
        said = b""
    now = dice.pick((0.0, 0.0, 0.01, 1.0, 3.0))
    plan: list[tuple[float, bytes | str]] = [(now, "connect")]
    pace = dice.pick((0.0, 0.0, 0.001, 0.3, 2.0))
    for piece in dice.cut(said):
        now += pace * dice.random()
        plan.append((now, piece))
    now += dice.pick((0.0, 0.5, 8.0))
    plan.append((now, dice.pick(("end", "end", "reset", "stay"))))
    return Peer(
        port,
        dice.pick(("192.0.2.1", "192.0.2.2", "198.51.100.9")),
        said,
        plan,
        reads=dice.chance(0.85),
        polite=dice.chance(0.8),
    )
