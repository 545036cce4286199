"""
Both sides of a handshake against each other, in memory.

::

    assert rehearse(Passphrase(b"sesame")).client == Accept()
"""

from __future__ import annotations

from dataclasses import dataclass

from sockproto.core.errors import shorten
from sockproto.core.exchange import MAX_BYTES
from sockproto.core.facts import PeerFacts
from sockproto.core.handshake import Handshake, Outcome
from sockproto.testing.conversation import Run


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """
    How a rehearsal went.

    Attributes:
        server: The server's outcome: ``Accept``, ``Reject``, or the exception that ended it.
        client: The client's, likewise.
        server_sent: All that the server has said, its outcome's reply included.
        client_sent: All that the client has said, likewise.
        server_unread: What the server has left for its session.
        client_unread: What the client has left for its session.
    """

    server: Outcome | BaseException
    client: Outcome | BaseException
    server_sent: bytes = b""
    client_sent: bytes = b""
    server_unread: bytes = b""
    client_unread: bytes = b""


def rehearse(
    handshake: Handshake,
    *,
    server_facts: PeerFacts | None = None,
    client_facts: PeerFacts | None = None,
    max_bytes: int = MAX_BYTES,
) -> Rehearsal:
    """
    Run ``handshake.serve`` and ``handshake.connect`` against each other until both are over.

    What one side says reaches the other at once and whole. A side that is over hangs up: when its
    last bytes are delivered, the other finds the end of the stream behind them. An exception that
    ends a side is its outcome here, and is not raised. When both await ``start_tls()`` they go on
    as if TLS had been established, with ``peer.tls`` set and nothing encrypted.

    Args:
        handshake: What to rehearse.
        server_facts: What the server knows about the client.
        client_facts: What the client knows about the server.
        max_bytes: The budget of each side, as for :class:`~sockproto.core.exchange.Exchange`.

    Raises:
        AssertionError: If both sides wait and nothing is on its way, or if one waits on a
            Deferred that has not fired.
    """
    server = _Actor(handshake.serve, server_facts, max_bytes)
    client = _Actor(handshake.connect, client_facts, max_bytes)
    while _carry(server, client) or _carry(client, server) or _upgrade(server, client):
        pass
    served, connected = server.exchange.outcome, client.exchange.outcome
    if served is None or connected is None:
        raise AssertionError(
            "the rehearsal is stuck: nothing is on its way\n\n"
            f"  server: {_describe(server)}\n  client: {_describe(client)}"
        )
    return Rehearsal(
        served,
        connected,
        server.sent,
        client.sent,
        server.exchange.unread(),
        client.exchange.unread(),
    )


class _Actor(Run):
    """A side on the stage: its words are carried over to the other one."""

    _carried = 0

    def take(self) -> bytes:
        """What was said since the last time this was asked."""
        data = self.sent[self._carried :]
        self._carried = len(self.sent)
        return data


def _carry(speaker: _Actor, listener: _Actor) -> bool:
    """Bring over what was said, or else the end; False if there was nothing to bring."""
    data = speaker.take()
    if data:
        listener.receive(data)
        return True
    if speaker.exchange.outcome is not None and not listener.exchange.ended:
        listener.end()
        return True
    return False


def _upgrade(server: _Actor, client: _Actor) -> bool:
    """Let both go on if both have asked for TLS; False if they have not."""
    if not (server.exchange.wants_tls and client.exchange.wants_tls):
        return False
    for actor in (server, client):
        actor.start_tls()
    return True


def _describe(actor: _Actor) -> str:
    said = f"has said {shorten(actor.sent)}" if actor.sent else "has said nothing"
    return f"{actor.exchange!r}, {said}"
