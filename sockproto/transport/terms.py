"""What all the connections of one entrance have in common: the one signature, resolved."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import count
from random import random
from typing import Protocol, TypeAlias

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocolFactory, IReactorTime
from twisted.logger import Logger

from sockproto.admission.contract import Admission, Ticket
from sockproto.core.handshake import Side
from sockproto.events import Event, Observer
from sockproto.limits import Limits
from sockproto.transport.deadlines import Deadlines

Sessions: TypeAlias = IProtocolFactory | Mapping[str, IProtocolFactory] | None
"""One session, several by name, or none at all."""

JITTER = 0.1
"""The part of a handshake's deadline that is added at random: a herd should not leave as one."""

_log = Logger()


class Live(Protocol):
    """A connection that is not over yet: a gate, or the lease that it has left behind."""

    def shut_down(self) -> None:
        """Be over within the close timeout."""
        ...


class Terms:
    """
    The terms on which an entrance lets peers in, and the connections that it has.

    Args:
        side: ``handshake.serve`` or ``handshake.connect``.
        session: What follows an ``Accept``.
        serving: Whether we are the server; a client that is left alone was not probed.
        limits, admission, observers, clock: As at every entrance.
    """

    def __init__(
        self,
        side: Side,
        session: Sessions,
        *,
        serving: bool,
        limits: Limits,
        admission: Admission | None,
        observers: Iterable[Observer],
        clock: IReactorTime,
    ) -> None:
        self.side = side
        self.sessions = named(session)
        self.names = tuple(name for name in self.sessions if name)
        self.serving = serving
        self.limits = limits
        self.admission = admission
        self.observers = list(observers)
        self.clock = clock
        self.deadlines = Deadlines(clock)
        self.live: set[Live] = set()
        self.numbers = count(1)
        self._empty: list[Deferred[None]] = []

    def handshake_deadline(self, now: float) -> float:
        """When a handshake that begins now must be over."""
        return now + self.limits.handshake_timeout * (1 + JITTER * random())

    def choose(self, name: str | None) -> IProtocolFactory | None:
        """The session of that name. Without a name it is the first on offer."""
        if name is None:
            return next(iter(self.sessions.values()), None)
        return self.sessions[name]

    def emit(self, event: Event) -> None:
        """Tell the observers. One that fails is detached, and reported once."""
        for observer in tuple(self.observers):
            try:
                observer(event)
            except Exception:
                # It may have failed already, on an event that it has caused itself.
                if observer not in self.observers:
                    continue
                self.observers.remove(observer)
                _log.failure("an observer failed and is detached: {observer!r}", observer=observer)

    def release(self, ticket: Ticket | None) -> None:
        """Give back the slot of a connection that is gone."""
        if ticket is None:
            return
        try:
            ticket.release()
        except Exception:
            _log.failure("a slot could not be given back: {ticket!r}", ticket=ticket)

    def ended(self, connection: Live) -> None:
        """A connection is over."""
        self.live.discard(connection)
        if not self.live:
            waiting, self._empty = self._empty, []
            for each in waiting:
                each.callback(None)

    def shut_down(self) -> Deferred[None]:
        """End every connection within the close timeout; fires when the last one is gone."""
        gone: Deferred[None] = Deferred()
        if not self.live:
            gone.callback(None)
            return gone
        self._empty.append(gone)
        for connection in tuple(self.live):
            connection.shut_down()
        return gone


def named(session: Sessions) -> dict[str, IProtocolFactory]:
    """Sessions by name, in order; the name of one that was given alone is empty."""
    if session is None:
        return {}
    if isinstance(session, Mapping):
        return dict(session)
    return {"": session}
