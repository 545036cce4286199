"""
What the two clients on the standard library share: :mod:`sockproto.blocking`, :mod:`sockproto.aio`.

Both drive the same :class:`~sockproto.core.exchange.Exchange` as everybody else, and both read one
byte at a time. That is the one way to stop exactly where the handshake stops, with any socket: one
takes nothing back, and what TLS has decrypted cannot be peeked at. So the caller gets an ordinary
socket, or stream, whose next byte is the session's first. A handshake is a few dozen bytes, and
each of them costs some microseconds.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from errno import ENOTCONN
from typing import Any

from sockproto.core.end_point import end_point_of
from sockproto.core.errors import HandshakeFailed, HandshakeTimeout, PeerDisconnected, Rejected
from sockproto.core.exchange import Exchange
from sockproto.core.facts import Address, PeerFacts, TlsFacts
from sockproto.core.handshake import Side
from sockproto.core.outcomes import Accept, Reject
from sockproto.credentials import uid_of

TIMEOUT = 10.0
"""Seconds for all of it, as ``Limits.handshake_timeout`` has it."""


class Attempt:
    """
    One handshake, for whoever reads and writes; ask :meth:`is_over` before each byte.

    Args:
        side: ``handshake.connect``.
        facts: What is known about the server.
    """

    def __init__(self, side: Side, facts: PeerFacts) -> None:
        self._exchange = Exchange(side, facts)

    def is_over(self) -> bool:
        """
        Whether there is a verdict; else the next byte is wanted.

        A handshake that waits for anything but bytes is over: nobody here could give it that.
        """
        exchange = self._exchange
        if exchange.deferred is not None:
            trouble = "awaited a Deferred, and without Twisted nobody fires it"
            # It is cancelled, and fails for nobody.
            exchange.deferred.addErrback(lambda _: None)
            exchange.throw(HandshakeFailed(exchange.name, trouble))
        elif exchange.wants_tls:
            trouble = "called start_tls(), and without Twisted TLS comes first or not at all"
            exchange.throw(HandshakeFailed(exchange.name, trouble))
        return exchange.outcome is not None

    def data_to_send(self) -> bytes:
        """Take what is to be sent now; after the verdict, the last words."""
        return self._exchange.data_to_send()

    def receive(self, data: bytes) -> None:
        """The server has said this, or, with ``b""``, has finished."""
        if data:
            self._exchange.receive_data(data)
        else:
            self._exchange.receive_eof()

    def verdict(self) -> Accept:
        """
        What has come of it.

        Raises:
            PeerError: If the server did not accept us, or we did not accept it.
            HandshakeFailed: If the handshake broke, or has looked at bytes without taking them.
        """
        exchange = self._exchange
        outcome = exchange.outcome
        if isinstance(outcome, Reject):
            raise Rejected(outcome.reason)
        if isinstance(outcome, BaseException):
            raise outcome
        assert outcome is not None
        if exchange.has_unread:
            trouble = "accepted, and left what it had looked at, which no socket takes back"
            raise HandshakeFailed(exchange.name, trouble)
        return outcome

    @contextmanager
    def within(self, timeout: float) -> Iterator[None]:
        """
        Let the handshake hear of its end from outside, whatever it is that is raised in here.

        Args:
            timeout: The bound that a TimeoutError is about.

        Raises:
            HandshakeTimeout: In place of a TimeoutError that is about it.
            PeerDisconnected: In place of a ConnectionError.
        """
        try:
            yield
        except BaseException as error:
            exchange = self._exchange
            told: BaseException = error
            if isinstance(error, TimeoutError):
                told = too_late(error, timeout, exchange.waiting_on)
            elif isinstance(error, ConnectionError):
                expected = exchange.waiting_on or "a session to begin"
                told = PeerDisconnected(exchange.received, expected)
            exchange.throw(told)
            if told is error:
                raise
            raise told from error


def too_late(error: TimeoutError, timeout: float, waiting_on: str | None) -> TimeoutError:
    """The error to raise for one of a bound of ours; the system's own says enough."""
    if error.errno is not None:
        return error
    return HandshakeTimeout(timeout, "timeout", waiting_on)


def facts_of(found: Any, tls: Any) -> PeerFacts:
    """
    What a connected socket tells about the server.

    Args:
        found: The socket, or what asyncio has in its place.
        tls: What speaks TLS on it, an ``SSLSocket`` or an ``SSLObject``; None without TLS.

    Raises:
        PeerDisconnected: If the server has cut the connection already.
    """
    try:
        there = found.getpeername()
    except OSError as error:
        if error.errno != ENOTCONN:
            raise
        raise PeerDisconnected(0, "a handshake") from error
    established = None if tls is None else _tls_facts_of(tls)
    # Not every system has it, and then nobody is there.
    if found.family == getattr(socket, "AF_UNIX", None):
        place = Address("unix", path=_text(there))
        local = Address("unix", path=_text(found.getsockname()))
        return PeerFacts(place, local, established, uid_of(found))
    place = Address.ip(*there[:2])
    return PeerFacts(place, Address.ip(*found.getsockname()[:2]), established)


def _tls_facts_of(tls: Any) -> TlsFacts:
    der = tls.getpeercert(binary_form=True)
    verified = tls.context.verify_mode != ssl.CERT_NONE
    # Empty if it was not verified.
    names = tls.getpeercert().get("subjectAltName", ()) if der else ()
    return TlsFacts(
        alpn=tls.selected_alpn_protocol(),
        names=tuple(name for kind, name in names if kind == "DNS"),
        certificate=der if verified else None,
        end_point=end_point_of(der) if der else b"",
    )


def _text(path: bytes | str) -> str:
    # An abstract name is bytes.
    return path.decode("utf-8", "surrogateescape") if isinstance(path, bytes) else path
