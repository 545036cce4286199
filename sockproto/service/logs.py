"""What the log says of a connection, and of trouble."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from errno import EMFILE, ENFILE, ENOMEM
from os.path import basename
from traceback import extract_tb
from typing import ClassVar

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from sockproto.core.facts import Address
from sockproto.events import (
    AcceptingPaused,
    CapReached,
    Event,
    HandshakeEnded,
    Reason,
    RefusalWaived,
    Wanted,
)
from sockproto.service.escaping import MAX_FIELD, printable
from sockproto.service.tally import Tally

WORDS: dict[Reason, str] = {"timeout": "time out"}
"""What an outcome is called where that is not its name: the lesson prints ``time out``."""

NO_ROOM = "no room"

SUMMED: Mapping[str, str] = {
    "timeout": "timed out",
    "probe": "probed",
    "limit": "went beyond a limit",
    "violation": "broke the protocol",
    "shutdown": "were shut down",
    NO_ROOM: "times had no room for another connection",
}
"""What is said of many that had one outcome, where that is not its name."""

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
    That there is no room for another connection is a warning. Whom a dry run would have refused is
    told, too.

    Args:
        log: Where to.
        clock: Tells when a minute is over, after which is summed up what came in floods. Without
            one everything has a line.
    """

    wants: ClassVar[tuple[Wanted, ...]] = ("crashed", AcceptingPaused, CapReached, RefusalWaived)

    def __init__(self, log: Logger, clock: IReactorTime | None = None) -> None:
        self._log = log
        self._tally = None if clock is None else Tally(clock, self._sum_up)

    def __call__(self, event: Event) -> None:
        """Something is wrong."""
        if isinstance(event, CapReached):
            # Nobody tells of it more than once a minute.
            self._log.warn("{line}", line=_all_taken(event))
        elif isinstance(event, AcceptingPaused):
            if self._admits(str(event.local), NO_ROOM):
                self._log.warn("{line}", line=_no_room(event))
        elif isinstance(event, RefusalWaived):
            if self._admits(source_of(event.address), "waived"):
                self._log.info("{line}", line=_waived(event))
        else:
            assert isinstance(event, HandshakeEnded)
            if self._admits(source_of(event.address), event.reason):
                self._log.error("{line}", line=line_for(event) + _place_of(event.error))

    def close(self) -> None:
        """There will be no more trouble: say what was summed up."""
        if self._tally is not None:
            self._tally.close()

    def _admits(self, source: str, outcome: str) -> bool:
        tally = self._tally
        if tally is None:
            return True
        tally.begin()
        return tally.admits(source, outcome)

    def _sum_up(self, summed: Iterable[tuple[str, str, int]]) -> None:
        for line in summaries_of(summed):
            self._log.warn("{line}", line=line)


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
    reason = printable(event.error.strerror or str(event.error)).lower()
    where = printable(str(event.local))
    return f"no room for another connection at {where}: {reason}; clients wait meanwhile; {cure}"


def _all_taken(event: CapReached) -> str:
    where = printable(str(event.local))
    return (
        f"no room for another connection at {where}: max-connections are there; "
        "clients wait meanwhile; raise it if this machine can bear more"
    )


def _waived(event: RefusalWaived) -> str:
    return f"waived {printable(str(event.address))}: {printable(event.detail)}"


def source_of(address: Address) -> str:
    """Under which name the peers of an address are counted; what a peer has chosen is no name."""
    return address.host or address.family


def summaries_of(summed: Iterable[tuple[str, str, int]]) -> list[str]:
    """
    What is told of those that had no line of their own.

    Args:
        summed: Triples of a source, an outcome, and how many.
    """
    return [
        f"{printable(source)}: {times} more {SUMMED.get(outcome, outcome)} in the last minute"
        for source, outcome, times in summed
    ]
