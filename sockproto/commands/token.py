"""``sockproto token`` makes tokens, says who has one, and takes them back."""

from __future__ import annotations

import re
import secrets
from argparse import ArgumentParser, Namespace
from pathlib import Path

from sockproto.commands.line import say
from sockproto.commands.rewriting import rewrite
from sockproto.core.errors import ConfigurationError
from sockproto.handshakes._entries import MAX_NAME, is_name
from sockproto.handshakes._watched import WatchedFile
from sockproto.handshakes.token import entry_for, parse_tokens

TOKEN_BYTES = 32
"""Of randomness: 256 bits, which nobody guesses."""

DONE, UNTOLD = 0, 1
"""The exit statuses, beside that of a mistake."""

_HEADER = "# Who may come in: NAME sha256:DIGEST, written by sockproto token.\n"


def configure(parser: ArgumentParser) -> None:
    """Say what the command takes."""
    parser.description = (
        "Look after the file of a server with --handshake token:file=FILE. A running server reads "
        "it again by itself."
    )
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    for name, summary, run in (
        ("add", "make a token for somebody; it is printed, once", _add),
        ("list", "say who has a token", _list),
        ("revoke", "let the token of somebody be worth nothing", _revoke),
    ):
        action = actions.add_parser(name, help=summary, description=summary, allow_abbrev=False)
        if name != "list":
            action.add_argument("name", metavar="NAME", help="whose, without blanks")
        action.add_argument(
            "--file", type=Path, required=True, metavar="FILE", help="the server's file of digests"
        )
        action.set_defaults(run=run)


def _add(options: Namespace) -> int:
    name, file = options.name, options.file
    if not is_name(name):
        raise ConfigurationError(
            f"{name!r} is no name for a token; write 1 to {MAX_NAME} bytes without blanks, and no "
            "# at the beginning"
        )
    token = secrets.token_urlsafe(TOKEN_BYTES)

    def with_entry(text: str) -> str:
        if name in _names(file, text):
            raise ConfigurationError(
                f"{file} has a token for {name}; revoke it first, or choose another name"
            )
        end = "" if text.endswith("\n") or not text else "\n"
        return f"{text or _HEADER}{end}{entry_for(name, token.encode())}\n"

    rewrite(file, with_entry, create=True)
    try:
        print(token, flush=True)
    except OSError as error:
        said = (error.strerror or str(error)).lower()
        say(f"the token of {name} could not be printed ({said}); revoke it, and make another")
        return UNTOLD
    return DONE


def _list(options: Namespace) -> int:
    for name in WatchedFile(options.file, parse_tokens).current().values():
        print(name)
    return DONE


def _revoke(options: Namespace) -> int:
    name, file = options.name, options.file

    def without_entries(text: str) -> str:
        if name not in _names(file, text):
            raise ConfigurationError(
                f"{file} has no token for {name!r}; see sockproto token list --file {file}"
            )
        lines = re.split(r"(?<=\n)", text)
        return "".join(line for line in lines if line.split()[:1] != [name])

    rewrite(file, without_entries)
    return DONE


def _names(file: Path, text: str) -> set[str]:
    try:
        return set(parse_tokens(text.encode("utf-8")).values())
    except ValueError as error:
        raise ConfigurationError(f"{file}: {error}") from None
