"""
Files of entries, one a line: ``NAME VALUE``. What a server knows of those who may come.

Blank lines and those that begin with ``#`` are passed over. A value may be a secret, or may turn
out to be one in the wrong place, so no message repeats anything of a line but its number.
"""

from __future__ import annotations

from collections.abc import Iterator

MAX_NAME = 64
"""Bytes of a name: in UTF-8, for it may have to cross the network."""


def entries_of(data: bytes, remedy: str) -> Iterator[tuple[int, str, str]]:
    """
    Read the entries: the number of the line, the name, and the value.

    Args:
        data: What the file holds.
        remedy: What to do about a line that is none; follows a semicolon.

    Raises:
        ValueError: If a line is no entry.
    """
    try:
        lines = data.decode("utf-8").split("\n")
    except UnicodeDecodeError:
        raise ValueError(f"that is no text in UTF-8; {remedy}") from None
    for number, line in enumerate(lines, 1):
        fields = line.split()
        if not fields or fields[0].startswith("#"):
            continue
        if len(fields) != 2 or not is_name(fields[0]):
            raise ValueError(f"line {number} is not a name and a value; {remedy}")
        yield number, fields[0], fields[1]


def is_name(text: str) -> bool:
    """Whether it can stand for somebody in a file, in a log and on the network."""
    return (
        text.isprintable()
        and not text.startswith("#")
        and text.split() == [text]
        and len(text.encode("utf-8")) <= MAX_NAME
    )
