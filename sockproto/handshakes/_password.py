"""Where a client's password comes from: the command line, a file, or the environment."""

from __future__ import annotations

import os
from pathlib import Path

from sockproto.core.errors import ConfigurationError


def password_from(
    who: str, what: str, word: bytes | None, file: Path | None, env: str | None
) -> bytes:
    """
    Find a secret in the one place where it is.

    Args:
        who: The handshake, for messages.
        what: What it is called there: ``password``, of which the keywords are made.
        word: The secret itself.
        file: A file that holds it; one line ending at its end is not part of it.
        env: An environment variable that holds it.

    Raises:
        ConfigurationError: Unless exactly one of the three is given, and there is something.
    """
    if sum(source is not None for source in (word, file, env)) != 1:
        raise ConfigurationError(f"{who} needs one of {what}=TEXT, {what}_file=PATH or env=NAME")
    if file is not None:
        try:
            word = file.read_bytes().removesuffix(b"\n").removesuffix(b"\r")
        except OSError as error:
            said = (error.strerror or str(error)).lower()
            raise ConfigurationError(f"{who} cannot read {file}: {said}") from error
    elif env is not None:
        word = os.environb.get(env.encode())
        if word is None:
            raise ConfigurationError(f"{who} finds no variable {env} in the environment")
    if not word:
        raise ConfigurationError(f"{who} finds an empty {what}, which nobody has")
    return word
