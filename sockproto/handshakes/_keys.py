"""
The keys of ``challenge``, and how one is found without a word about whether it is there.

A stranger must not learn which ids there are, so a proof for an id that nobody has is checked with
a key that nobody has, and finding that one must take as long as finding a real one. What a
dictionary has it finds some nanoseconds later than what it has not, and so does any code in which
an ``if``, or a truth value that becomes a number, decides between the two: over a million answers
that shows. So nothing is decided here. A hash of the id leads, in three steps that are the same for
every id, to one of 2**24 places. In each of them is a key. In those of the ids that there are it is
theirs, and in all the others nobody's; the salt of the hash is chosen so that no two ids share a
place. Whether the id is the one of that place is asked when the proof has turned out to be right,
and not before.
"""

from __future__ import annotations

import os
from base64 import b64decode, b64encode
from collections.abc import Mapping
from hashlib import blake2b, sha256
from itertools import count
from typing import TypeAlias

from sockproto.handshakes._entries import entries_of

LABEL = b"sockproto challenge 1\n"
"""How the greeting begins, and what is proved; then comes who proves it."""

MIN_KEY_BYTES = 16
MAX_KEY_BYTES = 64
"""The block of SHA-256; RFC 2104 section 2 makes any longer key shorter."""

MAX_KEYS = 4096
"""With so many, more than half of all salts give each of them a place of its own."""

_IPAD = bytes(byte ^ 0x36 for byte in range(256))
_OPAD = bytes(byte ^ 0x5C for byte in range(256))

_STEPS = 3
_WAYS = 256

_REMEDY = "write it with: sockproto keygen --file FILE"


class Mac:
    """
    HMAC-SHA-256 of messages that all begin alike (RFC 2104).

    What is the same each time, the padded key and the beginning, is hashed once, as section 4 says.
    It takes a third of the time of :func:`hmac.digest`.

    Args:
        secret: The key; at most :data:`MAX_KEY_BYTES`, and how many does not show.
        beginning: How every message begins.
    """

    __slots__ = ("_inner", "_outer")

    def __init__(self, secret: bytes, beginning: bytes) -> None:
        padded = secret.ljust(MAX_KEY_BYTES, b"\0")
        self._inner = sha256(padded.translate(_IPAD) + beginning)
        self._outer = sha256(padded.translate(_OPAD))

    def digest(self, rest: bytes) -> bytes:
        """The MAC of the message that goes on like this."""
        inner = self._inner.copy()
        inner.update(rest)
        outer = self._outer.copy()
        outer.update(inner.digest())
        return outer.digest()


class Key:
    """
    A key, and whose it is.

    Attributes:
        name: Its id; empty for the one that nobody has.
        id: The same in UTF-8, as it crosses the network.
        client: Makes a client's proofs with it.
        server: Makes a server's.
        wrong: What a log says of a proof that is not made with it.
    """

    __slots__ = ("client", "id", "name", "server", "wrong")

    def __init__(self, name: str, secret: bytes, wrong: str) -> None:
        self.name, self.id, self.wrong = name, name.encode("utf-8"), wrong
        self.client, self.server = Mac(secret, LABEL + b"C"), Mac(secret, LABEL + b"S")

    def __repr__(self) -> str:
        return f"<Key {self.name!r}>"


_Table: TypeAlias = list[list[list[Key]]]


class Keys:
    """
    Keys by their ids.

    Args:
        keys: At least one, at most :data:`MAX_KEYS`; the first is the one that a client uses.
        wanted: The id of another that it uses.
    """

    def __init__(self, keys: Mapping[str, bytes], wanted: str | None = None) -> None:
        known = {id: Key(id, keys[id], "wrong proof for the id") for id in keys}
        self.current = known[next(iter(keys)) if wanted is None else wanted]
        nobody = Key("", os.urandom(MAX_KEY_BYTES), "no key here has the id")
        places: dict[bytes, Key] = {}
        attempts = count()
        while len(places) < len(known):
            salt = next(attempts).to_bytes(blake2b.SALT_SIZE, "big")
            self._salted = blake2b(digest_size=_STEPS, salt=salt)
            places = {self._place(key.id): key for key in known.values()}
        self._table = _table(places, nobody)

    def find(self, id: bytes) -> Key:
        """The key of an id, or nobody's, found as fast; whoever needs to know compares the id."""
        first, second, third = self._place(id)
        return self._table[first][second][third]

    def _place(self, id: bytes) -> bytes:
        place = self._salted.copy()
        place.update(id)
        return place.digest()


def _table(places: Mapping[bytes, Key], nobody: Key) -> _Table:
    """Three steps to every place; where nobody is, all take the same ones."""
    bottom = [nobody] * _WAYS
    middle = [bottom] * _WAYS
    top = [middle] * _WAYS
    for (first, second, third), key in places.items():
        if top[first] is middle:
            top[first] = middle.copy()
        if top[first][second] is bottom:
            top[first][second] = bottom.copy()
        top[first][second][third] = key
    return top


def parse_keys(data: bytes, wanted: str | None = None) -> Keys:
    """
    Read the keys of one side.

    Args:
        data: The lines of :func:`keys_of`.
        wanted: The id of the one that a client uses, if not the first.

    Raises:
        ValueError: If they make no sense, there is none or too many, or not the one wanted.
    """
    keys = keys_of(data)
    if not keys:
        raise ValueError(f"there is no key; {_REMEDY}")
    if len(keys) > MAX_KEYS:
        raise ValueError(f"there are {len(keys)} keys, and {MAX_KEYS} is the most; take out some")
    if wanted is not None and wanted not in keys:
        raise ValueError(f"no key has the id {wanted}, which id= asks for; {', '.join(keys)} do")
    return Keys(keys, wanted)


def keys_of(data: bytes) -> dict[str, bytes]:
    """
    Read keys, one a line: an id, and the key in base64 (RFC 4648 section 4).

    Raises:
        ValueError: If there is something else in them.
    """
    keys: dict[str, bytes] = {}
    for number, id, value in entries_of(data, _REMEDY):
        try:
            key = b64decode(value, validate=True)
        except ValueError:
            # Not chained: it may show what stands there.
            raise ValueError(f"line {number} has no key in base64; {_REMEDY}") from None
        if not MIN_KEY_BYTES <= len(key) <= MAX_KEY_BYTES:
            raise ValueError(
                f"line {number} has a key of {len(key)} bytes, and it takes "
                f"{MIN_KEY_BYTES} to {MAX_KEY_BYTES}; {_REMEDY}"
            )
        if id in keys:
            raise ValueError(f"line {number} has the id of a line above; keep one of the two")
        keys[id] = key
    return keys


def entry_for(id: str, key: bytes) -> str:
    """The line that makes a key known."""
    return f"{id} {b64encode(key).decode('ascii')}"
