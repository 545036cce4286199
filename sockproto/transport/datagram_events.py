"""The three events of a conversation in datagrams, the same as a connection has."""

from __future__ import annotations

from sockproto.core.errors import Rejected
from sockproto.core.facts import Address
from sockproto.events import (
    ConnectionEnded,
    ConnectionOpened,
    Ending,
    HandshakeEnded,
    Phase,
    Reason,
    RefusalWaived,
)
from sockproto.transport.terms import Terms


class Chronicle:
    """
    Tells the observers of one conversation; of its beginning, when it is made.

    Args:
        terms: Whose observers.
        address: Where the other end is.
        local: Where we are, as it sees us.
    """

    __slots__ = ("_address", "_local", "_number", "_opened", "_terms")

    def __init__(self, terms: Terms, address: Address, local: Address) -> None:
        self._terms = terms
        self._address = address
        self._local = local
        self._number = next(terms.numbers)
        self._opened = terms.clock.seconds()
        if terms.told[ConnectionOpened]:
            terms.emit(ConnectionOpened(self._number, address, local))

    def waive(self, refusal: str) -> None:
        """Tell that it would have been refused, in a dry run."""
        if self._terms.told[RefusalWaived]:
            self._terms.emit(RefusalWaived(self._number, self._address, self._local, refusal))

    def end(
        self,
        reason: Reason,
        phase: Phase,
        error: BaseException | None,
        *,
        identity: str | None = None,
        received: int = 0,
        last: Phase | None = None,
    ) -> None:
        """
        Tell of the verdict, and that this was all.

        Args:
            reason: What the verdict is.
            phase: In which phase it fell.
            error: The exception behind it, or None.
            identity: Who the other end turned out to be, or None.
            received: Bytes that had arrived from there.
            last: How far the conversation had got, if that is further.
        """
        terms = self._terms
        duration = terms.clock.seconds() - self._opened
        if terms.told[reason] or reason == "crashed":
            detail = error.reason if isinstance(error, Rejected) else str(error or "")
            terms.emit(
                HandshakeEnded(
                    self._number,
                    self._address,
                    self._local,
                    reason,
                    phase,
                    detail,
                    identity,
                    None,
                    duration,
                    received,
                    error,
                )
            )
        if terms.told[ConnectionEnded]:
            ending = Ending(reason, last or phase)
            terms.emit(
                ConnectionEnded(
                    self._number, self._address, self._local, ending, identity, duration
                )
            )
