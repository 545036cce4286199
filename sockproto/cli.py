"""
The ``sockproto`` command: finds the command that is meant, and runs it.

A command is a module of :mod:`sockproto.commands`, named in the table below. It is imported when it
is asked for, so that none pays for another. Its ``configure(parser)`` says what it takes, and sets
``run``: a function of the options, which gives the exit status. If it raises a
:class:`~sockproto.core.errors.ConfigurationError`, that is told in one line, with status 2.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from errno import ENOSPC, EPIPE
from importlib import import_module
from typing import NoReturn

from sockproto._version import __version__
from sockproto.commands.line import USAGE, Parser, say
from sockproto.core.errors import ConfigurationError
from sockproto.service.escaping import escaped

UNTOLD = 1
"""The exit status if what was asked for could not be printed."""

COMMANDS = {
    "demo": "show a server and four clients at work",
    "connect": "connect to a server and shake hands",
    "token": "make tokens, say who has one, and take them back",
    "scram-user": "give passwords for the scram handshake",
    "keygen": "make a key for the challenge handshake",
    "explain": "say whether a server would let somebody in, and why",
    "conformance": "prove a handshake: cuts, floods, silence, garbage",
    "new-handshake": "begin a handshake of your own, as a package",
    "simulate": "look for a broken promise in thousands of servers in memory",
}
"""What each command does, in the order in which they are listed."""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command, and exit."""
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = _parser(next((each for each in arguments if not each.startswith("-")), None))
    options, surplus = parser.parse_known_args(arguments)
    if surplus:
        name = surplus[0].partition("=")[0]
        # Anything else is not repeated: it may be a secret, or the end of one with a blank in it.
        leftover = "something is left over; quote an argument with blanks"
        parser.error(f"{name} is no option" if name.startswith("-") else leftover)
    try:
        status = options.run(options)
        if sys.stdout is not None:
            # Here, and not when Python goes, where nobody could answer for it.
            sys.stdout.flush()
    except ConfigurationError as error:
        say(escaped(str(error)))
        status = USAGE
    except OSError as error:
        if error.errno not in (EPIPE, ENOSPC):
            raise
        status = UNTOLD
        _stop_printing()
        # Whoever has closed a pipe has seen enough: head(1) does.
        if error.errno != EPIPE:
            say(f"cannot write to standard output: {os.strerror(error.errno).lower()}")
    sys.exit(status)


def _stop_printing() -> None:
    """Let nothing more be printed; Python would try again when it goes."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def _parser(chosen: str | None) -> Parser:
    parser = Parser(
        prog="sockproto",
        description="Shake hands, and look after those who do.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"sockproto {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, summary in COMMANDS.items():
        command = commands.add_parser(name, help=summary, allow_abbrev=False)
        if name == chosen:
            module = import_module(f"sockproto.commands.{name.replace('-', '_')}")
            module.configure(command)
    return parser
