"""From an error to what is said of it: why a connection is over, in a word or in a line."""

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


def is_openssls(error: BaseException | None) -> bool:
    """Whether OpenSSL gave up. Told by name: without TLS, pyOpenSSL need not be there."""
    return type(error).__module__.startswith("OpenSSL")


def in_one_line(error: BaseException | None) -> str:
    """What went wrong; Twisted's connection errors say it in their last sentence."""
    # FilePath's UnlistableError says nothing itself: a folder of trustRoots= that is none.
    error = getattr(error, "originalException", error)
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__


_REASONS: dict[type[BaseException], Reason] = {
    HandshakeTimeout: "timeout",
    LimitExceeded: "limit",
    ProtocolViolation: "violation",
    PeerDisconnected: "lost",
    Rejected: "rejected",
    Shutdown: "shutdown",
}
