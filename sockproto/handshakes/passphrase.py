"""
A shared word, compared in constant time.

Wire format: the client sends the word and a line feed. The server answers ``OK`` and a line feed,
and the session begins with the next byte; or it answers ``NO`` and a line feed, and closes. A word
is at most 1024 bytes and has no line feed in it. The word crosses the network as it is: over
anything but loopback, a unix socket or TLS, whoever listens in learns it.
"""

from __future__ import annotations

import os
from hmac import compare_digest
from pathlib import Path

from sockproto.core.arguments import Secret
from sockproto.core.errors import ConfigurationError
from sockproto.core.outcomes import Accept, Reject
from sockproto.core.peer import Peer

MAX_WORD = 1024

GRANTED = b"OK\n"
DENIED = b"NO\n"


class Passphrase:
    """
    Accept whoever knows the word.

    Args:
        word: The word itself.
        file: A file that holds it; one line ending at its end is not part of it.
        env: An environment variable that holds it.

    Raises:
        ConfigurationError: Unless exactly one of the three is given, and holds a usable word.
    """

    def __init__(
        self, word: Secret | None = None, file: Path | None = None, env: str | None = None
    ) -> None:
        if sum(source is not None for source in (word, file, env)) != 1:
            raise ConfigurationError("passphrase needs one of a word, file=PATH or env=NAME")
        if file is not None:
            word = _read(file)
        elif env is not None:
            word = _look_up(env)
        assert word is not None
        if not word or b"\n" in word or len(word) > MAX_WORD:
            raise ConfigurationError(
                f"passphrase needs a word of 1 to {MAX_WORD} bytes without a line feed, "
                f"got {len(word)} bytes"
            )
        self._word = word

    async def serve(self, peer: Peer) -> Accept | Reject:
        """Receive a word, and say whether it is the right one; never how wrong it is."""
        word = await peer.receive_until(b"\n", max_bytes=MAX_WORD)
        if compare_digest(word, self._word):
            return Accept(GRANTED)
        return Reject(DENIED, reason="wrong word")

    async def connect(self, peer: Peer) -> Accept | Reject:
        """Send the word and see whether the server takes it."""
        peer.send(self._word + b"\n")
        if await peer.expect(GRANTED):
            return Accept()
        if await peer.expect(DENIED):
            return Reject(reason="wrong word")
        return Reject(reason="that is not a passphrase server")


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes().removesuffix(b"\n").removesuffix(b"\r")
    except OSError as error:
        raise ConfigurationError(f"passphrase cannot read {file}: {error.strerror}") from error


def _look_up(name: str) -> bytes:
    value = os.environb.get(name.encode())
    if value is None:
        raise ConfigurationError(f"passphrase finds no variable {name} in the environment")
    return value
