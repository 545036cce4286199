"""
Several handshakes on one connection, one after the other; whoever fails one of them has failed.

Wire format: that of the first handshake, then that of the second, and so on. The last bytes of one,
its reply, are sent before the next one begins; bytes that one has not taken are the next one's. To
all of them together there is one peer, with one budget and one handshake clock.

A handshake that takes whatever has come, or reads to the end of the stream, leaves nothing to the
next one: ``welcome`` can only be the last.
"""

from __future__ import annotations

from collections.abc import Sequence

from sockproto.core.errors import ConfigurationError, HandshakeFailed, PeerError, Shutdown
from sockproto.core.exchange import name_of
from sockproto.core.handshake import ClientHandshake, ServerHandshake, Side
from sockproto.core.outcomes import Accept, Reject
from sockproto.core.peer import Peer

SIDES = ("serve", "connect")


class Chain:
    """
    Shake hands several times, one after the other: chain:ONE:TWO.

    The first ``Reject`` is the verdict. If all accept, so does the chain: with the reply of the
    last one; with the identities that were found, each once, in order and with a comma between two;
    and with the session and the result of the last one that has any.

    A chain has the sides that all its links have.

    Args:
        handshakes: The links.

    Raises:
        ConfigurationError: If there is none, or no side that all of them have.
    """

    def __init__(self, *handshakes: ServerHandshake | ClientHandshake) -> None:
        if not handshakes:
            raise ConfigurationError(
                r"chain needs the handshakes that it consists of, like chain:passphrase\:file=word:"
                "negotiate"
            )
        self._links: dict[str, list[Side]] = {}
        for name in SIDES:
            sides = [getattr(each, name, None) for each in handshakes]
            self._links[name] = [side for side in sides if callable(side)]
            if len(self._links[name]) < len(sides):
                # Whoever needs a side looks for it, and must not find ours.
                setattr(self, name, None)
        if all(getattr(self, name) is None for name in SIDES):
            kinds = ", ".join(type(each).__name__ for each in handshakes)
            raise ConfigurationError(f"chain has no side: none is common to {kinds}")

    async def serve(self, peer: Peer) -> Accept | Reject:
        """Have the peer pass one after the other."""
        return await _shake(peer, self._links["serve"])

    async def connect(self, peer: Peer) -> Accept | Reject:
        """Pass one after the other."""
        return await _shake(peer, self._links["connect"])


async def _shake(peer: Peer, sides: Sequence[Side]) -> Accept | Reject:
    whole = Accept()
    identities: dict[str, None] = {}
    for side in sides:
        peer.send(whole.reply)
        outcome = await _play(side, peer)
        if isinstance(outcome, Reject):
            return outcome
        if outcome.identity is not None:
            identities[outcome.identity] = None
        whole = Accept(
            outcome.reply,
            ",".join(identities) if identities else None,
            whole.session if outcome.session is None else outcome.session,
            whole.result if outcome.result is None else outcome.result,
        )
    return whole


async def _play(side: Side, peer: Peer) -> Accept | Reject:
    """Run one link; if it breaks, it is named, and not the chain."""
    try:
        outcome = await side(peer)
    except (PeerError, HandshakeFailed, Shutdown):
        raise
    except Exception as error:
        raise HandshakeFailed(name_of(side), f"raised {error!r}") from error
    if not isinstance(outcome, Accept | Reject):
        given = "None" if outcome is None else f"a {type(outcome).__name__}"
        raise HandshakeFailed(name_of(side), f"returned {given}, expected Accept or Reject")
    return outcome
