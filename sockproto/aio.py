"""
A client without Twisted, for asyncio: connect, shake hands, get a reader and a writer.

::

    from sockproto.aio import connect
    from sockproto.handshakes.passphrase import Passphrase

    reader, writer = await connect(("127.0.0.1", 8471), Passphrase(b"sesame"))
    writer.write(b"hello")

The handshake is the same object that a Twisted program would use, and so are the errors. Only what
needs Twisted is refused: to await a Deferred, and ``start_tls()`` in the middle.
"""

from __future__ import annotations

import asyncio
import ssl
from asyncio import StreamReader, StreamWriter
from math import inf

from sockproto.core.handshake import ClientHandshake, Side
from sockproto.core.outcomes import Accept
from sockproto.standard import TIMEOUT, Attempt, facts_of, too_late

__all__ = ["connect", "shake_hands"]


async def connect(
    address: tuple[str, int] | str,
    handshake: ClientHandshake,
    *,
    timeout: float = TIMEOUT,
    tls: ssl.SSLContext | None = None,
    server_name: str | None = None,
) -> tuple[StreamReader, StreamWriter]:
    """
    Connect, and shake hands.

    Cancelling it, or a failure, closes the connection and leaves nothing behind.

    Args:
        address: A host and a port, or the path of a unix socket.
        handshake: The rules.
        timeout: Seconds for all of it; ``math.inf`` turns it off.
        tls: What to speak TLS with from the first byte on, or None for none.
        server_name: Whose certificate it has to be; the host's, unless given.

    Returns:
        What ``asyncio.open_connection`` gives, with the session's first byte next. What the
        ``Accept`` has to say, :func:`shake_hands` tells.

    Raises:
        OSError: If the server cannot be reached, or TLS fails.
        PeerError: If no session came of it: :class:`~sockproto.core.errors.Rejected` after a
            ``Reject``, :class:`~sockproto.core.errors.HandshakeTimeout` if it took too long, or
            :class:`~sockproto.core.errors.PeerDisconnected`.
        HandshakeFailed: If the handshake broke, or needs Twisted.
    """
    side = handshake.connect
    due = asyncio.get_running_loop().time() + timeout
    try:
        async with asyncio.timeout_at(_bound(due)):
            reader, writer = await _dial(address, tls, server_name)
    except TimeoutError as error:
        where = "connecting" if tls is None else "connecting over TLS"
        raise too_late(error, timeout, where) from error
    try:
        await _shake(reader, writer, side, due, timeout)
    except BaseException:
        # Not close(): over TLS that waits for the server's answer, half a minute if need be.
        writer.transport.abort()
        raise
    return reader, writer


async def shake_hands(
    reader: StreamReader,
    writer: StreamWriter,
    handshake: ClientHandshake,
    *,
    timeout: float = TIMEOUT,
) -> Accept:
    """
    Shake hands on a connection that is there already, with TLS established if there is any.

    The connection stays the caller's, also when this fails.

    Args:
        reader: Where the server is heard.
        writer: Where it hears us.
        handshake: The rules.
        timeout: Seconds for all of it; ``math.inf`` turns it off.

    Returns:
        The ``Accept``, with its ``result`` and its ``identity``.

    Raises:
        PeerError, HandshakeFailed, OSError: As :func:`connect` does.
    """
    due = asyncio.get_running_loop().time() + timeout
    return await _shake(reader, writer, handshake.connect, due, timeout)


async def _dial(
    address: tuple[str, int] | str, tls: ssl.SSLContext | None, server_name: str | None
) -> tuple[StreamReader, StreamWriter]:
    host, port = ("", 0) if isinstance(address, str) else address
    # Without any name an empty one, or asyncio would refuse (loop.create_unix_connection()).
    name = None if tls is None else server_name or host
    if isinstance(address, str):
        return await asyncio.open_unix_connection(address, ssl=tls, server_hostname=name)
    return await asyncio.open_connection(host, port, ssl=tls, server_hostname=name)


async def _shake(
    reader: StreamReader, writer: StreamWriter, side: Side, due: float, timeout: float
) -> Accept:
    tls = writer.get_extra_info("ssl_object")
    attempt = Attempt(side, facts_of(writer.get_extra_info("socket"), tls))
    with attempt.within(timeout):
        async with asyncio.timeout_at(_bound(due)):
            over = False
            while not over:
                over = attempt.is_over()
                data = attempt.data_to_send()
                if data:
                    writer.write(data)
                    await writer.drain()
                if not over:
                    attempt.receive(await reader.read(1))
    return attempt.verdict()


def _bound(due: float) -> float | None:
    return None if due == inf else due
