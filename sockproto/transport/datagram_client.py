"""
The client's side of a handshake over datagrams: ask, and ask again until there is an answer.

What the handshake says before it begins to read is the question, and goes out as one datagram. It
may get lost, and so may its answer, so it is sent again after a second, after two more, after four
more. The first datagram that comes back is the whole answer.

The socket is connected. So the kernel passes on nothing that anybody else sends, and tells if
nobody is there (the ICMP errors of udp(7)).
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from math import inf
from socket import AF_INET, AF_INET6, AF_UNIX, SO_ERROR, SOCK_DGRAM, SOL_SOCKET, socket
from typing import Any, NamedTuple

from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectError, DNSLookupError, getConnectError
from twisted.internet.interfaces import (
    IAddress,
    IHostResolution,
    IReactorTime,
    IReadDescriptor,
    IResolutionReceiver,
    IWriteDescriptor,
)
from twisted.python.failure import Failure
from zope.interface import implementer

from sockproto.core.errors import (
    ConfigurationError,
    HandshakeFailed,
    HandshakeTimeout,
    Rejected,
    Shutdown,
)
from sockproto.core.exchange import Exchange
from sockproto.core.facts import PeerFacts
from sockproto.core.handshake import ClientHandshake
from sockproto.core.outcomes import Accept, Reject
from sockproto.events import Observer, Reason
from sockproto.limits import DEFAULT_LIMITS, Limits
from sockproto.signatures import cut, unquote
from sockproto.transport.bare import address_from
from sockproto.transport.datagram import MAX_SIZE
from sockproto.transport.datagram_events import Chronicle
from sockproto.transport.factory import side_of
from sockproto.transport.reasons import reason_of
from sockproto.transport.terms import Terms

FIRST_WAIT = 1.0
"""Seconds before the question is sent again; then twice as many, and so on."""

DEFAULT_RETRIES = 3
"""How often it is sent again."""


def ask(
    reactor: Any,
    description: str,
    handshake: ClientHandshake,
    *,
    retries: int = DEFAULT_RETRIES,
    limits: Limits = DEFAULT_LIMITS,
    observers: Iterable[Observer] = (),
    clock: IReactorTime | None = None,
) -> Deferred[Accept]:
    """
    Shake hands over datagrams.

    Args:
        reactor: Twisted's reactor.
        description: Whom to ask: ``udp:127.0.0.1:8001``, or ``unixgram:/run/door``.
        handshake: The rules; it has to begin.
        retries: How often the question is sent again if no answer comes.
        limits: ``handshake_timeout`` is for all of it; ``idle_timeout`` does not count, as the
            answer is the first thing that is heard.
        observers: Who is told of every event.
        clock: Whose time counts; the reactor's unless given.

    Returns:
        A Deferred that fires with the ``Accept``. It fails with
        :class:`~sockproto.core.errors.Rejected` after a ``Reject``, with one of Twisted's
        ``ConnectError`` if nobody is there, or with what else went wrong; cancel it to give up.

    Raises:
        ConfigurationError: If the string is none of these.
        TypeError: If ``handshake`` lacks ``connect``.
    """
    places = _places(description)
    terms = Terms(
        side_of(handshake, "connect"),
        None,
        serving=False,
        limits=limits,
        admission=None,
        observers=observers,
        clock=reactor if clock is None else clock,
    )
    asking = Asking(reactor, terms, retries)
    if isinstance(places, _Host):
        places.look_up(reactor, asking)
    else:
        asking.begin(places)
    return asking.answered


class Place(NamedTuple):
    """Where a datagram can be sent: a family, and an address of it as the socket module has it."""

    family: int
    where: Any


@implementer(IReadDescriptor, IWriteDescriptor)
class Asking:
    """
    One question, until it is answered.

    Args:
        reactor: Twisted's reactor.
        terms: Ours.
        retries: How often it is sent again.

    Attributes:
        answered: Fires with what has come of it.
    """

    def __init__(self, reactor: Any, terms: Terms, retries: int) -> None:
        self.answered: Deferred[Accept] = Deferred(lambda _: self._stop(Shutdown()))
        self._reactor = reactor
        self._terms = terms
        self._retries = retries
        self._wait = FIRST_WAIT
        self._places: list[Place] = []
        self._socket: socket | None = None
        self._chronicle: Chronicle | None = None
        self._exchange: Exchange | None = None
        self._question: bytes | None = None
        self._awaited: Any = None
        self._heard = self._over = False
        self._again: Any = None
        self._end: Any = None
        if terms.limits.handshake_timeout < inf:
            self._end = terms.clock.callLater(terms.limits.handshake_timeout, self._time_out)

    def begin(self, places: list[Place]) -> None:
        """
        Ask.

        Args:
            places: Where; of several, each is asked if nobody is at the one before.
        """
        if self._over:
            return
        self._places = list(places)
        self._reach()
        if self._over or self._socket is None:
            return
        place = self._socket.getpeername()
        facts = PeerFacts(address_from(place), address_from(self._socket.getsockname()))
        self._chronicle = Chronicle(self._terms, facts.address, facts.local)
        self._exchange = Exchange(self._terms.side, facts, self._terms.limits.max_handshake_bytes)
        self._advance()

    def fail(self, error: BaseException) -> None:
        """There is nobody to ask."""
        self._stop(error)

    # As a reader and writer

    def fileno(self) -> int:
        """What the reactor watches."""
        return -1 if self._socket is None else self._socket.fileno()

    def logPrefix(self) -> str:
        """What Twisted's log calls it."""
        return "a question in datagrams"

    def doRead(self) -> None:
        """The answer, or that there will be none."""
        assert self._socket is not None
        try:
            data = self._socket.recv(MAX_SIZE)
        except BlockingIOError:
            return
        except OSError as error:
            self._lose(error)
            return
        exchange = self._exchange
        # Before the question it answers nothing.
        if exchange is not None and self._question is not None and not self._heard:
            self._heard = True
            self._be_still()
            exchange.receive_data(data)
            exchange.receive_eof()
            self._advance()

    def doWrite(self) -> None:
        """There is room for the question."""
        self._reactor.removeWriter(self)
        self._send()

    def connectionLost(self, reason: Failure) -> None:
        """An error is all that there is to be read; or the reactor is done with us, at its end."""
        error = self._socket.getsockopt(SOL_SOCKET, SO_ERROR) if self._socket else 0
        if error:
            self._lose(OSError(error, os.strerror(error)))
        else:
            self._stop(Shutdown())

    # The question

    def _reach(self) -> None:
        """Have a socket that is connected to the next place where that is possible."""
        error: OSError | None = None
        while self._places:
            family, where = self._places.pop(0)
            made = socket(family, SOCK_DGRAM)
            made.setblocking(False)
            try:
                if family == AF_UNIX:
                    # A name of ours to which the answer can be sent: any (unix(7), "Autobind").
                    made.bind(b"")
                made.connect(where)
            except OSError as trouble:
                made.close()
                error = trouble
                continue
            self._socket = made
            self._reactor.addReader(self)
            return
        if error is not None:
            self._stop(getConnectError(error))

    def _lose(self, error: OSError) -> None:
        """Nobody is there; perhaps somebody is elsewhere."""
        self._let_go()
        if not self._places:
            self._stop(getConnectError(error))
            return
        self._reach()
        if self._socket is not None and self._question is not None:
            self._send()

    def _send(self) -> None:
        assert self._socket is not None
        assert self._question is not None
        try:
            self._socket.send(self._question)
        except BlockingIOError:
            # Of a unix socket the queue is short.
            self._reactor.addWriter(self)
        except OSError as error:
            self._lose(error)

    def _send_again(self) -> None:
        self._again = None
        self._expect_silence()
        self._send()

    def _expect_silence(self) -> None:
        """Ask once more if nothing has come by then."""
        if self._retries > 0:
            self._retries -= 1
            self._again = self._terms.clock.callLater(self._wait, self._send_again)
            self._wait *= 2

    # The exchange

    def _advance(self) -> None:
        """Do what the exchange asks for."""
        exchange = self._exchange
        assert exchange is not None
        if exchange.outcome is not None:
            self._conclude(exchange)
        elif exchange.deferred is not None:
            deferred = self._awaited = exchange.deferred
            deferred.addBoth(self._deferred_fired, deferred)
        elif exchange.wants_tls:
            trouble = "called start_tls(), and there is no TLS over datagrams"
            self._stop(HandshakeFailed(exchange.name, trouble))
        else:
            self._question = exchange.data_to_send()
            self._expect_silence()
            self._send()

    def _deferred_fired(self, result: Any, deferred: Any) -> Any:
        failed = isinstance(result, Failure)
        if failed:
            # Whoever else waits for it sees the failure too; then it goes no further.
            deferred.addErrback(lambda _: None)
        exchange = self._exchange
        if exchange is not None and exchange.deferred is deferred:
            if failed:
                exchange.receive_failure(result.value)
            else:
                exchange.receive_result()
            self._advance()
        return result

    def _time_out(self) -> None:
        self._end = None
        exchange = self._exchange
        if exchange is None:
            waiting_on: str | None = "the look-up of its name"
        elif self._question is None:
            waiting_on = exchange.waiting_on
        else:
            waiting_on = "waiting for an answer (a rejection may be silent)"
        seconds = self._terms.limits.handshake_timeout
        self._stop(HandshakeTimeout(seconds, "handshake_timeout", waiting_on))

    def _stop(self, error: BaseException) -> None:
        """There will be no answer."""
        exchange = self._exchange
        if exchange is None or exchange.outcome is not None:
            self._finish(error)
        else:
            if exchange.deferred is not None:
                exchange.deferred.addErrback(lambda _: None)
            exchange.throw(error)
            self._conclude(exchange)

    # The end

    def _conclude(self, exchange: Exchange) -> None:
        outcome: Any = exchange.outcome
        said = exchange.data_to_send()
        if said and self._question is None and self._socket is not None:
            # It does not care for an answer.
            self._question = said
            self._send()
        self._finish(Rejected(outcome.reason) if isinstance(outcome, Reject) else outcome)

    def _finish(self, outcome: Any) -> None:
        if self._over:
            return
        self._over = True
        self._be_still()
        self._let_go()
        if self._end is not None:
            self._end.cancel()
            self._end = None
        exchange, chronicle = self._exchange, self._chronicle
        accepted = isinstance(outcome, Accept)
        if exchange is not None and chronicle is not None:
            chronicle.end(
                _reason(outcome),
                "handshake",
                None if accepted else outcome,
                identity=outcome.identity if accepted else None,
                received=exchange.received,
            )
        if accepted:
            self.answered.callback(outcome)
        else:
            self.answered.errback(Failure(outcome))

    def _be_still(self) -> None:
        """Do not ask again."""
        if self._again is not None:
            self._again.cancel()
            self._again = None
        if self._socket is not None:
            self._reactor.removeWriter(self)

    def _let_go(self) -> None:
        gone = self._socket
        if gone is not None:
            self._reactor.removeReader(self)
            self._reactor.removeWriter(self)
            self._socket = None
            gone.close()


def _reason(outcome: Any) -> Reason:
    if isinstance(outcome, Accept):
        return "accepted"
    return "lost" if isinstance(outcome, ConnectError) else reason_of(outcome)


# Where to


@implementer(IResolutionReceiver)
class _Host:
    """A host by its name, and a port."""

    def __init__(self, name: str, port: int) -> None:
        self._name = name
        self._port = port
        self._found: list[Place] = []

    def look_up(self, reactor: Any, asking: Asking) -> None:
        """Find its addresses, and ask there."""
        self._asking = asking
        reactor.nameResolver.resolveHostName(self, self._name, self._port, transportSemantics="UDP")

    def resolutionBegan(self, resolution: IHostResolution) -> None:
        """It may take a while."""

    def addressResolved(self, address: IAddress) -> None:
        """One has been found."""
        host = getattr(address, "host", "")
        self._found.append(_numeric(host, self._port))

    def resolutionComplete(self) -> None:
        """That was all."""
        if self._found:
            self._asking.begin(self._found)
        else:
            self._asking.fail(DNSLookupError(f"no results for hostname lookup: {self._name}"))


def _numeric(host: str, port: int) -> Place:
    return Place(AF_INET6 if ":" in host else AF_INET, (host, port))


def _places(description: str) -> list[Place] | _Host:
    pieces = []
    rest: str | None = description
    while rest is not None:
        piece, rest = cut(rest, ":")
        pieces.append(unquote(piece))
    kind = pieces[0].lower()
    if kind == "unixgram" and len(pieces) == 2 and pieces[1]:
        path = pieces[1]
        return [Place(AF_UNIX, f"\0{path[1:]}" if path[0] == "@" else path)]
    if kind == "udp" and len(pieces) == 3 and pieces[1]:
        host, port = pieces[1], pieces[2]
        if port.isascii() and port.isdigit() and 0 < int(port) < 65536:
            if isIPAddress(host) or isIPv6Address(host):
                return [_numeric(host, int(port))]
            return _Host(host, int(port))
    raise ConfigurationError(
        f"{description!r} is no endpoint for datagrams; write it like udp:127.0.0.1:8001 or "
        "unixgram:/run/door"
    )
