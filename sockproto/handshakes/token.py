"""
A token for everybody who may come in, of which the server keeps no more than a hash.

Wire format: the client sends its token and a line feed. The server answers ``OK`` and a line feed,
and the session begins with the next byte; or it answers ``NO`` and a line feed, and closes. A token
is at most 1024 bytes and has no line feed in it. With ``size`` it has exactly so many bytes, any
bytes, and no line feed follows. The token crosses the network as it is: over anything but loopback,
a unix socket or TLS, whoever listens in learns it, and :mod:`~sockproto.handshakes.challenge` is
the handshake that does not have that weakness.

The file of a server has a line ``NAME sha256:HEX`` for each token, with the SHA-256 digest of the
token's bytes. It is no secret as long as the tokens are random: nobody finds 256 bits from their
digest. A digest without salt is all that it takes, and what finds an entry without trying all.

That search is not in constant time in every sense, and need not be. What it takes depends on the
digest of what the peer has sent, as a table keyed anew in each process sees it, and so on bits that
the peer cannot choose and whose meaning it does not know. A token that is right but for one byte
has a digest like any other. There is nothing to approach step by step, as there is in a comparison
that stops at the first byte that differs.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

from sockproto.core.arguments import Secret
from sockproto.core.errors import ConfigurationError
from sockproto.core.outcomes import Accept, Reject
from sockproto.core.peer import Peer
from sockproto.handshakes._entries import entries_of
from sockproto.handshakes._watched import WatchedFile

MAX_TOKEN = 1024

GRANTED = b"OK\n"
DENIED = b"NO\n"

UNKNOWN = "unknown token"

_DIGEST = re.compile(r"sha256:([0-9a-fA-F]{64})")

_UNKNOWN = Reject(DENIED, reason=UNKNOWN)


class Token:
    """
    Accept whoever has a token; its name says who that is.

    A server needs ``file``; a client one of ``token``, ``token_file`` and ``env``.

    Args:
        token: The client's token itself.
        file: The server's file of digests, as ``sockproto token`` writes it; read again when it
            changes, and if that makes no sense, what it said before still holds.
        token_file: A file that holds the client's token; one line ending at its end is not part
            of it.
        env: An environment variable that holds it.
        size: How many bytes a token has, for peers that send no line feed.

    Raises:
        ConfigurationError: If what is given does not make up a side, or makes no sense.
    """

    def __init__(
        self,
        token: Secret | None = None,
        *,
        file: Path | None = None,
        token_file: Path | None = None,
        env: str | None = None,
        size: int | None = None,
    ) -> None:
        given = sum(source is not None for source in (token, token_file, env))
        if given > 1 or not (given or file):
            raise ConfigurationError(
                "token needs file=PATH to serve, or to connect one of a token, "
                "token_file=PATH or env=NAME"
            )
        if size is not None and not 0 < size <= MAX_TOKEN:
            raise ConfigurationError(f"token takes a size of 1 to {MAX_TOKEN} bytes, got {size}")
        if token_file is not None:
            token = _read(token_file, size)
        elif env is not None:
            token = _look_up(env)
        if token is not None:
            _insist_on_usable(token, size)
        self._token, self._size = token, size
        self._names = None if file is None else WatchedFile(file, parse_tokens)
        # Whoever starts a server without a file is told then, and not by its first client.
        if file is None:
            self.serve = None  # type: ignore[method-assign, assignment]
        if token is None:
            self.connect = None  # type: ignore[method-assign, assignment]

    async def serve(self, peer: Peer) -> Accept | Reject:
        """Receive a token, and say whether anybody has it."""
        if self._size is None:
            token = await peer.receive_until(b"\n", max_bytes=MAX_TOKEN)
        else:
            token = await peer.receive_exactly(self._size)
        assert self._names is not None
        name = self._names.current().get(sha256(token).digest())
        if name is not None:
            return Accept(GRANTED, identity=name)
        if self._names.trouble is None:
            return _UNKNOWN
        return Reject(DENIED, reason=f"{UNKNOWN} ({self._names.trouble})")

    async def connect(self, peer: Peer) -> Accept | Reject:
        """Send the token and see whether the server knows it."""
        assert self._token is not None
        peer.send(self._token if self._size else self._token + b"\n")
        if await peer.expect(GRANTED):
            return Accept()
        if await peer.expect(DENIED):
            return Reject(
                reason="the server does not know this token, or it was revoked; have one made "
                "with: sockproto token add"
            )
        return Reject(reason="that is not a token server")


def parse_tokens(data: bytes) -> Mapping[bytes, str]:
    """
    Read a file of digests: from a digest to the name of whom it lets in.

    A name may have more than one token, so that the old one may last until the new one has arrived.

    Raises:
        ValueError: If there is something else in it.
    """
    remedy = "write it with: sockproto token add NAME --file FILE"
    names: dict[bytes, str] = {}
    for number, name, value in entries_of(data, remedy):
        found = _DIGEST.fullmatch(value)
        if found is None:
            # It may be a token, put there by somebody who took this for the client's file.
            raise ValueError(f"line {number} has no sha256: and 64 hexadecimal digits; {remedy}")
        digest = bytes.fromhex(found[1])
        if digest in names:
            raise ValueError(f"line {number} has the token of a line above; keep one of the two")
        names[digest] = name
    return names


def entry_for(name: str, token: bytes) -> str:
    """The line that lets in whoever has the token."""
    return f"{name} sha256:{sha256(token).hexdigest()}"


def _insist_on_usable(token: bytes, size: int | None) -> None:
    if size is not None:
        if len(token) != size:
            raise ConfigurationError(
                f"token needs one of {size} bytes, as size= says, got {len(token)} bytes"
            )
    elif not token or b"\n" in token or len(token) > MAX_TOKEN:
        raise ConfigurationError(
            f"token needs one of 1 to {MAX_TOKEN} bytes without a line feed, got {len(token)} bytes"
        )


def _read(file: Path, size: int | None) -> bytes:
    try:
        data = file.read_bytes()
    except OSError as error:
        said = (error.strerror or str(error)).lower()
        raise ConfigurationError(f"token cannot read {file}: {said}") from error
    # One that may hold any bytes may end in those of a line ending.
    return data if len(data) == size else data.removesuffix(b"\n").removesuffix(b"\r")


def _look_up(name: str) -> bytes:
    value = os.environb.get(name.encode())
    if value is None:
        raise ConfigurationError(f"token finds no variable {name} in the environment")
    return value
