"""
``sockproto conformance`` proves a handshake, built in or anybody's.

A line for each check goes to standard output, and below the table what was found, each with the
bytes that show it and with the command that shows it again.
"""

from __future__ import annotations

import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from inspect import signature
from pathlib import Path
from typing import Any

from sockproto.commands.line import say
from sockproto.core.errors import ConfigurationError
from sockproto.core.facts import TlsFacts
from sockproto.plugins import handshake_blueprint, look_in_working_directory
from sockproto.signatures import Signature

CONFORMS, FAILS = 0, 1
"""The exit statuses, beside that of a mistake."""


def configure(parser: ArgumentParser) -> None:
    """Say what the command takes."""
    parser.description = (
        "Check a handshake: every cut, every truncation, silence, floods, garbage, and whatever "
        "else a network and a stranger can do. Nothing is sent anywhere, and no port is opened."
    )
    parser.epilog = (
        "Exit status: 0 nothing has failed, 1 a check has failed (--strict: or is WEAK), 2 usage."
    )
    parser.add_argument(
        "handshake",
        nargs="?",
        metavar="SPEC",
        help="NAME[:ARGS] or module:attribute[:ARGS]",
    )
    parser.add_argument(
        "--client", metavar="SPEC", help="has the client's side, if that takes other arguments"
    )
    parser.add_argument(
        "--conversation",
        type=Path,
        metavar="FILE",
        help="what is said where a side is missing: lines like client 73 65 73 0a",
    )
    parser.add_argument(
        "--tls",
        nargs="?",
        const="",
        metavar="NAME,...",
        help="both sides are told that TLS is established, and the names in the certificate",
    )
    parser.add_argument(
        "--sessions", metavar="NAME,...", default="", help="the names of the sessions on offer"
    )
    parser.add_argument(
        "--only", action="append", default=[], metavar="CHECK", help="run this check; repeatable"
    )
    parser.add_argument("--seed", type=_count, metavar="N", help="run this case of each check")
    parser.add_argument(
        "--cases", type=_count, metavar="N", help="how many seeds a random check tries"
    )
    parser.add_argument("--strict", action="store_true", help="WEAK is a failure, too")
    parser.add_argument("--junit", type=Path, metavar="FILE", help="write the report as JUnit XML")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write the report as a page")
    parser.add_argument("--list", action="store_true", help="list the checks")
    parser.set_defaults(run=_conformance)


def _count(text: str) -> int:
    if not text.isdecimal():
        raise ArgumentTypeError(f"{text!r} is no whole number")
    return int(text)


def _conformance(options: Namespace) -> int:
    from sockproto.testing.conformance.examine import CHECKS, conform
    from sockproto.testing.conformance.files import html, junit
    from sockproto.testing.conformance.terminal import Terminal, wants_colour

    if options.list:
        for each in CHECKS:
            print(f"{each.group}: {each.name}\n    {each.promise}")
        return CONFORMS
    if options.handshake is None:
        raise ConfigurationError("conformance needs a handshake; write sockproto conformance SPEC")
    known = {each.name for each in CHECKS}
    for name in options.only:
        if name not in known:
            raise ConfigurationError(f"there is no check {name!r}; list them with --list")
    look_in_working_directory()
    handshake, secrets, shown, name = _make(options.handshake)
    client: Any = None
    if options.client is not None:
        client, more, shown_client, _ = _make(options.client)
        secrets += more
        shown += f" --client {shown_client}"
    terminal = Terminal(sys.stdout, colour=wants_colour(sys.stdout))
    report = conform(
        handshake,
        client=client,
        conversation=_read_script(options.conversation),
        tls=_tls(options.tls),
        sessions=_names(options.sessions),
        secrets=secrets,
        only=options.only,
        seed=options.seed,
        cases=options.cases,
        spec=name,
        command=f"sockproto conformance {shown}{_repeated(options)}",
        told=terminal.tell,
    )
    terminal.conclude(report)
    for path, text in (
        (options.junit, lambda: junit(report, strict=options.strict)),
        (options.html, lambda: html(report)),
    ):
        if path is not None:
            _write(path, text())
    return FAILS if report.failed or (options.strict and report.weak) else CONFORMS


def _make(text: str) -> tuple[Any, tuple[bytes, ...], str, str]:
    """A handshake, the secrets that its string holds, and how to show and to call it."""
    blueprint = handshake_blueprint(text)
    handshake: Any = blueprint.build()
    shown = f"{blueprint.name}:..." if blueprint.exposed else text
    secrets = _secrets(blueprint.name, blueprint.exposed, text, type(handshake))
    return handshake, secrets, shown, blueprint.name


def _secrets(name: str, exposed: tuple[str, ...], text: str, kind: type) -> tuple[bytes, ...]:
    """The secrets that a string holds, so that the checks know what nobody should be shown."""
    if not exposed:
        return ()
    try:
        read = Signature("handshake", name, kind).read(text.removeprefix(f"{name}:"))
        given = signature(kind).bind_partial(*read.args, **read.kwargs).arguments
    except (ConfigurationError, TypeError, ValueError):
        # It was made by a function, whose arguments are not those of what it makes.
        return ()
    values = (given.get(each) for each in exposed)
    return tuple(each.encode() if isinstance(each, str) else each for each in values if each)


def _repeated(options: Namespace) -> str:
    """The options that change what a case is, for the command that shows it again."""
    repeated = ""
    if options.conversation is not None:
        repeated += f" --conversation {options.conversation}"
    if options.tls is not None:
        repeated += f" --tls={options.tls}" if options.tls else " --tls"
    if options.sessions:
        repeated += f" --sessions {options.sessions}"
    if options.cases is not None:
        repeated += f" --cases {options.cases}"
    return repeated


def _names(text: str) -> tuple[str, ...]:
    return tuple(each for each in text.split(",") if each)


def _tls(text: str | None) -> TlsFacts | None:
    if text is None:
        return None
    names = _names(text)
    # Any bytes will do: what is bound to a certificate has to be the same on both sides.
    return TlsFacts(None, names, b"certificate" if names else None, b"end point" * 4)


def _read_script(path: Path | None) -> Any:
    from sockproto.testing.conformance.learned import script_from_hex

    if path is None:
        return ()
    try:
        return script_from_hex(path.read_text())
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError:
        raise ConfigurationError(f"{path} is no text") from None


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text)
    except OSError as error:
        raise ConfigurationError(f"cannot write {path}: {error.strerror}") from error
    say(f"wrote {path}")
