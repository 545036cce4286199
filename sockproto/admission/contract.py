"""What the gate asks before a stranger may start: the contract, for anybody's own rule."""

from __future__ import annotations

from typing import Protocol

from sockproto.core.facts import Address


class Ticket(Protocol):
    """A slot that is taken."""

    def release(self) -> None:
        """Give the slot back. Called exactly once, when the connection is gone."""
        ...


class Admission(Protocol):
    """Decides who may start. Asked before any exchange or plug-in exists for the connection."""

    def admit(self, address: Address) -> Ticket | str:
        """Take a slot for a peer; or refuse it, and say why in words for the operator."""
        ...
