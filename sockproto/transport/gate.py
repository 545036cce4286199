"""
One connection's way through: exchange, clocks, hand-over, ending.

A gate is told of bytes, of ends and of time, and tells a *wire* what to do: write, pause, say
goodbye, go. It does not know whether the wire is a Twisted transport or a bare socket, so that both
give the same answers. It decides nothing about the handshake either; the exchange does.

The phases of a gate, in the words of :data:`sockproto.events.Phase`::

    (proxy) → admission → (tls) → handshake → closing → gone
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
from random import random
from typing import Any

from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure

from sockproto.admission.contract import Admission, Capped, Refusal, Ticket
from sockproto.core.errors import (
    HandshakeFailed,
    HandshakeTimeout,
    LimitExceeded,
    PeerDisconnected,
    PeerError,
    Rejected,
    Shutdown,
)
from sockproto.core.exchange import MAX_UNSENT, Exchange
from sockproto.core.facts import Facts, PeerFacts, TlsFacts
from sockproto.core.outcomes import Accept, Reject
from sockproto.core.peer import EXPECTED_TLS
from sockproto.events import (
    ConnectionEnded,
    ConnectionOpened,
    Ending,
    HandshakeEnded,
    Phase,
    Reason,
    RefusalWaived,
)
from sockproto.transport.closing import say_goodbye
from sockproto.transport.contract import Wire
from sockproto.transport.deadlines import NOT_FILED
from sockproto.transport.lease import Lease
from sockproto.transport.proxy import ProxyParser, ProxyPolicy
from sockproto.transport.reasons import broke, is_openssls, reason_of
from sockproto.transport.terms import Terms

JITTER = 0.1
"""The part of a handshake's deadline that is added at random: a herd should not leave as one."""

MAX_TURNED_AWAY = 64
"""
How many who were refused are waited for until they have heard why. They hold a descriptor beyond
the cap that they were refused at; any more are told, and left at once.
"""


class Gate:
    """
    One connection, from the moment we have it until it is gone or a session's.

    Args:
        terms: The entrance it comes through.
        wire: What holds its socket.
        facts: What is known about the peer.

    Attributes:
        facts: What is known about the peer; a proxy and TLS add to it.
        phase: How far the connection has got.
        due: When :meth:`deadline_passed` is to be called, on the clock's time.
    """

    __slots__ = (
        "__weakref__",
        "_awaited",
        "_decided",
        "_exchange",
        "_final_due",
        "_heard",
        "_identity",
        "_idle_due",
        "_lease",
        "_lost",
        "_number",
        "_opened",
        "_ours",
        "_over",
        "_paused",
        "_proxy",
        "_reason",
        "_spoke",
        "_stopping",
        "_terms",
        "_ticket",
        "_tls",
        "_wire",
        "bucket",
        "due",
        "facts",
        "phase",
    )

    def __init__(self, terms: Terms, wire: Wire, facts: Facts) -> None:
        self.facts = facts
        self.phase: Phase = "admission"
        self.bucket = NOT_FILED
        self._terms = terms
        self._wire = wire
        self._exchange: Exchange | None = None
        self._awaited: Any = None
        self._ticket: Ticket | None = None
        self._reason: Reason = "lost"
        self._identity: str | None = None
        self._lease: Lease | None = None
        self._lost: Failure | None = None
        self._proxy: ProxyParser | None = None
        self._tls = self._spoke = self._heard = self._paused = self._ours = False
        self._stopping = self._decided = self._over = False
        self._number = next(terms.numbers)
        self._opened = now = terms.clock.seconds()
        limits = terms.limits
        self._idle_due = idle_due = now + limits.idle_timeout
        self._final_due = final_due = now + limits.handshake_timeout * (1 + JITTER * random())
        self.due = idle_due if idle_due < final_due else final_due

    # The way in

    def open(self, tls: bool = False) -> None:
        """
        Let the peer begin, if there is room for it.

        Args:
            tls: Whether TLS has yet to be established; :meth:`tls_established` begins then.
        """
        terms = self._terms
        self._tls = tls
        terms.live[self] = None
        if terms.told[ConnectionOpened]:
            facts = self.facts
            terms.emit(ConnectionOpened(self._number, facts.address, facts.local))
        if terms.proxy is not None:
            self._expect_header(terms.proxy)
        else:
            self._enter()

    def _enter(self) -> None:
        """The peer is who it is: let it begin, if there is room for it."""
        admission = self._terms.admission
        if admission is not None and not self._admitted_by(admission):
            return
        if self._tls:
            self._wait_for_more("tls")
        else:
            self._begin()

    def _wait_for_more(self, phase: Phase) -> None:
        """Something has to be there before the handshake can begin; only one clock runs."""
        self.phase = phase
        self._idle_due = inf
        self.due = self._final_due
        self._terms.deadlines.file(self)
        if self._stopping:
            self._stop(Shutdown())

    def _expect_header(self, policy: ProxyPolicy) -> None:
        """Somebody else's connection comes through a proxy, which says first whose it is."""
        self.phase = "proxy"
        capped = self._terms.capped
        if self.facts.address not in policy.allow_from:
            self._give_up(Rejected("it is no proxy that we believe"), "refused")
        elif capped is None or self._is_held(capped):
            self._proxy = ProxyParser(policy.version)
            self._wait_for_more("proxy")

    def _read_header(self, proxy: ProxyParser, data: bytes) -> None:
        self._heard = True
        try:
            header = proxy.receive_data(data)
        except PeerError as error:
            self._give_up(error)
            return
        if header is None:
            return
        self._proxy = None
        # That was the proxy. The peer itself has yet to say something.
        self._heard = False
        if header.source is not None:
            facts = self.facts
            local = header.destination or facts.local
            self.facts = PeerFacts(header.source, local, None, None, facts.sessions)
        self.phase = "admission"
        held, self._ticket = self._ticket, None
        self._terms.release(held)
        self._listen()
        self._enter()
        if proxy.unread and not self._decided:
            if self._tls:
                self._wire.start_tls(proxy.unread)
            else:
                self.data_received(proxy.unread)

    def _admitted_by(self, admission: Admission) -> bool:
        facts = self.facts
        address = facts.address
        try:
            ticket = admission.admit(address, uid=facts.uid, tls=self._tls)
        except BaseException as error:
            self._give_up(broke("the admission", error))
            return False
        if isinstance(ticket, str):
            self._refuse(ticket)
            return False
        self._ticket = ticket
        if ticket.patience < 1:
            # Under pressure everybody has less time.
            self._final_due = self._opened + (self._final_due - self._opened) * ticket.patience
            self.due = min(self.due, self._final_due)
        if ticket.waived is not None and self._terms.told[RefusalWaived]:
            event = RefusalWaived(self._number, address, facts.local, ticket.waived)
            self._terms.emit(event)
        return True

    def _is_held(self, capped: Capped) -> bool:
        """Take a slot until it is known whose connection it is."""
        try:
            ticket = capped.hold()
        except BaseException as error:
            self._give_up(broke("the admission", error))
            return False
        if isinstance(ticket, str):
            self._refuse(ticket)
            return False
        self._ticket = ticket
        return True

    def _refuse(self, why: str) -> None:
        # Before TLS nothing can be said in words that the peer would understand.
        goodbye = why.goodbye if isinstance(why, Refusal) and not self._tls else b""
        self._give_up(Rejected(str(why)), "refused", goodbye=goodbye)

    def tls_received(self) -> None:
        """Bytes of TLS have arrived. What they say is not for us to read."""
        self._heard = True

    def tls_overflowed(self) -> None:
        """TLS is not established, and the peer has sent more than that may take."""
        self._stop(LimitExceeded(self._terms.limits.max_tls_bytes, "max_tls_bytes"))

    def tls_established(self, tls: TlsFacts) -> None:
        """TLS is there, and with it more is known about the peer."""
        if self.phase != "tls" or self._decided:
            return
        facts = self.facts
        self.facts = PeerFacts(facts.address, facts.local, tls, facts.uid, facts.sessions)
        self._listen()
        exchange = self._exchange
        if exchange is None:
            self._begin()
            return
        self.phase = "handshake"
        exchange.tls_started(self.facts)
        self._advance()
        if not self._decided:
            self._terms.deadlines.file(self)

    def _begin(self) -> None:
        terms = self._terms
        self.phase = "handshake"
        try:
            exchange = Exchange(terms.side, self.facts, terms.limits.max_handshake_bytes)
        except BaseException as error:
            # A KeyboardInterrupt: the one that an exchange lets through.
            self._give_up(broke("the handshake", error))
            raise
        self._exchange = exchange
        # What its first step has brought upon itself had to wait for it.
        if self._lost is not None:
            self.wire_lost(self._lost)
        elif self._stopping:
            self._stop(Shutdown())
        elif not exchange.listening:
            self._advance()
        if not self._decided:
            terms.deadlines.file(self)

    # What the wire tells

    def data_received(self, data: bytes) -> None:
        """Bytes have arrived. After the verdict nobody listens to them any more."""
        exchange = self._exchange
        if exchange is not None:
            exchange.receive_data(data)
            self._advance()
            if self._awaited is None and not self._decided and self.phase == "handshake":
                self._listen()
        elif self._proxy is not None:
            self._read_header(self._proxy, data)

    def eof_received(self) -> None:
        """The peer has finished sending, and may still be reading."""
        if self._exchange is not None:
            self._exchange.receive_eof()
            self._advance()
        elif self.phase == "closing":
            # The peer has finished, too.
            self._wire.close()
        elif not self._decided and self.phase in ("proxy", "tls"):
            self._lose_early(Failure(ConnectionDone()))
            self._wire.leave()

    def write_stalled(self) -> None:
        """The peer does not read, and more waits for it than a handshake may queue."""
        self._stop(LimitExceeded(MAX_UNSENT, "the write buffer", "left unread more than"))

    def wire_lost(self, why: Failure) -> None:
        """The socket is gone."""
        exchange = self._exchange
        if exchange is not None and self.phase == "handshake":
            self._lose_handshake(exchange, why)
        elif not self._decided:
            if self.phase == "handshake":
                self._lost = why
                return
            self._lose_early(why)
        self._end()

    # What time tells

    def deadline_passed(self) -> None:
        """One of the clocks has run out."""
        if self._decided:
            # The peer has had its time.
            self._wire.abort()
            return
        limits, exchange = self._terms.limits, self._exchange
        # Nobody but us is slow.
        self._ours = self._awaited is not None
        if self._proxy is not None:
            waiting_on: str | None = self._proxy.expected
        elif self.phase == "tls" or exchange is None:
            waiting_on = EXPECTED_TLS
        else:
            waiting_on = exchange.waiting_on
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
        self._idle_due = due = terms.clock.seconds() + terms.limits.idle_timeout
        self.due = due if due < self._final_due else self._final_due

    def _advance(self) -> None:
        """Do what the exchange asks for, until it waits or is over."""
        exchange = self._exchange
        if exchange is None:
            # Its last step has lost the wire.
            return
        if exchange.outcome is None:
            data = exchange.data_to_send()
            if data:
                self._spoke = True
                self._wire.write(data)
        # To write may have been what ends it.
        if exchange.outcome is not None:
            self._decide(exchange)
        elif exchange.deferred is not None:
            self._follow(exchange)
        elif exchange.wants_tls:
            self._upgrade(exchange)

    def _follow(self, exchange: Exchange) -> None:
        """Wait for the Deferred that the exchange waits for."""
        # Before we subscribe: it may have fired by now, and then all is different.
        beyond = exchange.received > self._terms.limits.max_handshake_bytes
        if beyond and not self._paused and not exchange.ended:
            self._paused = True
            self._wire.pause_reading()
        if exchange.deferred is not self._awaited:
            self._awaited = exchange.deferred
            self._idle_due = inf
            self.due = self._final_due
            self._awaited.addBoth(self._deferred_fired, self._awaited)

    def _upgrade(self, exchange: Exchange) -> None:
        """Have TLS established in the middle of the handshake."""
        if self._terms.tls is None:
            trouble = "called start_tls(), but nothing says how: give tls=… beside the handshake"
            self._stop(HandshakeFailed(exchange.name, trouble))
            return
        self.phase = "tls"
        # What TLS reads we do not see.
        self._idle_due = inf
        self.due = self._final_due
        self._wire.start_tls(b"")

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
                # It broke by what failed, and not by what the peer has sent.
                self._ours = isinstance(exchange.outcome, HandshakeFailed)
            else:
                exchange.receive_result()
            self._advance()
            if not self._decided:
                self._terms.deadlines.file(self)
        return result

    def _resume_reading(self) -> None:
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
        elif self.phase in ("proxy", "tls") and not self._decided:
            self._terms.deadlines.withdraw(self)
            self._give_up(error)

    # The verdict

    def _decide(self, exchange: Exchange) -> None:
        """There is an outcome: act on it, once."""
        if self._decided:
            return
        self._decided = True
        if self.bucket != NOT_FILED:
            self._terms.deadlines.withdraw(self)
        self._awaited = None
        outcome = exchange.outcome
        if isinstance(outcome, Accept) and self._terms.sessions:
            self._admit(exchange, outcome)
            return
        self._exchange = None
        if self._paused:
            self._resume_reading()
        self._settle(exchange, outcome)
        if isinstance(outcome, Accept):
            # It is owed nothing more; but if it talks on, a close would reset it.
            self._say_goodbye(exchange, exchange.has_unread)
        elif isinstance(outcome, Reject):
            self._say_goodbye(exchange, True)
        elif isinstance(outcome, Shutdown) and self._may_answer:
            self._part()
        else:
            self._wire.leave()

    @property
    def _may_answer(self) -> bool:
        """Whether the peer may be about to answer us; one that has done no wrong is not reset."""
        return self.phase == "handshake" and (self._spoke or self.facts.tls is not None)

    def _part(self) -> None:
        """Go at once, but with a FIN before anything else, so that the peer finds an end."""
        self._wire.half_close()
        if not self._over:
            self._wire.close()
        if not self._over:
            self._keep_bound()

    def _admit(self, exchange: Exchange, accept: Accept) -> None:
        """The peer is accepted into a session: have it built, and step aside."""
        # The exchange stays until then, to keep what comes meanwhile for the session.
        wire = self._wire
        if self._paused:
            self._resume_reading()
        try:
            session = wire.build_session(self._terms.choose(accept.session))
        except BaseException as error:
            self._give_up(broke("the session's factory", error), exchange=exchange)
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

    def move_to(self, wire: Wire) -> None:
        """Another wire has the socket now."""
        self._wire = wire

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
        self._terms.live[lease] = None
        self._terms.live.pop(self, None)
        return lease

    def _say_goodbye(self, exchange: Exchange, linger: bool) -> None:
        self.phase = "closing"
        say_goodbye(self._wire, exchange.data_to_send(), linger and not exchange.ended)
        if not self._over:
            self._keep_bound()

    def _keep_bound(self) -> None:
        """See to it that the peer has no longer than the close timeout."""
        terms = self._terms
        self.due = terms.clock.seconds() + terms.limits.close_timeout
        terms.deadlines.file(self)

    def _give_up(
        self,
        error: BaseException,
        reason: Reason | None = None,
        exchange: Exchange | None = None,
        goodbye: bytes = b"",
    ) -> None:
        """Let the peer go without its handshake's word: it is not that which has failed."""
        if self._over:
            return
        self._exchange = self._proxy = None
        detail = error.reason if isinstance(error, Rejected) else str(error)
        self._report(reason or reason_of(error), detail, error, exchange)
        self._wire.concluded(error, None)
        if goodbye:
            self._turn_away(goodbye)
        else:
            self._wire.leave()

    def _turn_away(self, goodbye: bytes) -> None:
        """Say why there is no room, and wait only for some to hear it: they are not counted."""
        turned_away = self._terms.turned_away
        self.phase = "closing"
        if len(turned_away) < MAX_TURNED_AWAY:
            turned_away[self] = None
            say_goodbye(self._wire, goodbye, True)
            if not self._over:
                self._keep_bound()
        else:
            self._wire.write(goodbye)
            self._part()

    def _lose_early(self, why: Failure) -> None:
        """The peer has left while something else had to be there first."""
        proxy, exchange = self._proxy, self._exchange
        error: Any = why.value
        self._proxy = self._exchange = None
        serving = self._terms.serving
        reason: Reason = "probe" if serving and exchange is None else "lost"
        detail = ""
        if is_openssls(error):
            reason, detail = "violation", f"no TLS: {error}"
        elif proxy is not None and proxy.received:
            error = PeerDisconnected(proxy.received, proxy.expected)
            reason, detail = "lost", str(error)
        elif exchange is not None:
            error = PeerDisconnected(exchange.received, EXPECTED_TLS)
            detail = str(error)
        if exchange is not None:
            _throw(exchange, error)
        self._report(reason, detail, error, exchange)
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
        # A Deferred that had failed already is not waited for, and makes it break as well.
        self._ours = self._ours or exchange.broken_by_deferred
        reason = reason_of(outcome)
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
        self._decided = True
        self._reason = reason
        if accept is not None:
            self._identity = accept.identity
        terms = self._terms
        if self._ticket is not None:
            silent = not self._heard and (exchange is None or not exchange.received)
            terms.settle(self._ticket, reason, silent, self._ours)
        if not terms.told[reason] and reason != "crashed":
            return
        facts = self.facts
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
        terms = self._terms
        if self.bucket != NOT_FILED:
            terms.deadlines.withdraw(self)
        if self._ticket is not None:
            terms.release(self._ticket)
        if terms.told[ConnectionEnded]:
            facts = self.facts
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
