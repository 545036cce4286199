"""
An exchange over one datagram: its bytes, then their end, then a verdict, all at once.

There is nothing to wait for. A handshake that waits for a Deferred, for TLS or for a session has
been given a sender that it cannot serve here, and rejects it, whatever it would have said.
"""

from __future__ import annotations

from sockproto.core.errors import Rejected, Shutdown
from sockproto.core.exchange import Exchange
from sockproto.core.facts import Address, PeerFacts
from sockproto.core.handshake import Outcome, Side
from sockproto.core.outcomes import Accept, Reject


def speaks_first(side: Side) -> str | None:
    """The name of a handshake that says something before it has been asked; None if it does not."""
    exchange = Exchange(side)
    if isinstance(exchange.outcome, Reject):
        # This is nobody, from nowhere, whom it need not like. It may well listen to others.
        return None
    said = exchange.data_to_send()
    _end(exchange, Shutdown())
    return exchange.name if said else None


def converse(
    side: Side, data: bytes, address: Address, local: Address, uid: int | None, max_bytes: int
) -> tuple[Outcome | BaseException, bytes]:
    """
    Run a handshake over one datagram.

    Args:
        side: ``handshake.serve``.
        data: The datagram.
        address, local, uid: What is known about its sender.
        max_bytes: How many bytes the handshake may take.

    Returns:
        The outcome, and what is to be sent.
    """
    exchange = Exchange(side, PeerFacts(address, local, None, uid, _ANY), max_bytes)
    if not exchange.wants_tls:
        exchange.receive_data(data)
    if not exchange.wants_tls:
        exchange.receive_eof()
    if exchange.outcome is None:
        what = "TLS" if exchange.wants_tls else f"a {exchange.waiting_on}"
        _end(exchange, Rejected(f"{exchange.name} waits for {what}, and a datagram cannot"))
    outcome = exchange.outcome
    assert outcome is not None
    if isinstance(outcome, Accept) and outcome.session is not None:
        chosen = f"{exchange.name} chose the session {outcome.session!r}"
        return Rejected(f"{chosen}, and none follows a datagram"), b""
    return outcome, exchange.data_to_send()


def _end(exchange: Exchange, error: BaseException) -> None:
    """End it. The Deferred that it waits for is cancelled, and fails for nobody."""
    if exchange.deferred is not None:
        exchange.deferred.addErrback(lambda _: None)
    exchange.throw(error)


class _Any(tuple[str, ...]):
    """
    No session is on offer, and yet it is not the exchange that refuses one.

    There, a name that is not on offer is a mistake of the plug-in. Here it may be the sender's
    wish.
    """

    __slots__ = ()

    def __contains__(self, name: object) -> bool:
        return True


_ANY = _Any()
