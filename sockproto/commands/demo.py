"""
``sockproto demo`` shows a server and four clients at work, and says what each of them sees.

Everything runs in this process, on a free port of loopback, and is over in a quarter of a minute.
The clients are bare Twisted protocols: they know as little of us as any program out there.
"""

from __future__ import annotations

import os
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred, gatherResults, maybeDeferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.task import LoopingCall, react
from twisted.python.failure import Failure

from sockproto.core.outcomes import Accept, Reject
from sockproto.core.peer import Peer
from sockproto.events import Event, HandshakeEnded
from sockproto.limits import Limits
from sockproto.service.escaping import printable
from sockproto.service.logs import WORDS
from sockproto.service.units import show_seconds
from sockproto.transport.endpoints import listen
from sockproto.transport.server import ServerFactory

PAUSE = 2.0
"""Seconds that the dripping client lets pass between two bytes."""

_COLOURS = {"server": "1", "right": "32", "wrong": "31", "silent": "33", "dripping": "35"}
"""Bold, green, red, yellow, magenta: ECMA-48, section 8.3.117."""


class Lesson:
    """The lesson's handshake, with a line for a word so that no network can cut it short."""

    async def serve(self, peer: Peer) -> Accept | Reject:
        """Welcome whoever sends a ``1``."""
        word = await peer.receive_line(max_bytes=64)
        if word == b"1":
            return Accept(b"welcome to server!\n")
        return Reject(b"please go out!\n", reason=f"expected b'1', got {word!r}")


def configure(parser: ArgumentParser) -> None:
    """Say what the command takes."""
    parser.description = (
        "Start a server and four clients on loopback (one knows the word, one does not, one says "
        "nothing, one drips), and tell what each of them sees. Takes about eleven seconds."
    )
    parser.set_defaults(run=run)


def run(options: Namespace) -> int:
    """Show it."""
    try:
        react(partial(show, limits=Limits()))
    except SystemExit as exit:
        return int(exit.code or 0)
    raise AssertionError("react() always exits")


class Narrator:
    """
    Tells what happens, a line for each thing.

    Args:
        clock: Tells how long it has been going on.
        write: Takes the lines.
        colour: Whether the names are to be coloured.
    """

    def __init__(self, clock: Any, write: Callable[[str], object], colour: bool) -> None:
        self._clock, self._write, self._colour = clock, write, colour
        self._began = clock.seconds()
        self.names: dict[int, str] = {}

    def say(self, sentence: str) -> None:
        """A sentence of our own."""
        self._write(f"{sentence}\n")

    def tell(self, who: str, what: str) -> None:
        """Something has happened to somebody."""
        name = f"{who:<8}"
        if self._colour:
            name = f"\x1b[{_COLOURS[who]}m{name}\x1b[0m"
        self._write(f"{self._clock.seconds() - self._began:5.1f} s  {name}  {what}\n")

    def __call__(self, event: Event) -> None:
        """What the server has seen."""
        if isinstance(event, HandshakeEnded):
            who = self.names.get(event.address.port or 0, "somebody")
            took = event.duration
            shown = f"{took * 1000:.1f} ms" if took < 1 else f"{took:.1f} s"
            why = f": {printable(event.detail)}" if event.detail else ""
            word = WORDS.get(event.reason, event.reason)
            self.tell("server", f"{word} {who} in {shown}{why}")


async def show(reactor: Any, limits: Limits) -> None:
    """Start everybody, and tell of them; fires when it is over."""
    colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    narrator = Narrator(reactor, partial(print, end="", flush=True), colour)
    factory = ServerFactory(Lesson(), limits=limits, observers=[narrator], clock=reactor)
    port = listen(reactor, "tcp:0:interface=127.0.0.1", factory)
    host: Any = port.getHost()
    where = host.port
    narrator.say(
        f"A server waits at 127.0.0.1:{where}. It welcomes whoever sends the line 1, waits "
        f"{show_seconds(limits.idle_timeout)} for\nthe next byte, and "
        f"{show_seconds(limits.handshake_timeout)} for all of them. Four clients connect at once.\n"
    )
    sends = {
        "silent": [],
        "dripping": [bytes([each]) for each in b"let me in"],
        "wrong": [b"2\n"],
        "right": [b"1\n"],
    }
    clients = [_Client(reactor, narrator, who, drops) for who, drops in sends.items()]
    endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", where)
    for client in clients:
        await connectProtocol(endpoint, client)
    await gatherResults([client.over for client in clients])
    narrator.say(
        "\nNobody has waited for anybody, and nobody is left. The same server as a service:\n"
        "twistd -n --pidfile= sockserver"
    )
    await maybeDeferred(port.stopListening)
    await factory.shut_down()


class _Client(Protocol):
    """
    Sends bytes, one lot at a time, and tells what comes of it.

    Args:
        reactor: Keeps the time.
        narrator: Is told.
        who: What the client is called.
        drops: What it sends.

    Attributes:
        over: Fires when the connection is gone.
    """

    transport: Any

    def __init__(self, reactor: Any, narrator: Narrator, who: str, drops: Iterable[bytes]) -> None:
        self.over: Deferred[None] = Deferred()
        self._narrator, self._who, self._drops = narrator, who, iter(drops)
        self._heard = b""
        self._dripping = LoopingCall(self._drip)
        self._dripping.clock = reactor

    def connectionMade(self) -> None:
        self._narrator.names[self.transport.getHost().port] = self._who
        self._dripping.start(PAUSE)

    def _drip(self) -> None:
        drop = next(self._drops, None)
        if drop is None:
            self._dripping.stop()
        else:
            self._narrator.tell(self._who, f"sends {drop!r}")
            self.transport.write(drop)

    def dataReceived(self, data: bytes) -> None:
        self._heard += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._dripping.running:
            self._dripping.stop()
        heard = repr(self._heard) if self._heard else "nothing"
        self._narrator.tell(self._who, f"hears {heard}, and then the end")
        self.over.callback(None)
