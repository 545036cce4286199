"""
``sockproto connect`` shakes hands with a server.

What the server says goes to standard output, what we say to standard error, and the exit status
tells how it went.
"""

from __future__ import annotations

import os
import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from contextlib import suppress
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Any

from sockproto.commands.line import USAGE, say, time
from sockproto.core.errors import (
    ConfigurationError,
    HandshakeFailed,
    PeerDisconnected,
    PeerError,
    Rejected,
)
from sockproto.core.outcomes import Accept, Reject
from sockproto.core.peer import Peer
from sockproto.handshakes.welcome import Welcome
from sockproto.plugins import chain_blueprint, look_in_working_directory
from sockproto.service.escaping import printable

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred

ACCEPTED, REJECTED, UNREACHABLE, CUT_OFF = 0, 1, 3, 4
"""The exit statuses, beside that of a mistake."""

_SHOW = "certificate=FILE:privateKey=FILE"
_SHOW_ANOTHER = f"show it another one with {_SHOW}"
_REFUSALS = {
    "certificate required": f"show it one with {_SHOW}",
    "unknown ca": f"it does not know who issued our certificate; {_SHOW_ANOTHER}",
    "bad certificate": f"it does not accept our certificate; {_SHOW_ANOTHER}",
    "unsupported certificate": f"it cannot use our certificate; {_SHOW_ANOTHER}",
    "certificate revoked": f"our certificate was revoked; {_SHOW_ANOTHER}",
    "certificate expired": f"our certificate has expired; {_SHOW_ANOTHER}",
    "certificate unknown": f"it does not accept our certificate; {_SHOW_ANOTHER}",
    "access denied": f"it does not want whom our certificate names; {_SHOW_ANOTHER}",
    # What is said instead of "certificate required" over TLS 1.2.
    "handshake failure": f"if it wants a certificate, show it one with {_SHOW}",
}
"""What to do about an alert (RFC 8446 section 6.2) by which a server refuses us."""

_FAULTS = {
    "certificate verify failed": "trust its issuer with trustRoots=FOLDER",
    "wrong version number": "it may not speak TLS",
}
"""What to do where it is we who do not go on."""


def configure(parser: ArgumentParser) -> None:
    """Say what the command takes."""
    parser.description = (
        "Connect to a server and shake hands. The server's reply is printed; if a session "
        "follows, it is joined to standard input and output."
    )
    parser.epilog = (
        "Exit status: 0 accepted, 1 rejected, 2 usage, 3 cannot connect, 4 timed out or cut off."
    )
    parser.add_argument(
        "endpoint",
        help="where, for example tcp:127.0.0.1:8001 or unix:/run/door; "
        "udp:HOST:PORT or unixgram:PATH for datagrams",
    )
    parser.add_argument(
        "--handshake",
        action="append",
        metavar="SPEC",
        help="NAME[:ARGS]; again, for one after the other (default: welcome)",
    )
    parser.add_argument("--send", metavar="BYTES", help="what the welcome handshake sends")
    parser.add_argument(
        "--delay", type=_delay, default=0.0, metavar="T", help="how long it thinks before that"
    )
    parser.add_argument(
        "--timeout",
        type=time,
        default=10.0,
        metavar="T",
        help="how long connecting, and then the handshake without the delay, may take (10s)",
    )
    parser.add_argument(
        "--retries",
        type=_count,
        default=3,
        metavar="N",
        help="over datagrams, how often it asks again without an answer (3)",
    )
    parser.set_defaults(run=_connect)


def _delay(text: str) -> float:
    return 0.0 if text in ("0", "off") else time(text)


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise ArgumentTypeError(f"{text!r} is not a whole number, 0 or above")
    return int(text)


def _connect(options: Namespace) -> int:
    look_in_working_directory()
    blueprint = chain_blueprint(options.handshake or ["welcome"])
    if blueprint.exposed:
        say("the secret stands on the command line; put it into a file or the environment")
    handshake: Any = blueprint.build()
    if not isinstance(handshake, Welcome):
        if options.send is not None or options.delay:
            raise ConfigurationError("--send and --delay belong to the welcome handshake")
        if not callable(getattr(handshake, "connect", None)):
            raise ConfigurationError(f"handshake {blueprint.name} has no client's side")
    return _run(handshake, options)


def _run(handshake: Any, options: Namespace) -> int:
    """Run the reactor until the exit status is known; a signal is the end of it, too."""
    from twisted.internet.task import react

    status, over = CUT_OFF, False

    def interrupted() -> None:
        nonlocal over
        if not over:
            over = True
            say("interrupted")

    async def run(reactor: Any) -> None:
        nonlocal status, over
        reactor.addSystemEventTrigger("before", "shutdown", interrupted)
        shake = _ask if is_for_datagrams(options.endpoint) else _shake
        reached, sentence = await shake(reactor, handshake, options)
        # After a signal, what is said of the connection tells of our own doing.
        if not over:
            status, over = reached, True
            if sentence:
                say(sentence)

    from sockproto.transport.descriptions import is_for_datagrams

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
    """The client of the tutorial, which thinks, sends, and brings back what it gets."""

    def __init__(self, reactor: Any, handshake: Welcome, send: str | None, delay: float) -> None:
        self._connect = partial(
            handshake.connect,
            send=None if send is None else os.fsencode(send),
            delay=partial(_sleep, reactor, delay) if delay else None,
        )

    async def connect(self, peer: Peer) -> Accept | Reject:
        return await self._connect(peer)


def _sleep(reactor: Any, duration: float) -> Deferred[None]:
    from twisted.internet.task import deferLater

    return deferLater(reactor, duration, lambda: None)


async def _shake(reactor: Any, handshake: Any, options: Namespace) -> tuple[int, str | None]:
    """Connect, shake hands, and see the session to its end; gives the status, and why it is so."""
    from twisted.internet.endpoints import clientFromString
    from twisted.internet.protocol import Factory

    from sockproto.events import ConnectionOpened, Event
    from sockproto.limits import Limits
    from sockproto.sessions.relay import Relay
    from sockproto.transport.client import connect
    from sockproto.transport.descriptions import refuse_long_path

    reached = False

    def note(event: Event) -> None:
        nonlocal reached
        reached = reached or isinstance(event, ConnectionOpened)

    def give_up() -> None:
        if not reached:
            connecting.cancel()

    try:
        refuse_long_path(options.endpoint)
        endpoint = clientFromString(reactor, options.endpoint)
    except Exception as error:
        example = "write it like tcp:127.0.0.1:8001 or unix:/run/door"
        return USAGE, f"{options.endpoint!r} is no endpoint ({_reason(error)}); {example}"
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
        made = await connecting
        if session is None:
            unprinted = _print(made.result)
            return (CUT_OFF if unprinted else ACCEPTED), unprinted
        if await made.finished:
            return ACCEPTED, None
        refusal = _refusal(made.broken_by)
        if refusal is not None:
            return UNREACHABLE, f"cannot connect to {options.endpoint}: {refusal}"
        return CUT_OFF, f"{options.endpoint}: the session was cut off"
    except Rejected as error:
        if session is None:
            _print(error.reason.encode())
        return REJECTED, printable(str(error))
    except (PeerError, HandshakeFailed) as error:
        refusal = _refusal(error.__cause__) if isinstance(error, PeerDisconnected) else None
        if refusal is not None:
            return UNREACHABLE, f"cannot connect to {options.endpoint}: {refusal}"
        return CUT_OFF, f"{options.endpoint}: {printable(str(error))}"
    except Exception as error:
        late = f"no answer within {options.timeout:g} s"
        reason = late if not timer.active() else _reason(error)
        return UNREACHABLE, f"cannot connect to {options.endpoint}: {reason}"
    finally:
        if timer.active():
            timer.cancel()


async def _ask(reactor: Any, handshake: Any, options: Namespace) -> tuple[int, str | None]:
    """The same over datagrams, where no session follows."""
    from sockproto.limits import Limits
    from sockproto.transport.datagram_client import ask

    lesson = isinstance(handshake, Welcome)
    if lesson:
        handshake = _Lesson(reactor, handshake, options.send, options.delay)
    try:
        accept: Any = await ask(
            reactor,
            options.endpoint,
            handshake,
            retries=options.retries,
            limits=Limits(handshake_timeout=options.timeout + options.delay),
        )
        unprinted = _print(accept.result) if lesson else None
        return (CUT_OFF if unprinted else ACCEPTED), unprinted
    except Rejected as error:
        if lesson:
            _print(error.reason.encode())
        return REJECTED, printable(str(error))
    except (PeerError, HandshakeFailed) as error:
        return CUT_OFF, f"{options.endpoint}: {printable(str(error))}"
    except ConfigurationError as error:
        return USAGE, str(error)
    except Exception as error:
        return UNREACHABLE, f"cannot connect to {options.endpoint}: {_reason(error)}"


def _refusal(error: BaseException | None) -> str | None:
    """The alert by which a server has refused us, and what to do; None if it did not."""
    from sockproto.transport.tls import alert_of, said_by_tls

    alert = alert_of(said_by_tls(error) or "")
    if alert not in _REFUSALS:
        return None
    return f"the server ended TLS with the alert {alert!r}; {_REFUSALS[alert]}"


def _reason(error: BaseException) -> str:
    """What went wrong, on one line; and what to do, where TLS says it."""
    from sockproto.transport.reasons import in_one_line
    from sockproto.transport.tls import said_by_tls

    said = said_by_tls(error)
    if said is not None:
        advice = f"; {_FAULTS[said]}" if said in _FAULTS else ""
        return _refusal(error) or f"TLS failed: {said}{advice}"
    return in_one_line(error)


def _print(reply: bytes) -> str | None:
    """Show what the server has said, on a line of its own; gives why not, if it cannot."""
    if not reply or sys.stdout is None:
        return None
    try:
        sys.stdout.buffer.write(reply if reply.endswith(b"\n") else reply + b"\n")
        sys.stdout.buffer.flush()
    except OSError as error:
        return f"cannot write the reply to standard output: {error.strerror}"
    return None
