"""What the log says of a connection, and of trouble."""

from __future__ import annotations

from collections.abc import Mapping
from errno import EMFILE, ENFILE, ENOMEM
from os.path import basename
from traceback import extract_tb
from typing import ClassVar

from twisted.logger import Logger

from sockproto.events import AcceptingPaused, Event, HandshakeEnded, Reason, Wanted

MAX_FIELD = 256
"""How much of a field a line shows."""

WORDS: dict[Reason, str] = {"timeout": "time out"}
"""What an outcome is called where that is not its name: the lesson prints ``time out``."""


MAX_FRAMES = 4
"""How many steps a line shows of the way to where something broke."""

CURES: Mapping[int, str] = {
    EMFILE: "raise the descriptor limit (ulimit -n, or LimitNOFILE= under systemd)",
    ENFILE: "raise the descriptor limit of the system (sysctl fs.file-max)",
    ENOMEM: "free some memory",
}
"""What to do when there is no room; by ``errno``."""

NAMESPACE = "sockproto"
"""Whose lines they are, in Twisted's log."""


class TroubleLog:
    """
    An observer that tells the log what the operator has to know, with or without an access log.

    A handshake or a session that broke is an error: its line, and where in the code it happened.
    That there is no room for another connection is a warning.

    Args:
        log: Where to.
    """

    wants: ClassVar[tuple[Wanted, ...]] = ("crashed", AcceptingPaused)

    def __init__(self, log: Logger) -> None:
        self._log = log

    def __call__(self, event: Event) -> None:
        """Something is wrong."""
        if isinstance(event, AcceptingPaused):
            self._log.warn("{line}", line=_no_room(event))
            return
        assert isinstance(event, HandshakeEnded)
        self._log.error("{line}", line=line_for(event) + _place_of(event.error))


def line_for(event: HandshakeEnded) -> str:
    """
    What is told of a verdict; nothing a peer has sent can break out of it.

    The line begins with the outcome, and goes on with the peer's address, the handshake's duration
    and the reason: ``rejected 127.0.0.1:40312 in 0.3 ms: wrong word``.
    """
    reason, where, took = event.reason, str(event.address), event.duration
    # A unix socket's address is a path that the peer has chosen.
    if len(where) > MAX_FIELD or not where.isprintable():
        where = printable(where)
    word = WORDS.get(reason, reason)
    if took < 1:
        line = f"{word} {where} in {took * 1000:.1f} ms"
    else:
        line = f"{word} {where} in {took:.1f} s"
    if event.identity is not None:
        line += f" as {printable(event.identity)}"
    if event.session is not None:
        line += f" into {printable(event.session)}"
    return f"{line}: {printable(event.detail)}" if event.detail else line


def _place_of(error: BaseException | None) -> str:
    """Where something broke, the way that led there included; empty if there is no such place."""
    cause = error and (error.__cause__ or error)
    frames = extract_tb(cause.__traceback__, -MAX_FRAMES) if cause else ()
    places = [f"{basename(each.filename)}:{each.lineno} in {each.name}" for each in frames]
    return f" ({printable(' > '.join(places))})" if places else ""


def _no_room(event: AcceptingPaused) -> str:
    cure = CURES.get(event.error.errno or ENOMEM, CURES[ENOMEM])
    reason = (event.error.strerror or str(event.error)).lower()
    where = printable(str(event.local))
    return f"no room for another connection at {where}: {reason}; clients wait meanwhile; {cure}"


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
