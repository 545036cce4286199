"""
One connection's way through: exchange, clocks, hand-over, ending.

A gate is told of bytes, of ends and of time, and tells a *wire* what to do: write, pause, say
goodbye, go. It does not know whether the wire is a Twisted transport or a bare socket, so that both
give the same answers. It decides nothing about the handshake either; the exchange does.

The phases of a gate, in the words of :data:`sockproto.events.Phase`::

    admission → (tls) → handshake → closing → gone
                              └──→ session: a lease takes over, and the gate is gone

Two clocks bound everything before the verdict. The idle clock starts anew with every byte, and
stands still while the handshake waits for a Deferred, since then nobody but us is slow. The
handshake clock starts once. With the first alone, a peer that drips a byte now and then stays for
ever; with the second alone, a silent one holds its slot longer than it needs to.

Whatever goes wrong, the gate fails closed: no session begins but after an ``Accept``, and there is
exactly one :class:`~sockproto.events.Ending`.
"""

from __future__ import annotations

from math import inf
from typing import Any, Protocol

from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure

from sockproto.admission.contract import Admission, Ticket
from sockproto.core.errors import (
    HandshakeFailed,
    HandshakeTimeout,
    LimitExceeded,
    PeerDisconnected,
    ProtocolViolation,
    Rejected,
    Shutdown,
)
from sockproto.core.exchange import MAX_UNSENT, Exchange
from sockproto.core.facts import PeerFacts
from sockproto.core.outcomes import Accept, Reject
from sockproto.events import (
    ConnectionEnded,
    ConnectionOpened,
    Ending,
    HandshakeEnded,
    Phase,
    Reason,
)
from sockproto.transport.closing import Closing, Leaving
from sockproto.transport.deadlines import NOT_FILED
from sockproto.transport.lease import Lease
from sockproto.transport.terms import Terms


class Wire(Leaving, Protocol):
    """What a gate needs of the thing that holds the socket."""

    def leave(self) -> None:
        """Be gone at once: with a plain close if nothing is owed, else with an abort."""
        ...

    def pause_reading(self) -> None:
        """Take no more bytes from the network for now."""
        ...

    def resume_reading(self) -> None:
        """Take bytes again."""
        ...

    def build_session(self, factory: Any) -> Any:
        """Have the factory build a session for this peer; None if it declines."""
        ...

    def hand_over(
        self, gate: Gate, session: Any, accept: Accept, early: bytes, *, ended: bool
    ) -> None:
        """
        Make ``session`` the one that the transport talks to, under ``gate.lease(…)``.

        Calls :meth:`concluded` when the session has begun, before it is given a byte; whoever
        waits for the session then sees all that it receives.
        """
        ...

    def concluded(self, verdict: Accept | BaseException, session: Any) -> None:
        """What has come of the handshake; ``session`` has begun, or is None."""
        ...


class Gate:
    """
    One connection, from the moment we have it until it is gone or a session's.

    Args:
        terms: The entrance it comes through.
        wire: What holds its socket.
        facts: What is known about the peer.

    Attributes:
        facts: What is known about the peer; TLS adds to it.
        phase: How far the connection has got.
    """

    __slots__ = (
        "__weakref__",
        "_awaited",
        "_closing",
        "_decided",
        "_exchange",
        "_final_due",
        "_identity",
        "_idle_due",
        "_lease",
        "_lost",
        "_number",
        "_opened",
        "_over",
        "_paused",
        "_reason",
        "_stopping",
        "_terms",
        "_ticket",
        "_wire",
        "bucket",
        "facts",
        "phase",
    )

    def __init__(self, terms: Terms, wire: Wire, facts: PeerFacts) -> None:
        self.facts = facts
        self.phase: Phase = "admission"
        self.bucket = NOT_FILED
        self._terms = terms
        self._wire = wire
        self._exchange: Exchange | None = None
        self._awaited: Any = None
        self._closing: Closing | None = None
        self._ticket: Ticket | None = None
        self._reason: Reason = "lost"
        self._identity: str | None = None
        self._lease: Lease | None = None
        self._lost: Failure | None = None
        self._paused = self._stopping = self._decided = self._over = False
        self._number = next(terms.numbers)
        self._opened = now = terms.clock.seconds()
        self._idle_due = inf
        self._final_due = terms.handshake_deadline(now)

    # The way in

    def open(self, *, tls: bool = False) -> None:
        """
        Let the peer begin, if there is room for it.

        Args:
            tls: Whether TLS has yet to be established; :meth:`tls_established` begins then.
        """
        terms, facts = self._terms, self.facts
        terms.live.add(self)
        terms.emit(ConnectionOpened(self._number, facts.address, facts.local))
        if terms.admission is not None and not self._admitted_by(terms.admission):
            return
        if not tls:
            self._begin()
            return
        self.phase = "tls"
        terms.deadlines.file(self)
        if self._stopping:
            self._stop(Shutdown())

    def _admitted_by(self, admission: Admission) -> bool:
        try:
            admitted = admission.admit(self.facts.address)
        except BaseException as error:
            self._give_up(_broke("the admission", error))
            return False
        if isinstance(admitted, str):
            self._give_up(Rejected(admitted), "refused")
            return False
        self._ticket = admitted
        return True

    def tls_established(self, facts: PeerFacts) -> None:
        """TLS is there, and with it more is known about the peer."""
        if self.phase == "tls" and not self._decided:
            self.facts = facts
            self._begin()

    def _begin(self) -> None:
        terms = self._terms
        self.phase = "handshake"
        self._listen()
        budget = terms.limits.max_handshake_bytes
        self._exchange = Exchange(terms.side, self.facts, max_bytes=budget)
        # What its first step has brought upon itself had to wait for it.
        if self._lost is not None:
            self.wire_lost(self._lost)
        elif self._stopping:
            self._stop(Shutdown())
        else:
            self._advance()
        if not self._decided:
            terms.deadlines.file(self)

    # What the wire tells

    def data_received(self, data: bytes) -> None:
        """Bytes have arrived. After the verdict nobody listens to them any more."""
        exchange = self._exchange
        if exchange is not None:
            if self._awaited is None:
                self._listen()
            exchange.receive_data(data)
            self._advance()

    def eof_received(self) -> None:
        """The peer has finished sending, and may still be reading."""
        if self._exchange is not None:
            self._exchange.receive_eof()
            self._advance()
        elif self._closing is not None:
            self._closing.eof_received()

    def write_stalled(self) -> None:
        """The peer does not read, and more waits for it than a handshake may queue."""
        self._stop(LimitExceeded(MAX_UNSENT, "the write buffer", "left unread more than"))

    def wire_lost(self, why: Failure) -> None:
        """The socket is gone."""
        if self._exchange is not None:
            self._lose_handshake(self._exchange, why)
        elif self.phase == "handshake" and not self._decided:
            self._lost = why
            return
        elif self.phase == "tls" and not self._decided:
            self._lose_tls(why)
        self._end()

    # What time tells

    def next_deadline(self) -> float:
        """When :meth:`deadline_passed` is to be called, on the clock's time."""
        return min(self._idle_due, self._final_due)

    def deadline_passed(self) -> None:
        """One of the clocks has run out."""
        if self._closing is not None:
            self._closing.deadline_passed()
            return
        limits, exchange = self._terms.limits, self._exchange
        waiting_on = "the TLS handshake" if exchange is None else exchange.waiting_on
        if self._idle_due <= self._final_due:
            self._stop(HandshakeTimeout(limits.idle_timeout, "idle_timeout", waiting_on))
        else:
            self._stop(HandshakeTimeout(limits.handshake_timeout, "handshake_timeout", waiting_on))

    def shut_down(self) -> None:
        """We are stopping. A goodbye that is under way has its own bound."""
        self._stopping = True
        self._stop(Shutdown())

    # The exchange

    def _listen(self) -> None:
        """Start the idle clock anew."""
        terms = self._terms
        self._idle_due = terms.clock.seconds() + terms.limits.idle_timeout

    def _advance(self) -> None:
        """Do what the exchange asks for, until it waits or is over."""
        exchange = self._exchange
        if exchange is None:
            # Its last step has lost the wire.
            return
        if exchange.outcome is None:
            data = exchange.data_to_send()
            if data:
                self._wire.write(data)
        if exchange.outcome is not None:
            self._decide(exchange)
            return
        if exchange.deferred is None:
            self._resume_reading()
            return
        # Before we subscribe: it may have fired by now, and then all is different.
        beyond = exchange.received > self._terms.limits.max_handshake_bytes
        if beyond and not self._paused and not exchange.ended:
            self._paused = True
            self._wire.pause_reading()
        if exchange.deferred is not self._awaited:
            self._awaited = exchange.deferred
            self._idle_due = inf
            self._awaited.addBoth(self._deferred_fired, self._awaited)

    def _deferred_fired(self, result: Any, deferred: Any) -> Any:
        failed = isinstance(result, Failure)
        if failed:
            # Whoever else waits for it sees the failure too; then it goes no further.
            deferred.addErrback(lambda _: None)
        exchange = self._exchange
        if exchange is not None and exchange.deferred is deferred:
            self._awaited = None
            self._listen()
            if failed:
                exchange.receive_failure(result.value)
            else:
                exchange.receive_result()
            self._advance()
            if not self._decided:
                self._terms.deadlines.file(self)
        return result

    def _resume_reading(self) -> None:
        if self._paused:
            self._paused = False
            self._wire.resume_reading()

    def _stop(self, error: BaseException) -> None:
        """End what has no verdict yet."""
        exchange = self._exchange
        if exchange is not None:
            _throw(exchange, error)
            # It may be running right now; then it ends with its step.
            if exchange.outcome is not None:
                self._decide(exchange)
        elif self.phase == "tls" and not self._decided:
            self._terms.deadlines.withdraw(self)
            self._give_up(error)

    # The verdict

    def _decide(self, exchange: Exchange) -> None:
        """There is an outcome: act on it, once."""
        if self._decided:
            return
        self._decided = True
        self._terms.deadlines.withdraw(self)
        self._awaited = None
        outcome = exchange.outcome
        if isinstance(outcome, Accept) and self._terms.sessions:
            self._admit(exchange, outcome)
            return
        self._exchange = None
        self._resume_reading()
        self._settle(exchange, outcome)
        if isinstance(outcome, Accept):
            # It is owed nothing more; but if it talks on, a close would reset it.
            self._say_goodbye(exchange, linger=bool(exchange.unread()))
        elif isinstance(outcome, Reject):
            self._say_goodbye(exchange, linger=True)
        else:
            self._wire.leave()

    def _admit(self, exchange: Exchange, accept: Accept) -> None:
        """The peer is accepted into a session: have it built, and step aside."""
        # The exchange stays until then, to keep what comes meanwhile for the session.
        wire = self._wire
        self._resume_reading()
        try:
            session = wire.build_session(self._terms.choose(accept.session))
        except BaseException as error:
            self._give_up(_broke("the session's factory", error), exchange=exchange)
            return
        if self._stopping:
            self._give_up(Shutdown(), exchange=exchange)
            return
        if session is None:
            declined = Rejected("the session's factory declined the peer")
            self._give_up(declined, "refused", exchange=exchange)
            return
        reply = exchange.data_to_send()
        if reply:
            wire.write(reply)
        if self._over:
            return
        self._report("accepted", "", None, exchange, accept)
        self._exchange = None
        self._over = True
        wire.hand_over(self, session, accept, exchange.unread(), ended=exchange.ended)
        if self._stopping and self._lease is not None:
            self._lease.shut_down()

    def lease(self, transport: Any, session: Any) -> Lease:
        """Leave to a lease what is owed until ``session`` is over; the gate is done."""
        self._lease = lease = Lease(
            self._terms,
            self._number,
            self.facts.address,
            self.facts.local,
            self._identity,
            self._opened,
            self._ticket,
            transport,
            session,
        )
        self._terms.live.add(lease)
        self._terms.live.discard(self)
        return lease

    def _say_goodbye(self, exchange: Exchange, *, linger: bool) -> None:
        terms = self._terms
        self.phase = "closing"
        self._idle_due = inf
        self._final_due = terms.clock.seconds() + terms.limits.close_timeout
        reply = exchange.data_to_send()
        self._closing = Closing(self._wire, reply, linger=linger and not exchange.ended)
        if not self._over:
            terms.deadlines.file(self)

    def _give_up(
        self, error: BaseException, reason: Reason | None = None, exchange: Exchange | None = None
    ) -> None:
        """Let the peer go without a word: it is not its handshake that has failed."""
        if self._over:
            return
        self._exchange = None
        detail = error.reason if isinstance(error, Rejected) else str(error)
        self._report(reason or _reason_of(error), detail, error, exchange)
        self._wire.concluded(error, None)
        self._wire.leave()

    def _lose_tls(self, why: Failure) -> None:
        error: Any = why.value
        if type(error).__module__.startswith("OpenSSL"):
            self._report("violation", f"no TLS: {error}", error)
        else:
            self._report("probe" if self._terms.serving else "lost", "", error)
        self._wire.concluded(error, None)

    def _lose_handshake(self, exchange: Exchange, why: Failure) -> None:
        if why.check(ConnectionDone):
            # Over TLS there is no half-close: the end of the stream and the
            # end of the connection are one, and a handshake may wait for it.
            exchange.receive_eof()
        expected = _expected(exchange)
        lost = PeerDisconnected(exchange.received, expected)
        _throw(exchange, lost)
        # Without an outcome it runs right now, and its end has no say any more.
        outcome = exchange.outcome or lost
        if isinstance(outcome, Accept) and self._terms.sessions:
            outcome = lost
        self._exchange = self._awaited = None
        self._settle(exchange, outcome)

    def _settle(self, exchange: Exchange, outcome: Any) -> None:
        """Say what the verdict is."""
        if isinstance(outcome, Accept):
            self._report("accepted", "", None, exchange, outcome)
            self._wire.concluded(outcome, None)
            return
        if isinstance(outcome, Reject):
            outcome = Rejected(outcome.reason)
        reason = _reason_of(outcome)
        detail = outcome.reason if isinstance(outcome, Rejected) else str(outcome)
        if reason in ("rejected", "lost") and self._terms.serving and not exchange.received:
            # It came and left without a byte: it has only looked whether we are there.
            reason = "probe" if exchange.ended or reason == "lost" else reason
        self._report(reason, detail, outcome, exchange)
        self._wire.concluded(outcome, None)

    def _report(
        self,
        reason: Reason,
        detail: str,
        error: BaseException | None = None,
        exchange: Exchange | None = None,
        accept: Accept | None = None,
    ) -> None:
        terms, facts = self._terms, self.facts
        self._decided = True
        self._reason = reason
        if accept is not None:
            self._identity = accept.identity
        terms.emit(
            HandshakeEnded(
                self._number,
                facts.address,
                facts.local,
                reason,
                self.phase,
                detail,
                self._identity,
                None if accept is None else accept.session,
                terms.clock.seconds() - self._opened,
                0 if exchange is None else exchange.received,
                error,
            )
        )

    def _end(self) -> None:
        """The socket is gone, and it was not a session's."""
        if self._over:
            return
        self._over = True
        terms, facts = self._terms, self.facts
        terms.deadlines.withdraw(self)
        terms.release(self._ticket)
        terms.emit(
            ConnectionEnded(
                self._number,
                facts.address,
                facts.local,
                Ending(self._reason, self.phase),
                self._identity,
                terms.clock.seconds() - self._opened,
            )
        )
        terms.ended(self)


def _throw(exchange: Exchange, error: BaseException) -> None:
    """End an exchange. The Deferred that it waits for is cancelled, and fails for nobody."""
    if exchange.deferred is not None:
        # We may not have subscribed yet: a peer that does not read is noticed in the
        # middle of what the exchange's last step has brought about.
        exchange.deferred.addErrback(lambda _: None)
    exchange.throw(error)


def _expected(exchange: Exchange) -> str:
    """What a peer should have waited for, or sent, instead of leaving."""
    if exchange.deferred is not None:
        return "it to wait for us"
    return exchange.waiting_on or "a session to begin"


def _broke(name: str, error: BaseException) -> HandshakeFailed:
    """Somebody else's code broke."""
    failed = HandshakeFailed(name, f"raised {error!r}")
    failed.__cause__ = error
    return failed


def _reason_of(error: BaseException) -> Reason:
    for kind, reason in _REASONS.items():
        if isinstance(error, kind):
            return reason
    return "crashed"


_REASONS: dict[type[BaseException], Reason] = {
    HandshakeTimeout: "timeout",
    LimitExceeded: "limit",
    ProtocolViolation: "violation",
    PeerDisconnected: "lost",
    Rejected: "rejected",
    Shutdown: "shutdown",
}
