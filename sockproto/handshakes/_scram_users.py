"""
The users of ``scram``: what a server keeps of a password, to see whether a client knows it.

An entry is a name and, after a blank, what RFC 5803 and PostgreSQL make of a password::

    ann SCRAM-SHA-256$15000:c2FsdHNhbHRzYWx0c2E=$<StoredKey>:<ServerKey>

One comment matters, ``# strangers:`` and a random key. From that key everything is made that a
server has to show of somebody it does not know, so that a stranger looks the same tomorrow, and no
different from a user. Without such a line a new key is made each time, and whoever asks for the
same name before and after can tell.
"""

from __future__ import annotations

import hashlib
import os
import re
from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field

from sockproto.handshakes._entries import entries_of

DEFAULT_ITERATIONS = 15_000
"""What RFC 7677 section 4 arrives at, where it demands 4096."""

MIN_ITERATIONS = 4096
MAX_ITERATIONS = 500_000
"""How often a client lets itself be told to hash: a server must not stop it for seconds."""

SALT_BYTES = 16
MIN_SALT_BYTES = 12
"""RFC 5802 knows no bound; the library for the messages refuses anything shorter."""

KEY_BYTES = 32
"""Of SHA-256, and thus of StoredKey, ServerKey and the key for strangers."""

_STRANGERS = "# strangers: "
_VERIFIER = re.compile(r"SCRAM-SHA-256\$(\d{1,9}):([^$:]+)\$([^$:]+):([^$:]+)")
_REMEDY = "write it with: sockproto scram-user NAME --file FILE"


@dataclass(frozen=True, slots=True)
class Verifier:
    """What is kept of a password. Nobody can log in with it, but StoredKey may be guessed at."""

    iterations: int
    salt: bytes = field(repr=False)
    stored_key: bytes = field(repr=False)
    server_key: bytes = field(repr=False)

    @property
    def shape(self) -> tuple[int, int]:
        """What a stranger sees of it beside the salt: iterations, and the length of the salt."""
        return self.iterations, len(self.salt)

    def __str__(self) -> str:
        salt, stored, served = map(_text, (self.salt, self.stored_key, self.server_key))
        return f"SCRAM-SHA-256${self.iterations}:{salt}${stored}:{served}"


class Users:
    """
    Who may come in, and what to show to anybody else.

    Args:
        known: The users.
        strangers: The key from which strangers are made; a new one unless given.
    """

    def __init__(self, known: Mapping[str, Verifier], strangers: bytes | None = None) -> None:
        self._known = known
        self._strangers = strangers or os.urandom(KEY_BYTES)
        shapes = {each.shape for each in known.values()}
        self._shapes = sorted(shapes) or [(DEFAULT_ITERATIONS, SALT_BYTES)]

    def __contains__(self, name: str) -> bool:
        return name in self._known

    def look_up(self, name: str) -> Verifier:
        """What to show to whoever says that he is ``name``: it costs the same for everybody."""
        stranger = self._stranger(name)
        return self._known.get(name, stranger)

    def _stranger(self, name: str) -> Verifier:
        # Of the shapes that there are, the one with the smallest digest: no other is chosen as
        # long as a user has this one, whoever comes and goes.
        iterations, size = min(
            self._shapes, key=lambda shape: self._digest(f"{shape} {name}", KEY_BYTES)
        )
        made = self._digest(name, size + 2 * KEY_BYTES)
        return Verifier(iterations, made[:size], made[size:-KEY_BYTES], made[-KEY_BYTES:])

    def _digest(self, text: str, size: int) -> bytes:
        # A key of a fixed length in front is what makes this a MAC (FIPS 202 appendix A.2).
        return hashlib.shake_256(self._strangers + text.encode()).digest(size)


def parse_users(data: bytes) -> Users:
    """
    Read a file of users.

    Raises:
        ValueError: If there is something else in it; names the line, and shows nothing of it.
    """
    known: dict[str, Verifier] = {}
    for number, name, value in entries_of(data, _REMEDY):
        if name in known:
            raise ValueError(f"line {number} names a user again; keep one of the two")
        known[name] = _verifier(value, number)
    strangers = None
    for number, line in enumerate(data.decode("utf-8").split("\n"), 1):
        if line.startswith(_STRANGERS):
            strangers = _key(line.removeprefix(_STRANGERS), number)
    return Users(known, strangers)


def with_user(text: str, name: str, verifier: Verifier | None) -> str:
    """
    A file of users in which this user has this verifier, or, with None, is no user.

    Whatever else stands in it stays where it is. A key for strangers is added if there is none.
    """
    lines = text.splitlines()
    kept: list[str] = []
    fresh = [] if verifier is None else [f"{name} {verifier}"]
    for line in lines:
        if line.split()[:1] != [name]:
            kept.append(line)
        else:
            kept += fresh
            fresh = []
    if not any(line.startswith(_STRANGERS) for line in lines):
        kept.insert(0, f"{_STRANGERS}{_text(os.urandom(KEY_BYTES))}")
    return "".join(f"{line}\n" for line in kept + fresh)


def _verifier(value: str, number: int) -> Verifier:
    found = _VERIFIER.fullmatch(value)
    trouble = f"line {number} has no SCRAM-SHA-256$...; {_REMEDY}"
    if found is None:
        raise ValueError(trouble)
    iterations, *parts = found.groups()
    try:
        salt, stored, served = (b64decode(each, validate=True) for each in parts)
    except ValueError:
        # Not chained: it may show what stands there.
        raise ValueError(trouble) from None
    if len(stored) != KEY_BYTES or len(served) != KEY_BYTES:
        raise ValueError(trouble)
    if not MIN_ITERATIONS <= int(iterations) <= MAX_ITERATIONS or len(salt) < MIN_SALT_BYTES:
        raise ValueError(
            f"line {number} has not {MIN_ITERATIONS} to {MAX_ITERATIONS} iterations and a salt of "
            f"{MIN_SALT_BYTES} bytes or more; set the password again"
        )
    return Verifier(int(iterations), salt, stored, served)


def _key(text: str, number: int) -> bytes:
    try:
        key = b64decode(text, validate=True)
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        raise ValueError(
            f"line {number} holds no key of {KEY_BYTES} bytes for strangers; delete it, and "
            "sockproto scram-user writes a new one"
        )
    return key


def _text(data: bytes) -> str:
    return b64encode(data).decode("ascii")
