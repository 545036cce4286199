"""One line a connection, written at the verdict."""

from __future__ import annotations

from twisted.logger import Logger, LogLevel

from sockproto.events import Event, HandshakeEnded, Reason

MAX_FIELD = 256
"""How much of a field a line shows."""

WORDS: dict[Reason, str] = {"timeout": "time out"}
"""What an outcome is called where that is not its name: the lesson prints ``time out``."""


class ConnectionLog:
    """
    An observer that writes a line for each verdict.

    The line begins with the outcome, and goes on with the peer's address, the handshake's duration
    and the reason: ``rejected 127.0.0.1:40312 in 0.3 ms: wrong word``.

    Args:
        log: Where to.
    """

    def __init__(self, log: Logger) -> None:
        self._log = log

    def __call__(self, event: Event) -> None:
        if isinstance(event, HandshakeEnded):
            level = LogLevel.error if event.reason == "crashed" else LogLevel.info
            self._log.emit(level, "{line}", line=line_for(event))


def line_for(event: HandshakeEnded) -> str:
    """What the log says of a verdict; nothing a peer has sent can break out of it."""
    # A unix socket's address is a path that the peer has chosen.
    where = printable(str(event.address))
    words = [WORDS.get(event.reason, event.reason), where, "in", _took(event.duration)]
    if event.identity is not None:
        words += ["as", printable(event.identity)]
    if event.session is not None:
        words += ["into", printable(event.session)]
    line = " ".join(words)
    return f"{line}: {printable(event.detail)}" if event.detail else line


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


def _took(duration: float) -> str:
    return f"{duration:.1f} s" if duration >= 1 else f"{duration * 1000:.1f} ms"
