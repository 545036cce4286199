"""What the gate asks before a stranger may start: the contract, for anybody's own rule."""

from __future__ import annotations

from typing import Protocol

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

    def settled(self, reason: str, *, silent: bool = False) -> None:
        """
        There is a verdict: the connection is not pending any more. Called once, at the verdict.

        Args:
            reason: What it is, as :data:`sockproto.events.Reason` has it.
            silent: Whether not a byte had come from the peer.
        """
        ...

    def release(self) -> None:
        """Give the slot back. Called exactly once, when the connection is gone."""
        ...


class Admission(Protocol):
    """Decides who may start. Asked before any exchange or plug-in exists for the connection."""

    def admit(self, address: Address, *, uid: int | None = None, tls: bool = False) -> Ticket | str:
        """
        Take a slot for a peer; or refuse it, and say why in words for the operator.

        Args:
            address: Where the peer is; behind a proxy, the real one.
            uid: The user id on the other end of a unix socket, or None.
            tls: Whether TLS has to be established before the handshake can begin.
        """
        ...
