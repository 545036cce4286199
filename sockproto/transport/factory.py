"""What the factories of both sides share: the one signature, and the lives of the sessions."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from inspect import isclass
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import Factory
from twisted.logger import Logger
from twisted.python.failure import Failure

from sockproto.admission.contract import Admission
from sockproto.core.handshake import Side
from sockproto.events import Event, HandshakeEnded, Observer
from sockproto.limits import DEFAULT_LIMITS, Limits
from sockproto.transport.terms import Sessions, Terms

_log = Logger()


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

    Raises:
        TypeError: If ``handshake`` lacks the side that is needed.
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
    ) -> None:
        self._side = side_of(handshake, self.side_name)
        self._session = session
        self._limits = limits
        self._admission = admission
        self._observers = tuple(observers) or (_log_crash,)
        self._clock = clock

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
