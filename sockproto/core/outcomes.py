"""What a handshake can decide: :class:`Accept` or :class:`Reject`. Both are values, and frozen."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Accept:
    """
    The peer may go on.

    Attributes:
        reply: The last bytes of the handshake, sent before anything else.
        identity: Who the peer turned out to be, for logs and for the session; None if nobody asked.
        session: Which of ``peer.sessions`` follows. None takes the default one, or the only one.
        result: Whatever the caller of :func:`sockproto.connect` is to be given.

    Raises:
        TypeError: If ``reply`` is not bytes, or ``identity`` neither text nor None.
    """

    reply: bytes = b""
    identity: str | None = None
    session: str | None = None
    result: object = None

    def __post_init__(self) -> None:
        _require_bytes(self.reply)
        # What comes from a peer is bytes, and easily passed on as it is; but a log shows text.
        if self.identity is not None:
            _require_text("identity", self.identity)


@dataclass(frozen=True, slots=True)
class Reject:
    """
    The peer has to go.

    Attributes:
        reply: What it is told, and nothing after it.
        reason: What our own log says; the peer never sees it.

    Raises:
        TypeError: If ``reply`` is not bytes, or ``reason`` no text.
    """

    reply: bytes = b""
    reason: str = "rejected"

    def __post_init__(self) -> None:
        _require_bytes(self.reply)
        _require_text("reason", self.reason)


def _require_bytes(reply: object) -> None:
    if not isinstance(reply, bytes):
        raise TypeError(f"reply must be bytes, got {type(reply).__name__}")


def _require_text(name: str, text: object) -> None:
    if not isinstance(text, str):
        raise TypeError(f"{name} must be str, got {type(text).__name__}: decode it first")
