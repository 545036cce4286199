"""
What stays of us when a session has taken over.

Nothing of ours stands in a session's data path, but ``connectionLost`` remains ours, because three
things are still owed: the admission slot, the ending, and the session's own ``connectionLost``. A
lease holds just what those need, so that gate and exchange can be collected.
"""

from __future__ import annotations

from math import inf
from typing import Any

from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.internet.error import ConnectionClosed as Closed
from twisted.logger import Logger
from twisted.python.failure import Failure

from sockproto.admission.contract import Ticket
from sockproto.core.facts import Address
from sockproto.events import ConnectionEnded, Ending, Reason
from sockproto.transport.deadlines import NOT_FILED
from sockproto.transport.terms import Terms

_log = Logger()


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
    """

    __slots__ = (
        "_address",
        "_deadline",
        "_identity",
        "_local",
        "_number",
        "_opened",
        "_reason",
        "_terms",
        "_ticket",
        "bucket",
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
        self._deadline = inf
        self.over = False
        self.bucket = NOT_FILED
        self.transport = transport
        self.session = session

    def shut_down(self) -> None:
        """We are stopping: let the session finish what it has written, within the close timeout."""
        self.end("shutdown")

    def end(self, reason: Reason) -> None:
        """Close the session's transport, and see to it that it is gone within the close timeout."""
        if self.over:
            return
        if self._reason == "accepted":
            self._reason = reason
        terms = self._terms
        self._deadline = min(self._deadline, terms.clock.seconds() + terms.limits.close_timeout)
        terms.deadlines.file(self)
        # Last: a transport that has half-closed may tell us at once that it is gone.
        self.transport.loseConnection()

    def crash(self, doing: str) -> None:
        """The session has raised where nobody but us would notice."""
        _log.failure("{session!r} failed in {doing}", session=self.session, doing=doing)
        if self._reason == "accepted":
            self._reason = "crashed"
        self.transport.abortConnection()

    def next_deadline(self) -> float:
        """When the transport must be gone."""
        return self._deadline

    def deadline_passed(self) -> None:
        """It is not gone."""
        self.transport.abortConnection()

    def connection_lost(self, why: Failure) -> None:
        """The connection is gone: give back the slot, report the ending, tell the session."""
        terms = self._terms
        self.over = True
        terms.deadlines.withdraw(self)
        terms.release(self._ticket)
        reason = self._reason
        if reason == "accepted" and not why.check(ConnectionDone, ConnectionAborted):
            reason = "lost" if why.check(Closed) or _is_tls(why.value) else "crashed"
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


def _is_tls(error: BaseException | None) -> bool:
    """Whether OpenSSL gave up. Told by name: without TLS, pyOpenSSL need not be there."""
    return type(error).__module__.startswith("OpenSSL")
