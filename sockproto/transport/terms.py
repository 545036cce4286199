"""What all the connections of one entrance have in common: the one signature, resolved."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import count
from typing import Any, Protocol, TypeAlias

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocolFactory, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from sockproto.admission.contract import Admission, Capped, Ticket
from sockproto.core.handshake import Side
from sockproto.events import ALL_WANTED, Event, HandshakeEnded, Observer, Reason, Wanted, wanted_by
from sockproto.limits import Limits
from sockproto.transport.deadlines import Deadlines
from sockproto.transport.proxy import ProxyPolicy

Sessions: TypeAlias = IProtocolFactory | Mapping[str, IProtocolFactory] | None
"""One session, several by name, or none at all."""

_log = Logger()


class Live(Protocol):
    """A connection that is not over yet: a gate, or the lease that it has left behind."""

    def shut_down(self) -> None:
        """Be over within the close timeout."""
        ...

    def deadline_passed(self) -> None:
        """Its time is up; after :meth:`shut_down` that is the end."""
        ...


class Terms:
    """
    The terms on which an entrance lets peers in, and the connections that it has.

    Args:
        side: ``handshake.serve`` or ``handshake.connect``.
        session: What follows an ``Accept``.
        serving: Whether we are the server; a client that is left alone was not probed.
        limits, admission, observers, clock: As at every entrance.
        tls: What makes OpenSSL connections, for a handshake that asks for TLS.
        proxy: Who has to say first whose connection it is; None if nobody has.

    Attributes:
        told: Who is told of what. An event that nobody is told of need not be made.
        capped: The admission, if newcomers may have to wait for it to have room.
        turned_away: Those who were refused, and whose goodbye is under way.
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
        tls: Any = None,
        proxy: ProxyPolicy | None = None,
    ) -> None:
        self.side = side
        self.sessions = named(session)
        self.names = tuple(name for name in self.sessions if name)
        self.serving = serving
        self.limits = limits
        self.admission = admission
        self.capped = admission if isinstance(admission, Capped) else None
        self.observers: list[Observer] = []
        self.told: dict[Wanted, tuple[Observer, ...]] = dict.fromkeys(ALL_WANTED, ())
        for observer in observers:
            self.observe(observer)
        self.tls = tls
        self.proxy = proxy
        self.clock = clock
        self.deadlines = Deadlines(clock)
        # Not a set, which takes three times the memory for thousands.
        self.live: dict[Live, None] = {}
        self.turned_away: dict[Live, None] = {}
        self.numbers = count(1)
        self._empty: list[Deferred[None]] = []

    def choose(self, name: str | None) -> IProtocolFactory | None:
        """The session of that name. Without a name it is the first on offer."""
        if name is None:
            return next(iter(self.sessions.values()), None)
        return self.sessions[name]

    def observe(self, observer: Observer) -> None:
        """From now on, tell an observer of what it wants."""
        self.observers.append(observer)
        for each in wanted_by(observer):
            self.told[each] += (observer,)

    def emit(self, event: Event) -> None:
        """
        Tell the observers that want it. One that fails is detached, and reported once.

        A handshake that crashes is logged if none of them wants to know.
        """
        what: Any = event.reason if isinstance(event, HandshakeEnded) else type(event)
        observers = self.told[what]
        if not observers:
            _log_crash(event)
        for observer in observers:
            try:
                observer(event)
            except Exception:
                # It may have failed already, on an event that it has caused itself.
                if observer not in self.observers:
                    continue
                self.observers.remove(observer)
                for kind, told in self.told.items():
                    self.told[kind] = tuple(each for each in told if each != observer)
                _log.failure("an observer failed and is detached: {observer!r}", observer=observer)

    def settle(self, ticket: Ticket, reason: Reason, silent: bool, ours: bool = False) -> None:
        """Tell an admission the verdict on a connection that it has let in."""
        try:
            ticket.settled(reason, silent=silent, ours=ours)
        except Exception:
            _log.failure("a verdict could not be told: {ticket!r}", ticket=ticket)

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
        self.live.pop(connection, None)
        if self.turned_away:
            self.turned_away.pop(connection, None)
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

    def cut_short(self) -> None:
        """Give those who are being shut down no more time."""
        for connection in tuple(self.live):
            connection.deadline_passed()


def _log_crash(event: Event) -> None:
    """Say that a plug-in broke, if nobody else would."""
    if isinstance(event, HandshakeEnded) and event.reason == "crashed":
        error = event.error
        assert error is not None
        cause = error.__cause__ or error
        _log.error(
            "{error}",
            error=error,
            log_failure=Failure(cause, type(cause), cause.__traceback__),
        )


def named(session: Sessions) -> dict[str, IProtocolFactory]:
    """
    Sessions by name, in order; the name of one that was given alone is empty.

    Raises:
        TypeError: If one of them is no factory.
    """
    if session is None:
        return {}
    sessions = dict(session) if isinstance(session, Mapping) else {"": session}
    for each in sessions.values():
        if isinstance(each, type):
            name = each.__name__
            raise TypeError(f"{name} is a class, expected a session: Factory.forProtocol({name})")
        if not callable(getattr(each, "buildProtocol", None)):
            raise TypeError(f"a {type(each).__name__} is no session: it lacks buildProtocol()")
    return sessions
