"""
What can be observed about a connection, and how every connection ends.

Three events, in this order, and for every connection the first and the last exactly once:

- :class:`ConnectionOpened`: a socket is ours;
- :class:`HandshakeEnded`: the verdict; what a log line is made from;
- :class:`ConnectionEnded`: the socket is gone, with its :class:`Ending`.

A connection that is refused before its handshake has a verdict, too: ``refused``. In a dry run of
the admission nobody is, and :class:`RefusalWaived` says who would have been. Two more events,
:class:`AcceptingPaused` and :class:`CapReached`, are about those who have to wait outside.

An observer is any callable that takes an event. Nothing in sockproto logs a connection; logs,
counters and penalties are observers. One that does not want everything says so, and what nobody
wants is not even made::

    class Penalties:
        wants = ("rejected", "timeout", ConnectionEnded)

Its ``wants`` holds classes of events, and reasons for the verdicts with one of these; all verdicts
are :class:`HandshakeEnded`.

Events are named tuples, because one is made for every connection, and a frozen dataclass of as many
fields takes four times as long.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias, get_args

from sockproto.core.facts import Address

Reason = Literal[
    "accepted",  # the handshake said yes
    "rejected",  # the handshake said no
    "timeout",  # the peer was too slow
    "lost",  # the peer left, or the network failed, in the middle
    "probe",  # the peer came and left without a byte, as health checks do
    "limit",  # the peer sent too much, or took too little
    "violation",  # the peer sent what cannot be parsed, or is not TLS where TLS is spoken
    "crashed",  # the plug-in broke: the handshake, the session or its factory
    "refused",  # no room for the peer, or its session declined it
    "shutdown",  # we are stopping
]

Phase = Literal["admission", "proxy", "tls", "handshake", "closing", "session"]


@dataclass(frozen=True, slots=True)
class Ending:
    """
    Why a connection is over.

    Attributes:
        reason: What settled it. Once a handshake has said no, that stays the reason, however the
            goodbye goes; for a session it is ``accepted``, unless the session was cut off.
        phase: How far the connection had got when it was over.
    """

    reason: Reason
    phase: Phase


class ConnectionOpened(NamedTuple):
    """
    A socket is ours.

    Attributes:
        number: Counts the connections of one factory, from 1; ties its events together.
        address: Where the peer is.
        local: Where we are, as it sees us.
    """

    number: int
    address: Address
    local: Address


class HandshakeEnded(NamedTuple):
    """
    The verdict on one connection.

    Attributes:
        number, address, local: As in :class:`ConnectionOpened`.
        reason: What the verdict is.
        phase: In which phase it fell.
        detail: Why, in words for the operator; empty when there is nothing to add. It may contain
            what a peer has sent.
        identity: Who the peer turned out to be, or None.
        session: The name of the session that follows, or None.
        duration: Seconds since the connection was opened.
        received: Bytes that had arrived from the peer.
        error: The exception behind it, or None.
    """

    number: int
    address: Address
    local: Address
    reason: Reason
    phase: Phase
    detail: str
    identity: str | None
    session: str | None
    duration: float
    received: int
    error: BaseException | None


class ConnectionEnded(NamedTuple):
    """
    The socket is gone.

    Attributes:
        number, address, local: As in :class:`ConnectionOpened`.
        ending: Why it is over.
        identity: Who the peer was, or None.
        duration: Seconds since the connection was opened.
    """

    number: int
    address: Address
    local: Address
    ending: Ending
    identity: str | None
    duration: float


class RefusalWaived(NamedTuple):
    """
    A dry run has let somebody in who would have been refused. The handshake begins.

    Attributes:
        number, address, local: As in :class:`ConnectionOpened`.
        detail: Why, in words for the operator: the rule, and the figures.
    """

    number: int
    address: Address
    local: Address
    detail: str


class AcceptingPaused(NamedTuple):
    """
    There is no room for another descriptor, so that accepting rests for a while.

    Told once, however long it takes; clients wait in the kernel's queue meanwhile.

    Attributes:
        local: Where.
        error: What the system said.
    """

    local: Address
    error: OSError


class CapReached(NamedTuple):
    """
    There are as many connections as the admission allows, so that accepting pauses until one goes.

    Told once a pause, and at most once a minute; clients wait in the kernel's queue meanwhile.

    Attributes:
        local: Where.
    """

    local: Address


Event: TypeAlias = (
    AcceptingPaused
    | CapReached
    | ConnectionOpened
    | RefusalWaived
    | HandshakeEnded
    | ConnectionEnded
)
Observer: TypeAlias = Callable[[Event], object]

Wanted: TypeAlias = (
    type[AcceptingPaused | CapReached | ConnectionOpened | RefusalWaived | ConnectionEnded] | Reason
)
"""What an observer may want to be told of: a kind of event, or the verdicts with one reason."""

ALL_WANTED: tuple[Wanted, ...] = (
    AcceptingPaused,
    CapReached,
    ConnectionOpened,
    RefusalWaived,
    ConnectionEnded,
    *get_args(Reason),
)


def wanted_by(observer: Observer) -> tuple[Wanted, ...]:
    """
    What an observer wants to be told of.

    Raises:
        ValueError: If its ``wants`` names what does not exist.
    """
    wanted: list[Wanted] = []
    for each in getattr(observer, "wants", ALL_WANTED):
        if each is HandshakeEnded:
            wanted += get_args(Reason)
        elif each in ALL_WANTED:
            wanted.append(each)
        else:
            raise ValueError(f"{observer!r} wants {each!r}, which is neither an event nor a reason")
    # Each once, or it would be told twice.
    return tuple(dict.fromkeys(wanted))
