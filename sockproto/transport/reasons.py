"""From an error to the one word that says why a connection is over."""

from __future__ import annotations

from sockproto.core.errors import (
    HandshakeFailed,
    HandshakeTimeout,
    LimitExceeded,
    PeerDisconnected,
    ProtocolViolation,
    Rejected,
    Shutdown,
)
from sockproto.events import Reason


def broke(name: str, error: BaseException) -> HandshakeFailed:
    """Say of whose code it was that it broke."""
    failed = HandshakeFailed(name, f"raised {error!r}")
    failed.__cause__ = error
    return failed


def reason_of(error: BaseException) -> Reason:
    """The reason of an ending; whatever the peer is not to blame for is ``crashed``."""
    for kind, reason in _REASONS.items():
        if isinstance(error, kind):
            return reason
    return "crashed"


_REASONS: dict[type[BaseException], Reason] = {
    HandshakeTimeout: "timeout",
    LimitExceeded: "limit",
    ProtocolViolation: "violation",
    PeerDisconnected: "lost",
    Rejected: "rejected",
    Shutdown: "shutdown",
}
