"""
The ``sockproto`` command.

``sockproto connect`` shakes hands with a server. What the server says goes to standard output, what
we say to standard error, and the exit status tells how it went.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Any, NoReturn

from sockproto._version import __version__
from sockproto.core.errors import ConfigurationError, HandshakeFailed, PeerError, Rejected
from sockproto.core.outcomes import Accept, Reject
from sockproto.core.peer import Peer
from sockproto.handshakes.welcome import Welcome
from sockproto.plugins import handshake_blueprint, look_in_working_directory
from sockproto.service.logs import printable
from sockproto.service.units import seconds

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred

ACCEPTED, REJECTED, USAGE, UNREACHABLE, CUT_OFF = range(5)
"""The exit statuses of ``sockproto connect``."""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command, and exit."""
    options = _parser().parse_args(arguments)
    try:
        status = options.run(options)
    except ConfigurationError as error:
        _say(str(error))
        status = USAGE
    sys.exit(status)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sockproto", description="Shake hands with a server.", allow_abbrev=False
    )
    parser.add_argument("--version", action="version", version=f"sockproto {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    connect = commands.add_parser(
        "connect",
        help="connect to a server and shake hands",
        allow_abbrev=False,
        description="Connect to a server and shake hands. The server's reply is printed; if a "
        "session follows, it is joined to standard input and output.",
        epilog="Exit status: 0 accepted, 1 rejected, 2 usage, 3 cannot connect, "
        "4 timed out or cut off.",
    )
    connect.add_argument("endpoint", help="where, for example tcp:127.0.0.1:8001 or unix:/run/door")
    connect.add_argument(
        "--handshake", default="welcome", metavar="SPEC", help="NAME[:ARGS] (default: welcome)"
    )
    connect.add_argument("--send", metavar="BYTES", help="what the welcome handshake sends")
    connect.add_argument(
        "--delay", type=_delay, default=0.0, metavar="T", help="how long it thinks before that"
    )
    connect.add_argument(
        "--timeout",
        type=_time,
        default=10.0,
        metavar="T",
        help="how long connecting, and then the handshake without the delay, may take (10s)",
    )
    connect.set_defaults(run=_connect)
    return parser


def _time(text: str) -> float:
    try:
        return seconds(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _delay(text: str) -> float:
    return 0.0 if text in ("0", "off") else _time(text)


def _connect(options: argparse.Namespace) -> int:
    look_in_working_directory()
    blueprint = handshake_blueprint(options.handshake)
    if blueprint.exposed:
        _say("the secret stands on the command line; put it into a file or the environment")
    handshake: Any = blueprint.build()
    if not isinstance(handshake, Welcome):
        if options.send is not None or options.delay:
            raise ConfigurationError("--send and --delay belong to the welcome handshake")
        if not callable(getattr(handshake, "connect", None)):
            raise ConfigurationError(f"handshake {blueprint.name} has no client's side")
    return _run(handshake, options)


def _run(handshake: Any, options: argparse.Namespace) -> int:
    """Run the reactor until the exit status is known; a signal is the end of it, too."""
    from twisted.internet.task import react

    status = CUT_OFF

    async def run(reactor: Any) -> None:
        nonlocal status
        status = await _shake(reactor, handshake, options)

    _open_missing()
    blocking = os.get_blocking(0)
    try:
        with suppress(SystemExit):
            react(run)
    finally:
        # Whoever runs next in this shell has the same standard input.
        os.set_blocking(0, blocking)
    return status


def _open_missing() -> None:
    """Open what the shell has closed (``<&-``), or else a socket of ours would get its number."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


class _Lesson:
    """The client of the tutorial, which thinks, sends, and prints what it gets."""

    def __init__(self, reactor: Any, handshake: Welcome, send: str | None, delay: float) -> None:
        self._connect = partial(
            handshake.connect,
            send=None if send is None else os.fsencode(send),
            delay=partial(_sleep, reactor, delay) if delay else None,
        )

    async def connect(self, peer: Peer) -> Accept | Reject:
        outcome = await self._connect(peer)
        _print(outcome.result if isinstance(outcome, Accept) else outcome.reason.encode())
        return outcome


def _sleep(reactor: Any, duration: float) -> Deferred[None]:
    from twisted.internet.task import deferLater

    return deferLater(reactor, duration, lambda: None)


async def _shake(reactor: Any, handshake: Any, options: argparse.Namespace) -> int:
    """Connect, shake hands, and see the session to its end; gives the exit status."""
    from twisted.internet.endpoints import clientFromString
    from twisted.internet.protocol import Factory

    from sockproto.events import ConnectionOpened, Event
    from sockproto.limits import Limits
    from sockproto.sessions.relay import Relay
    from sockproto.transport.client import connect

    reached = False

    def note(event: Event) -> None:
        nonlocal reached
        reached = reached or isinstance(event, ConnectionOpened)

    def give_up() -> None:
        if not reached:
            connecting.cancel()

    try:
        endpoint = clientFromString(reactor, options.endpoint)
    except Exception as error:
        example = "write it like tcp:127.0.0.1:8001 or unix:/run/door"
        _say(f"{options.endpoint!r} is no endpoint ({_reason(error)}); {example}")
        return USAGE
    session: Any = Factory.forProtocol(partial(Relay, reactor=reactor))
    if isinstance(handshake, Welcome):
        handshake = _Lesson(reactor, handshake, options.send, options.delay)
        session = None
    connecting = connect(
        endpoint,
        handshake,
        session,
        limits=Limits(idle_timeout=inf, handshake_timeout=options.timeout + options.delay),
        observers=[note],
        clock=reactor,
    )
    timer = reactor.callLater(options.timeout, give_up)
    try:
        relay = await connecting
        if session is None or await relay.finished:
            return ACCEPTED
        _say(f"{options.endpoint}: the session was cut off")
        return CUT_OFF
    except Rejected as error:
        _say(printable(str(error)))
        return REJECTED
    except (PeerError, HandshakeFailed) as error:
        _say(f"{options.endpoint}: {printable(str(error))}")
        return CUT_OFF
    except Exception as error:
        late = f"no answer within {options.timeout:g} s"
        reason = late if not timer.active() else _reason(error)
        _say(f"cannot connect to {options.endpoint}: {reason}")
        return UNREACHABLE
    finally:
        if timer.active():
            timer.cancel()


def _reason(error: BaseException) -> str:
    """What went wrong, on one line; Twisted's connection errors say it in their last sentence."""
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__


def _print(reply: object) -> None:
    """Show what the server has said, on a line of its own."""
    if isinstance(reply, bytes) and reply and sys.stdout is not None:
        sys.stdout.buffer.write(reply if reply.endswith(b"\n") else reply + b"\n")
        sys.stdout.buffer.flush()


def _say(sentence: str) -> None:
    print(f"sockproto: {sentence}", file=sys.stderr)
