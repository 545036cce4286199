"""
Text that strangers may have chosen, on one line and for a terminal.

Of its own, since each command of the shell says something, and few need the rest of the service.
"""

from __future__ import annotations

MAX_FIELD = 256
"""How much of a field a line shows."""


def printable(text: str) -> str:
    """Escape a field as :func:`escaped` does, and cut it if it is long."""
    return escaped(text if len(text) <= MAX_FIELD else text[:MAX_FIELD] + "...")


def escaped(text: str) -> str:
    """
    Escape what could forge a line or drive a terminal.

    Control characters, line and paragraph separators, and the marks that change the direction of
    writing become escapes; :meth:`str.isprintable` is the judge.
    """
    if text.isprintable():
        return text
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode() for each in text
    )
