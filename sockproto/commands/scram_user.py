"""``sockproto scram-user`` gives passwords to those who may come in by the ``scram`` handshake."""

from __future__ import annotations

import secrets
import sys
import warnings
from argparse import ArgumentParser, Namespace
from getpass import GetPassWarning, getpass
from pathlib import Path
from typing import Any

from sockproto.commands.rewriting import rewrite
from sockproto.core.errors import ConfigurationError
from sockproto.handshakes._entries import MAX_NAME, is_name
from sockproto.handshakes._scram_users import (
    DEFAULT_ITERATIONS,
    MAX_ITERATIONS,
    MIN_ITERATIONS,
    SALT_BYTES,
    Verifier,
    parse_users,
    with_user,
)
from sockproto.handshakes.scram import library

DONE = 0


def configure(parser: ArgumentParser) -> None:
    """Say what the command takes."""
    parser.description = (
        "Give somebody a password, or another one, in the file of a server with --handshake "
        "scram:FILE. A running server reads it again by itself. The password is asked for, or "
        "read from a file; it is not kept."
    )
    parser.add_argument("name", metavar="NAME", help="whose, without blanks")
    parser.add_argument(
        "--file", type=Path, required=True, metavar="FILE", help="the server's file of users"
    )
    parser.add_argument(
        "--password-file",
        metavar="FILE",
        help="where the password is, - for standard input; one line ending is not part of it",
    )
    parser.add_argument(
        "--iterations",
        type=int,
        default=DEFAULT_ITERATIONS,
        metavar="N",
        help=f"how often a client has to hash it ({DEFAULT_ITERATIONS})",
    )
    parser.add_argument("--remove", action="store_true", help="take the user out of the file")
    parser.set_defaults(run=_change)


def _change(options: Namespace) -> int:
    scramp = library()
    name = _name(scramp, options.name)
    verifier = None
    if options.remove:
        if options.password_file is not None:
            raise ConfigurationError("--remove needs no password; leave --password-file out")
    else:
        if not MIN_ITERATIONS <= options.iterations <= MAX_ITERATIONS:
            raise ConfigurationError(
                f"--iterations takes {MIN_ITERATIONS} to {MAX_ITERATIONS}, got {options.iterations}"
            )
        verifier = _verifier(scramp, _password(options.password_file), options.iterations)

    def changed(text: str) -> str:
        try:
            known = parse_users(text.encode("utf-8"))
        except ValueError as error:
            raise ConfigurationError(f"{options.file}: {error}") from None
        if verifier is None and name not in known:
            raise ConfigurationError(f"{options.file} has no user {name!r}")
        return with_user(text, name, verifier)

    rewrite(options.file, changed, create=verifier is not None)
    return DONE


def _name(scramp: Any, text: str) -> str:
    """The name as the server will see it, however it was typed (SASLprep, RFC 4013)."""
    try:
        client = scramp.ScramClient(["SCRAM-SHA-256"], text, "sesame")
        name = str(client.username)
    except (scramp.ScramException, UnicodeEncodeError):
        name = ""
    if not name or not is_name(name):
        raise ConfigurationError(
            f"{text!r} is no name for a user; write 1 to {MAX_NAME} bytes without blanks, and no "
            "# at the beginning"
        )
    return name


def _password(file: str | None) -> str:
    try:
        if file is None:
            return _asked()
        data = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        said = (error.strerror or str(error)).lower()
        raise ConfigurationError(f"the password cannot be read from {file}: {said}") from error
    try:
        return data.removesuffix(b"\n").removesuffix(b"\r").decode("utf-8")
    except UnicodeDecodeError:
        raise ConfigurationError("the password is no text in UTF-8") from None


def _asked() -> str:
    try:
        with warnings.catch_warnings():
            # Where it cannot be typed unseen, it is not typed.
            warnings.simplefilter("error", GetPassWarning)
            password = getpass("Password: ")
            again = getpass("Again: ")
    except (GetPassWarning, EOFError, KeyboardInterrupt):
        raise ConfigurationError(
            "there is no password; type one at a terminal, or name a file: --password-file FILE"
        ) from None
    if password != again:
        raise ConfigurationError("the two passwords differ; nothing was changed")
    return password


def _verifier(scramp: Any, password: str, iterations: int) -> Verifier:
    if not password:
        raise ConfigurationError("the password is empty; choose another")
    salt = secrets.token_bytes(SALT_BYTES)
    try:
        mechanism = scramp.ScramMechanism("SCRAM-SHA-256")
        salt, stored, served, _ = mechanism.make_auth_info(password, iterations, salt)
    except scramp.ScramException:
        raise ConfigurationError(
            "the password holds what SASLprep forbids (RFC 4013), as are control characters; "
            "choose another"
        ) from None
    return Verifier(iterations, salt, stored, served)
