"""What the gate asks before a stranger may start: the contract, for anybody's own rule."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

from sockproto.core.facts import Address


class Ticket(Protocol):
    """A slot that is taken."""

    @property
    def patience(self) -> float:
        """
        How much of its handshake timeout the peer is given: 1 as a rule, less under pressure.

        Above 0, and the same for as long as the ticket lives.
        """
        ...

    @property
    def waived(self) -> str | None:
        """Why the peer would have been refused, in a dry run; None if it was admitted."""
        ...

    def settled(self, reason: str, *, silent: bool = False, ours: bool = False) -> None:
        """
        There is a verdict: the connection is not pending any more. Called once, at the verdict.

        Args:
            reason: What it is, as :data:`sockproto.events.Reason` has it.
            silent: Whether not a byte had come from the peer.
            ours: Whether the fault is ours: a Deferred that the handshake waited for has failed, or
                has not fired in time.
        """
        ...

    def release(self) -> None:
        """Give the slot back. Called exactly once, when the connection is gone."""
        ...


class Refusal(str):
    """
    Why a peer is refused, in words for the operator; and what the peer itself is told.

    Args:
        why: The words for the operator.
        goodbye: Those for the peer. Where TLS comes first they are not said.
    """

    __slots__ = ("goodbye",)

    goodbye: bytes

    def __new__(cls, why: str, goodbye: bytes) -> Refusal:
        refusal = super().__new__(cls, why)
        refusal.goodbye = goodbye
        return refusal


class Admission(Protocol):
    """Decides who may start. Asked before any exchange or plug-in exists for the connection."""

    def admit(self, address: Address, *, uid: int | None = None, tls: bool = False) -> Ticket | str:
        """
        Take a slot for a peer; or refuse it, and say why: in words for the operator, or as a
        :class:`Refusal`, which has some for the peer as well.

        Args:
            address: Where the peer is; behind a proxy, the real one.
            uid: The user id on the other end of a unix socket, or None.
            tls: Whether TLS has to be established before the handshake can begin.
        """
        ...


@runtime_checkable
class Capped(Protocol):
    """An admission that also has a cap on all connections, at which newcomers wait outside."""

    @property
    def has_room(self) -> bool:
        """Whether another connection may be accepted. Asked before each."""
        ...

    def when_room(self, callback: Callable[[], object]) -> None:
        """Have something called once, as soon as there is room; right now if there is."""
        ...

    def hold(self) -> Ticket | str:
        """
        Take a slot for a connection of which nobody knows yet whose it is, or refuse it.

        Given back when it is known, right before :meth:`Admission.admit` is asked.
        """
        ...
