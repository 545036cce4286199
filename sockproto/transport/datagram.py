"""
Handshakes over datagrams: one datagram is the whole conversation, its bytes and then their end.

What the handshake says is one datagram, too. There is no connection, and over UDP anybody can write
anybody's address on an envelope; everything here follows from that:

- A datagram is answered only if the handshake accepts it, and if
  :class:`~sockproto.transport.datagram_answers.Answers` has nothing against it. To what is
  rejected, malformed or too long there is silence: two servers must not answer each other for ever.
- No verdict is told to the admission, or anybody could have anybody penalised.

Over a unix socket the kernel vouches for the sender. There rejects are answered, too, and verdicts
count.
"""

from __future__ import annotations

from collections.abc import Iterable
from socket import MSG_DONTWAIT, MSG_NOSIGNAL, MSG_TRUNC
from typing import Any, NamedTuple

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IListeningPort, IReactorTime, IReadDescriptor
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from sockproto.admission.contract import Admission, Ticket
from sockproto.core.errors import ConfigurationError, LimitExceeded, Rejected
from sockproto.core.facts import Address
from sockproto.core.handshake import ServerHandshake
from sockproto.core.outcomes import Accept, Reject
from sockproto.events import Observer, Phase, Reason
from sockproto.limits import DEFAULT_LIMITS, Limits
from sockproto.transport.bare import address_from
from sockproto.transport.datagram_answers import DEFAULT_AMPLIFICATION, Answers
from sockproto.transport.datagram_events import Chronicle
from sockproto.transport.datagram_exchange import converse, speaks_first
from sockproto.transport.datagram_facts import Envelope, local_address, read_envelope, room_for
from sockproto.transport.descriptions import describe
from sockproto.transport.factory import side_of
from sockproto.transport.facts import twisted_address
from sockproto.transport.reasons import broke, reason_of
from sockproto.transport.sockets import Door
from sockproto.transport.terms import Terms

MAX_DATAGRAMS = 64
"""How many are read in one turn of the reactor. Twisted's own loop has no bound."""

MAX_QUEUE = 1024
"""
How many are read when we stop. The kernel's queue holds a quarter of that, unless it has been told
to hold more (``net.core.rmem_default`` in socket(7)).
"""

MAX_SIZE = 65536
"""The longest datagram that is read, whatever the limits say. None of UDP is as long."""

_SEND_FLAGS = MSG_DONTWAIT | MSG_NOSIGNAL
_log = Logger()


def listen_datagrams(
    reactor: Any,
    description: str,
    handshake: ServerHandshake,
    *,
    limits: Limits = DEFAULT_LIMITS,
    admission: Admission | None = None,
    observers: Iterable[Observer] = (),
    clock: IReactorTime | None = None,
    max_amplification: float = DEFAULT_AMPLIFICATION,
) -> DatagramPort:
    """
    Serve a handshake over datagrams.

    Args:
        reactor: Twisted's reactor.
        description: ``udp:8001:interface=127.0.0.1``, ``unixgram:/run/door``, or ``systemd:`` and
            ``fd:`` for a datagram socket that is open already; see
            :mod:`sockproto.transport.descriptions` for what they take.
        handshake: The rules; its client has to begin.
        limits: ``max_handshake_bytes`` is the longest datagram; nothing here takes time.
        admission: Who may start; None admits everybody. It had better be another one than that of
            the connections: over UDP senders can be forged, and what it counts against one of them
            would count against who connects from there. A verdict over UDP is never told to it.
        observers: Who is told of every event; each datagram has those of a connection.
        clock: Whose time counts; the reactor's unless given.
        max_amplification: How many bytes are answered to one that was sent, except on loopback.

    Raises:
        ConfigurationError: If that is not possible: one sentence with the string and the reason.
        TypeError: If ``handshake`` lacks ``serve``.
    """
    side = side_of(handshake, "serve")
    try:
        ours = describe(description)
        if ours is None:
            raise ConfigurationError(
                "that is not for datagrams; write it like udp:8001:interface=127.0.0.1 or "
                "unixgram:/run/door"
            )
        if not max_amplification > 0:
            raise ConfigurationError(f"an amplification of {max_amplification:g} is not above 0")
        speaker = speaks_first(side)
        if speaker is not None:
            raise ConfigurationError(
                f"{speaker} speaks first, and over datagrams a server is silent until it is asked; "
                "choose a handshake whose client begins"
            )
        door = ours.open_for_datagrams()
    except ConfigurationError as error:
        raise ConfigurationError(f"cannot listen on {description}: {error}") from error
    terms = Terms(
        side,
        None,
        serving=True,
        limits=limits,
        admission=admission,
        observers=observers,
        clock=reactor if clock is None else clock,
    )
    port = DatagramPort(reactor, door, terms, max_amplification)
    port.startListening()
    return port


@implementer(IListeningPort, IReadDescriptor)
class DatagramPort:
    """
    Answers the datagrams that come to a door.

    Args:
        reactor: Twisted's reactor, of any kind that can watch descriptors.
        door: A datagram socket; ours from now on.
        terms: On which terms senders are answered.
        max_amplification: How many bytes are answered to one, except on loopback.

    Attributes:
        address: Where it is; of a unix socket the path as the operator knows it.
        dropped: How many answers the system has not taken: there was no room, or the sender has
            gone.
    """

    def __init__(
        self,
        reactor: Any,
        door: Door,
        terms: Terms,
        max_amplification: float = DEFAULT_AMPLIFICATION,
    ) -> None:
        self.address = door.address
        self.dropped = 0
        self._name = f"sockproto at {door.address}"
        self._reactor = reactor
        self._door = door
        self._terms = terms
        self._max_size = min(terms.limits.max_handshake_bytes, MAX_SIZE)
        self._room = room_for(door.socket)
        self._vouched = door.address.family == "unix"
        self._answers = Answers(max_amplification, door.address.port)
        self._listening = False

    # As a port

    def startListening(self) -> None:
        """Begin to read."""
        self._listening = True
        self._reactor.addReader(self)

    def stopListening(self) -> Deferred[None]:
        """
        Answer what has come by now, at most :data:`MAX_QUEUE` datagrams, and close.

        Whoever sends to a unix socket of ours meanwhile is told that nobody is there. Over UDP
        what comes too late is lost, as datagrams may be.
        """
        if self._listening:
            self._listening = False
            self._reactor.removeReader(self)
            # Not over UDP: what a shut door has received it could not answer.
            if self._vouched:
                self._door.shut()
            self._read(MAX_QUEUE)
            self._door.close()
        return succeed(None)

    def getHost(self) -> Any:
        """Where it is, as Twisted's address."""
        address = self.address
        if address.family == "unix":
            return twisted_address(address)
        kind = IPv4Address if address.family == "inet" else IPv6Address
        return kind("UDP", address.host, address.port)

    # As a reader

    def fileno(self) -> int:
        """What the reactor watches."""
        return self._door.socket.fileno()

    def logPrefix(self) -> str:
        """What Twisted's log calls it."""
        return self._name

    def doRead(self) -> None:
        """Something has come: answer it, and some of what has come after it."""
        self._read(MAX_DATAGRAMS)

    def _read(self, most: int) -> None:
        for _ in range(most):
            # An observer may have stopped us.
            if self._door.socket.fileno() < 0:
                return
            try:
                received = self._door.socket.recvmsg(self._max_size, self._room)
            except BlockingIOError:
                return
            except OSError:
                # What became of an answer (ICMP, udp(7)) is no trouble of ours.
                continue
            try:
                self._serve(*received)
            except BaseException:
                # The reactor would disconnect the one that raises: the port.
                _log.failure("a datagram broke")

    def connectionLost(self, reason: Failure) -> None:
        """The reactor is done with us, at its end."""
        self.stopListening()

    # A datagram

    def _serve(
        self, data: bytes, ancillary: list[tuple[int, int, bytes]], flags: int, remote: Any
    ) -> None:
        """See a datagram through from its arrival to its ending."""
        envelope = read_envelope(ancillary)
        # A client of a unix socket need not have an address.
        address = address_from(remote or "")
        local = local_address(envelope, self.address)
        chronicle = Chronicle(self._terms, address, local)
        cut = bool(flags & MSG_TRUNC)
        question = _Question(data, cut, envelope, address, local, remote)
        verdict = self._admit(question, chronicle)
        chronicle.end(
            verdict.reason,
            verdict.phase,
            verdict.error,
            identity=verdict.identity,
            received=len(data),
            last="closing" if verdict.answered else None,
        )

    def _admit(self, question: _Question, chronicle: Chronicle) -> _Verdict:
        """Let it begin, if there is room for it."""
        if question.envelope.to_many:
            # Each of them would answer.
            return _refuse("it was sent to a group or to everybody", "admission")
        terms, ticket = self._terms, None
        if terms.admission is not None:
            try:
                admitted = terms.admission.admit(question.address, uid=question.envelope.uid)
            except Exception as error:
                return _Verdict("crashed", broke("the admission", error), "admission")
            if isinstance(admitted, str):
                return _refuse(admitted, "admission")
            ticket = admitted
            if ticket.waived is not None:
                chronicle.waive(ticket.waived)
        try:
            verdict = self._decide(question)
            self._settle(ticket, verdict, question)
            return verdict
        finally:
            terms.release(ticket)

    def _settle(self, ticket: Ticket | None, verdict: _Verdict, question: _Question) -> None:
        if ticket is not None and self._vouched:
            self._terms.settle(ticket, verdict.reason, not question.data)

    def _decide(self, question: _Question) -> _Verdict:
        """Run the handshake, and answer if there is an answer to give."""
        if question.cut:
            return _failed(LimitExceeded(self._max_size, "max_handshake_bytes"))
        data = question.data
        outcome, reply = converse(
            self._terms.side,
            data,
            question.address,
            question.local,
            question.envelope.uid,
            self._max_size,
        )
        # Who has no address cannot be told.
        answered = bool(question.remote)
        if isinstance(outcome, Accept):
            trouble = self._answer(question, reply) if answered else ""
            if trouble:
                return _refuse(trouble, "handshake")
            return _Verdict("accepted", None, "handshake", outcome.identity, answered)
        if isinstance(outcome, Reject):
            answered = answered and self._vouched and bool(reply)
            answered = answered and not self._answer(question, reply)
            return _Verdict("rejected", Rejected(outcome.reason), "handshake", answered=answered)
        return _failed(outcome, data)

    def _answer(self, question: _Question, reply: bytes) -> str:
        """Send an answer; gives why not, if it may not be sent."""
        now = self._terms.clock.seconds()
        trouble = self._answers.refuse(question.address, question.data, reply, now)
        if not trouble:
            try:
                self._door.socket.sendmsg(
                    [reply], question.envelope.answer, _SEND_FLAGS, question.remote
                )
            except OSError:
                # Datagrams get lost; who still wants it asks again.
                self.dropped += 1
        return trouble


class _Question(NamedTuple):
    """A datagram: its bytes, whether some are missing, and where it comes from and came to."""

    data: bytes
    cut: bool
    envelope: Envelope
    address: Address
    local: Address
    remote: Any


class _Verdict(NamedTuple):
    """What has become of a datagram."""

    reason: Reason
    error: BaseException | None
    phase: Phase
    identity: str | None = None
    answered: bool = False


def _refuse(why: str, phase: Phase) -> _Verdict:
    return _Verdict("refused", Rejected(why), phase)


def _failed(error: Any, data: bytes = b".") -> _Verdict:
    """Nobody has said yes or no; an empty datagram has only looked whether we are there."""
    reason = reason_of(error)
    return _Verdict("probe" if reason == "lost" and not data else reason, error, "handshake")
