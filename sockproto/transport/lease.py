"""
What stays of us when a session has taken over.

Nothing of ours stands in a session's data path, but ``connectionLost`` remains ours, because three
things are still owed: the admission slot, the ending, and the session's own ``connectionLost``. A
lease holds just what those need, so that gate and exchange can be collected.
"""

from __future__ import annotations

from math import inf
from typing import Any

from twisted.internet.abstract import FileDescriptor
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.error import ConnectionClosed as Closed
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from sockproto.admission.contract import Ticket
from sockproto.core.facts import Address
from sockproto.events import ConnectionEnded, Ending, Reason
from sockproto.transport.deadlines import NOT_FILED
from sockproto.transport.reasons import is_openssls
from sockproto.transport.terms import Terms
from sockproto.transport.watch import watch

DONE = Failure(ConnectionDone())
LOST = Failure(ConnectionLost())
"""Made once, as the reactor has made its own; every connection that is over has one of them."""

_ENDS = {type(each.value): each for each in (DONE, LOST)}

_log = Logger()


class AtOnce:
    """
    A block after which a transport sends what was written in it, and closes if it was told to.

    Otherwise the reactor is told to watch whether the socket takes bytes, finds at its next turn
    that it does, and is told that it need not watch any more; and what is written first is sent on
    its own.

    After the block the session may hear that it is over. So neither it nor the transport may be in
    the middle of anything then: a ``doRead``, say, after which the reactor would have it write.

    Args:
        transport: Any. One that is no descriptor of Twisted's is left as it is.
    """

    __slots__ = ("_transport", "_wanted")

    def __init__(self, transport: Any) -> None:
        self._transport = transport if isinstance(transport, FileDescriptor) else None
        # Whether it wants to write. None if it has not said anything about that.
        self._wanted: bool | None = None

    def __enter__(self) -> None:
        transport: Any = self._transport
        if transport is not None:
            transport.startWriting = self._start
            transport.stopWriting = self._stop

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        transport: Any = self._transport
        if transport is None:
            return
        why = None
        if self._wanted and kind is None:
            try:
                why = transport.doWrite()
            except BaseException as failed:
                # As the reactor would.
                _log.failure("{name} failed to write", name=transport.logPrefix())
                why = failed
        del transport.startWriting, transport.stopWriting
        if why is not None:
            transport.connectionLost(_ENDS.get(type(why)) or Failure(why))
        elif self._wanted:
            transport.startWriting()
        elif self._wanted is not None:
            # The reactor may have been watching since before.
            transport.stopWriting()

    def _start(self) -> None:
        self._wanted = True

    def _stop(self) -> None:
        self._wanted = False


class Lease:
    """
    A session's stay.

    Args:
        terms: The entrance it came through.
        number, address, local, identity: As events have them.
        opened: When the connection was opened, on the clock's time.
        ticket: The admission slot, or None.
        transport: The session's transport.
        session: The session.

    Attributes:
        over: Whether the connection is gone.
        due: When :meth:`deadline_passed` is to be called; ``inf`` while the session may stay.
    """

    __slots__ = (
        "_address",
        "_finished",
        "_identity",
        "_local",
        "_number",
        "_opened",
        "_reason",
        "_terms",
        "_ticket",
        "_watch",
        "bucket",
        "due",
        "over",
        "session",
        "transport",
    )

    def __init__(
        self,
        terms: Terms,
        number: int,
        address: Address,
        local: Address,
        identity: str | None,
        opened: float,
        ticket: Ticket | None,
        transport: Any,
        session: Any,
    ) -> None:
        self._terms = terms
        self._number = number
        self._address = address
        self._local = local
        self._identity = identity
        self._opened = opened
        self._ticket = ticket
        self._reason: Reason = "accepted"
        self._finished = False
        self.due = inf
        self.over = False
        self.bucket = NOT_FILED
        self.transport = transport
        self.session = session
        self._watch = watching = watch(transport, terms.limits, terms.clock)
        if watching is not None:
            self.due = watching.due
            terms.deadlines.file(self)

    def shut_down(self) -> None:
        """We are stopping: let the session finish what it has written, within the close timeout."""
        self.end("shutdown")

    def read_connection_lost(self) -> None:
        """The transport has found the end of what the peer sends."""
        with AtOnce(self.transport):
            self.peer_finished()

    def peer_finished(self) -> None:
        """
        The peer has finished sending. A session that has no ear for it is closed.

        Twisted would do so, too, but drop what the session has yet to send.
        """
        session = self.session
        if IHalfCloseableProtocol.providedBy(session):
            session.readConnectionLost()
        else:
            self._finished = True
            self.end("accepted")

    def end(self, reason: Reason) -> None:
        """Close the session's transport, and see to it that it is gone within the close timeout."""
        if self.over:
            return
        if self._reason == "accepted":
            self._reason = reason
        self._stop_watching()
        terms = self._terms
        self.due = min(self.due, terms.clock.seconds() + terms.limits.close_timeout)
        terms.deadlines.file(self)
        # Last: a transport that has half-closed may tell us at once that it is gone.
        self.transport.loseConnection()

    def crash(self, doing: str) -> None:
        """The session has raised where nobody but us would notice."""
        _log.failure("{session!r} failed in {doing}", session=self.session, doing=doing)
        if self._reason == "accepted":
            self._reason = "crashed"
        self.transport.abortConnection()

    def deadline_passed(self) -> None:
        """It is not gone; or it is time to see whether the session may stay."""
        watching = self._watch
        if watching is None:
            self.transport.abortConnection()
        elif watching.is_over(self._terms.clock.seconds()):
            self.end("timeout")
        else:
            self.due = watching.due
            self._terms.deadlines.file(self)

    def connection_lost(self, why: Failure) -> None:
        """The connection is gone: give back the slot, report the ending, tell the session."""
        terms = self._terms
        self.over = True
        self._stop_watching()
        terms.deadlines.withdraw(self)
        terms.release(self._ticket)
        error = why.value
        if self._finished and isinstance(error, ConnectionLost):
            # A unix socket of which both ends are closed looks like one that broke (epoll(7)).
            why, error = DONE, DONE.value
        reason = self._reason
        if reason == "accepted" and not isinstance(error, (ConnectionDone, ConnectionAborted)):
            reason = "lost" if isinstance(error, Closed) or is_openssls(error) else "crashed"
        if terms.told[ConnectionEnded]:
            terms.emit(
                ConnectionEnded(
                    self._number,
                    self._address,
                    self._local,
                    Ending(reason, "session"),
                    self._identity,
                    terms.clock.seconds() - self._opened,
                )
            )
        terms.ended(self)
        self.session.connectionLost(why)

    def _stop_watching(self) -> None:
        watching, self._watch = self._watch, None
        if watching is not None:
            watching.stop()
            # What bounds it now is the close timeout.
            self.due = inf
