"""``sockproto keygen`` makes a key for the challenge handshake."""

from __future__ import annotations

import os
import re
from argparse import ArgumentParser, Namespace
from datetime import UTC, datetime
from pathlib import Path

from sockproto.commands.line import say
from sockproto.commands.rewriting import rewrite
from sockproto.core.errors import ConfigurationError
from sockproto.handshakes._entries import MAX_NAME, is_name
from sockproto.handshakes._keys import entry_for, keys_of

KEY_BYTES = 32
"""As many as SHA-256 gives; more add nothing (RFC 2104 section 3)."""

_HEADER = "# Keys of the challenge handshake: ID BASE64. Clients use the first, servers take all.\n"


def configure(parser: ArgumentParser) -> None:
    """Say what the command takes."""
    parser.description = (
        "Make a key for --handshake challenge:file=FILE, and print its line; with --file, put it "
        "at the head of the keys there, which makes it the one that clients use."
    )
    parser.add_argument("--id", metavar="ID", help="what to call it (default: today's date, UTC)")
    parser.add_argument("--file", type=Path, metavar="FILE", help="the file of keys")
    parser.set_defaults(run=run)


def run(options: Namespace) -> int:
    """Make a key."""
    id = datetime.now(UTC).date().isoformat() if options.id is None else options.id
    if not is_name(id):
        raise ConfigurationError(
            f"{id!r} is no id for a key; write 1 to {MAX_NAME} bytes without blanks, and no # at "
            "the beginning"
        )
    entry = f"{entry_for(id, os.urandom(KEY_BYTES))}\n"
    if options.file is None:
        try:
            print(entry, end="", flush=True)
        except OSError as error:
            said = (error.strerror or str(error)).lower()
            raise ConfigurationError(f"the key cannot be printed: {said}") from error
        return 0

    def with_entry(text: str) -> str:
        try:
            known = keys_of(text.encode("utf-8"))
        except ValueError as error:
            raise ConfigurationError(f"{options.file}: {error}") from None
        if id in known:
            raise ConfigurationError(
                f"{options.file} has a key {id}; give this one another name with --id"
            )
        # Behind the comments that the file begins with.
        head = re.match(r"(?:[ \t]*(?:#.*)?\n)*", text)
        assert head is not None
        return f"{head[0] or _HEADER}{entry}{text[head.end() :]}"

    rewrite(options.file, with_entry, create=True)
    say(f"{options.file} begins with key {id}; servers need it before clients use it")
    return 0
