"""
Every exception, by who is to blame.

::

    SockprotoError
        PeerError               the peer broke it
            PeerDisconnected        it left before the handshake was over
            LimitExceeded           it sent too much, or took too little of what it was sent
            ProtocolViolation       it sent what cannot be parsed
            HandshakeTimeout        it was too slow (a TimeoutError, too)
            Rejected                it said no, or we said no to it
        HandshakeFailed         the plug-in broke it
        Shutdown                nobody did: we are stopping
        ConfigurationError      the operator mistyped (a ValueError, too)
            UnknownHandshake        no such handshake; lists what exists
            UnknownSession          no such session; lists what exists

The words are built here, so that raising is one short line; the values stay in attributes.
"""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches


class SockprotoError(Exception):
    """Anything that sockproto raises on purpose."""


class PeerError(SockprotoError):
    """The peer broke the handshake."""


class PeerDisconnected(PeerError):
    """The peer left before the handshake was over."""

    def __init__(self, received: int, expected: str) -> None:
        super().__init__(f"peer disconnected after {received} bytes, expected {expected}")
        self.received, self.expected = received, expected


class LimitExceeded(PeerError):
    """The peer sent more than we hold, or left more unread than we queue."""

    def __init__(self, limit: int, set_by: str, did: str = "sent more than") -> None:
        super().__init__(f"peer {did} {limit} bytes, the limit set by {set_by}")
        self.limit, self.set_by = limit, set_by


class ProtocolViolation(PeerError):
    """The peer sent something that cannot be what we expected."""

    def __init__(self, expected: str, got: bytes) -> None:
        guess = _guess(got)
        super().__init__(f"expected {expected}, got {shorten(got)}{guess}")
        self.expected, self.got = expected, got


class HandshakeTimeout(PeerError, TimeoutError):
    """The peer was too slow."""

    def __init__(self, seconds: float, set_by: str, waiting_on: str | None = None) -> None:
        where = f" in {waiting_on}" if waiting_on else ""
        what = "nothing heard for" if set_by == "idle_timeout" else "not finished after"
        super().__init__(f"{what} {seconds:g} s{where}, the limit set by {set_by}")
        self.seconds, self.set_by, self.waiting_on = seconds, set_by, waiting_on


class Rejected(PeerError):
    """One side said no. What :func:`sockproto.connect` fails with after a ``Reject``."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"peer rejected the handshake: {reason}")
        self.reason = reason


class HandshakeFailed(SockprotoError):
    """The plug-in broke: it raised, gave nonsense, or awaited what nobody can give it."""

    def __init__(self, name: str, trouble: str) -> None:
        super().__init__(f"{name} {trouble}")
        self.name, self.trouble = name, trouble


class Shutdown(SockprotoError):
    """The handshake was given up because we are stopping."""

    def __init__(self) -> None:
        super().__init__("we are shutting down")


class ConfigurationError(SockprotoError, ValueError):
    """The operator asked for something that cannot be."""


class UnknownHandshake(ConfigurationError):
    """No handshake has that name."""

    kind = "handshake"

    def __init__(self, name: str, known: Sequence[str], trouble: str = "") -> None:
        near = get_close_matches(name, known, n=1)
        guess = f"; did you mean {near[0]!r}?" if near else ""
        why = f" ({trouble})" if trouble else ""
        super().__init__(
            f"unknown {self.kind} {name!r}{why}: the known ones are {', '.join(known)}, "
            f"or give module:attribute{guess}"
        )
        self.name, self.known = name, tuple(known)


class UnknownSession(UnknownHandshake):
    """No session has that name."""

    kind = "session"


def shorten(data: bytes, most: int = 32) -> str:
    """Show a peer's bytes in a message: as a literal, escaped, and never more than ``most``."""
    return repr(data) if len(data) <= most else f"{data[:most]!r}..."


def _guess(got: bytes) -> str:
    """Name the usual stranger that starts a conversation like this."""
    if got.startswith((b"GET ", b"POST ", b"HEAD ", b"PUT ", b"OPTIONS ", b"CONNECT ")):
        return "; is this an HTTP client?"
    # RFC 8446 section 5.1: a handshake record, and its legacy version's first byte.
    if got.startswith(b"\x16\x03"):
        return "; is this a TLS client?"
    if got.startswith(b"SSH-"):
        return "; is this an SSH client?"
    return ""
