"""What the factories of both sides share: the one signature, and the lives of the sessions."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from inspect import isclass
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import Factory

from sockproto.admission.contract import Admission
from sockproto.core.handshake import Side
from sockproto.events import Observer
from sockproto.limits import DEFAULT_LIMITS, Limits
from sockproto.transport.proxy import ProxyPolicy
from sockproto.transport.terms import Sessions, Terms, named


class EntranceFactory(Factory):
    """
    A factory of connections that begin with a handshake.

    Args:
        handshake: The rules.
        session: What follows an ``Accept``: one protocol factory, or several by name, from which
            ``Accept(session=…)`` chooses and of which the first is the default; None says goodbye.
        limits: The bounds.
        admission: Who may start; None admits everybody.
        observers: Who is told of every event. Without any, a handshake that crashes is logged.
        clock: Whose time counts; the reactor's unless given.
        tls: What makes the OpenSSL connections when the handshake calls
            :meth:`~sockproto.core.peer.Peer.start_tls`:
            :class:`~sockproto.transport.tls.ServerTls`, or
            :class:`~sockproto.transport.tls.ClientTls` at the other end.

    Raises:
        TypeError: If ``handshake`` lacks the side that is needed, or anything is not what it has
            to be: then, and not when the first peer comes.
    """

    noisy = False
    side_name = ""

    def __init__(
        self,
        handshake: object,
        session: Sessions = None,
        *,
        limits: Limits = DEFAULT_LIMITS,
        admission: Admission | None = None,
        observers: Iterable[Observer] = (),
        clock: IReactorTime | None = None,
        tls: Any = None,
    ) -> None:
        self._side = side_of(handshake, self.side_name)
        self._session = named(session)
        if not isinstance(limits, Limits):
            raise TypeError(f"limits must be Limits(…), got a {type(limits).__name__}")
        self._limits = limits
        self._admission = admission
        self._observers = tuple(observers)
        self._clock = clock
        self._tls = tls
        self._proxy: ProxyPolicy | None = None

    @cached_property
    def terms(self) -> Terms:
        """What all connections of this factory have in common."""
        # Here, and not earlier: to ask for the default clock installs a reactor.
        return Terms(
            self._side,
            self._session,
            serving=self.side_name == "serve",
            limits=self._limits,
            admission=self._admission,
            observers=self._observers,
            clock=self._clock or _default_clock(),
            tls=self._tls,
            proxy=self._proxy,
        )

    def startFactory(self) -> None:
        """The first port or connection begins: start every session's factory once."""
        self.terms.deadlines.busy = True
        for factory in self._session_factories():
            factory.doStart()

    def stopFactory(self) -> None:
        """The last port or connection is gone: stop every session's factory once."""
        for factory in self._session_factories():
            factory.doStop()
        self.terms.deadlines.busy = False
        self.terms.deadlines.settle()

    def shut_down(self) -> Deferred[None]:
        """
        End every connection: handshakes now, sessions and goodbyes within the close timeout.

        Returns:
            A Deferred that fires when the last connection is gone. It does not close ports.
        """
        return self.terms.shut_down()

    def cut_short(self) -> None:
        """Abort what :meth:`shut_down` waits for: no goodbye and no session has any time left."""
        self.terms.cut_short()

    def _session_factories(self) -> list[Any]:
        """Each factory once, also one that has several names."""
        return list({id(each): each for each in self.terms.sessions.values()}.values())


def side_of(handshake: object, name: str) -> Side:
    """
    The side of a handshake that is called ``name``.

    Raises:
        TypeError: If there is none, or if ``handshake`` is a class.
    """
    if isclass(handshake):
        raise TypeError(f"{handshake.__name__} is a class, expected a handshake: call it first")
    side: Side | None = getattr(handshake, name, None)
    if not callable(side):
        kind = type(handshake).__name__
        raise TypeError(f"a {kind} is no handshake here: it lacks async def {name}(self, peer)")
    return side


def _default_clock() -> IReactorTime:
    from twisted.internet import reactor

    return reactor
