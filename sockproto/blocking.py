"""
A client without Twisted, for scripts: connect, shake hands, get an ordinary socket.

::

    from sockproto.blocking import connect
    from sockproto.handshakes.passphrase import Passphrase

    with connect(("127.0.0.1", 8471), Passphrase(b"sesame")) as door:
        door.sendall(b"hello")

The handshake is the same object that a Twisted program would use, and so are the errors. Only what
needs Twisted is refused: to await a Deferred, and ``start_tls()`` in the middle.
"""

from __future__ import annotations

import socket
import ssl
from math import inf
from time import monotonic
from typing import Any

from sockproto.core.handshake import ClientHandshake, Side
from sockproto.core.outcomes import Accept
from sockproto.standard import TIMEOUT, Attempt, facts_of, too_late

__all__ = ["connect", "shake_hands"]


def connect(
    address: tuple[str, int] | str,
    handshake: ClientHandshake,
    *,
    timeout: float = TIMEOUT,
    tls: ssl.SSLContext | None = None,
    server_name: str | None = None,
) -> socket.socket:
    """
    Connect, and shake hands.

    Args:
        address: A host and a port, or the path of a unix socket.
        handshake: The rules.
        timeout: Seconds for all of it; ``math.inf`` turns it off.
        tls: What to speak TLS with from the first byte on, or None for none.
        server_name: Whose certificate it has to be; the host's, unless given.

    Returns:
        The socket, blocking, from which the session's first byte is read next. With ``tls`` it is
        an ``SSLSocket``. What the ``Accept`` has to say, :func:`shake_hands` tells.

    Raises:
        OSError: If the server cannot be reached, or TLS fails.
        PeerError: If no session came of it: :class:`~sockproto.core.errors.Rejected` after a
            ``Reject``, :class:`~sockproto.core.errors.HandshakeTimeout` if it took too long, or
            :class:`~sockproto.core.errors.PeerDisconnected`.
        HandshakeFailed: If the handshake broke, or needs Twisted.
    """
    side = handshake.connect
    due = monotonic() + timeout
    where = "connecting"
    try:
        made = _dial(address, due)
        if tls is not None:
            where = "the TLS handshake"
            made = _speak(tls, made, due, server_name or _host_of(address))
    except TimeoutError as error:
        raise too_late(error, timeout, where) from error
    try:
        _shake(made, side, due, timeout)
        made.settimeout(socket.getdefaulttimeout())
    except BaseException:
        made.close()
        raise
    return made


def shake_hands(
    connected: socket.socket, handshake: ClientHandshake, *, timeout: float = TIMEOUT
) -> Accept:
    """
    Shake hands on a socket that is connected already, with TLS established if there is any.

    The socket stays the caller's, also when this fails. Its timeout is what it was.

    Args:
        connected: The socket; an ``SSLSocket`` will do.
        handshake: The rules.
        timeout: Seconds for all of it; ``math.inf`` turns it off.

    Returns:
        The ``Accept``, with its ``result`` and its ``identity``.

    Raises:
        PeerError, HandshakeFailed, OSError: As :func:`connect` does.
    """
    before = connected.gettimeout()
    try:
        return _shake(connected, handshake.connect, monotonic() + timeout, timeout)
    finally:
        connected.settimeout(before)


def _dial(address: tuple[str, int] | str, due: float) -> socket.socket:
    if isinstance(address, str):
        return _reach(socket.AF_UNIX, address, due)
    host, port = address
    # Not create_connection(): its bound is for each of a host's addresses, and ours is for all.
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    for family, _, _, _, place in found[:-1]:
        try:
            return _reach(family, place, due)
        except OSError:
            # Without time left the last one says so.
            continue
    family, _, _, _, place = found[-1]
    return _reach(family, place, due)


def _reach(family: int, place: Any, due: float) -> socket.socket:
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.settimeout(_left(due))
        made.connect(place)
    except BaseException:
        made.close()
        raise
    return made


def _speak(
    tls: ssl.SSLContext, made: socket.socket, due: float, server_name: str | None
) -> socket.socket:
    try:
        made.settimeout(_left(due))
        return tls.wrap_socket(made, server_hostname=server_name)
    except BaseException:
        made.close()
        raise


def _host_of(address: tuple[str, int] | str) -> str | None:
    return None if isinstance(address, str) else address[0]


def _shake(connected: socket.socket, side: Side, due: float, timeout: float) -> Accept:
    tls = connected if isinstance(connected, ssl.SSLSocket) else None
    attempt = Attempt(side, facts_of(connected, tls))
    with attempt.within(timeout):
        over = False
        while not over:
            over = attempt.is_over()
            data = attempt.data_to_send()
            if data:
                connected.settimeout(_left(due))
                connected.sendall(data)
            if not over:
                connected.settimeout(_left(due))
                attempt.receive(connected.recv(1))
    return attempt.verdict()


def _left(due: float) -> float | None:
    """The seconds that are left, as sockets take them."""
    left = due - monotonic()
    if left <= 0:
        raise TimeoutError
    return None if left == inf else left
