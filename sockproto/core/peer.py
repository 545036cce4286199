"""
The other end of the connection, as a handshake sees it: verbs to talk to it, facts about it.

The reading verbs make it impossible to take a chunk for a message: however the stream was cut on
its way, a verb gives the same bytes. Three properties carry that, and every verb has them:

- a verb looks at what has arrived, and either has all it wants, or knows that it never will, or
  waits for more; it never decides on *how much* has arrived so far;
- the budget counts what the handshake has *taken*, and what has arrived only while it still wants
  more, so that a budget is not exceeded by one cut and kept by another;
- a verb sees no further than one byte past the budget, which is as far as it would come if the
  bytes came one by one; what is behind that waits for the session.

``receive_some`` is the one exception, and says so.

A verb waits by suspending its coroutine with :data:`MORE`. It must be resumed with None, by the
exchange that owns the peer; under any other driver (a Deferred of its own, an asyncio task) the
peer would be read from two places at once, so that is refused.
"""

from __future__ import annotations

from collections.abc import Generator
from types import coroutine
from typing import Final, NoReturn

from sockproto.core.errors import (
    LimitExceeded,
    PeerDisconnected,
    PeerError,
    ProtocolViolation,
    shorten,
)
from sockproto.core.facts import Address, Facts, TlsFacts


class _Wanted:
    """What a suspended coroutine may yield to its exchange."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __repr__(self) -> str:
        return self._name


MORE: Final = _Wanted("MORE")
"""Resume me when bytes have arrived, or the end."""

TLS: Final = _Wanted("TLS")
"""Resume me when TLS has been established."""

GIVE_UP: Final = _Wanted("GIVE_UP")
"""Do not resume me: I have been told no too often to have listened."""

MAX_REFUSALS = 100
"""
How often a verb may refuse before the exchange gives up. A handshake that catches
:class:`PeerDisconnected` and reads again would otherwise never let go of the thread.
"""


NOTHING_MORE = "nothing in the clear before TLS"
EXPECTED_TLS = "the TLS handshake"

_NOT_OURS = (
    "a peer's verbs must be awaited by the handshake itself, "
    "not wrapped in a Deferred or a task of their own"
)


class Peer:
    """
    The other end: what a handshake sends to, receives from, and knows.

    Made by an :class:`~sockproto.core.exchange.Exchange`, which is the only one to touch the
    attributes that begin with an underscore.
    """

    __slots__ = (
        "_beyond",
        "_budget",
        "_eof",
        "_facts",
        "_inbox",
        "_max_bytes",
        "_max_unsent",
        "_outbox",
        "_over",
        "_received",
        "_refusals",
        "_unsent",
    )

    def __init__(self, facts: Facts, max_bytes: int, max_unsent: int) -> None:
        self._facts = facts
        self._max_bytes = max_bytes
        self._max_unsent = max_unsent
        self._inbox = bytearray()
        self._beyond: bytearray | None = None
        self._received = 0
        self._budget = max_bytes
        self._eof = False
        self._outbox: bytes | bytearray = b""
        self._unsent = 0
        self._over = False
        self._refusals = 0

    # Facts

    @property
    def address(self) -> Address:
        """Where the peer is."""
        return self._facts.address

    @property
    def local(self) -> Address:
        """Where we are, as the peer sees us."""
        return self._facts.local

    @property
    def tls(self) -> TlsFacts | None:
        """What TLS has established, or None without TLS."""
        return self._facts.tls

    @property
    def uid(self) -> int | None:
        """The user id on the other end of a unix socket, or None."""
        return self._facts.uid

    @property
    def sessions(self) -> tuple[str, ...]:
        """The names of the sessions on offer, from which ``Accept(session=…)`` chooses."""
        return self._facts.sessions

    def __repr__(self) -> str:
        return f"<Peer {self.address}>"

    # Verbs

    def send(self, data: bytes) -> None:
        """
        Send bytes; they leave as soon as the handshake waits for something.

        Raises:
            TypeError: If ``data`` is not bytes.
            LimitExceeded: If more than 64 KiB are queued; a handshake has no need of so much.
            RuntimeError: If the handshake is over: nothing follows a verdict.
        """
        if not isinstance(data, bytes):
            raise TypeError(f"send() takes bytes, got {type(data).__name__}")
        if self._over:
            raise RuntimeError("the handshake is over, nothing can be sent any more")
        if self._unsent + len(data) > self._max_unsent:
            raise LimitExceeded(self._max_unsent, "max_unsent", "was owed more than")
        self._queue(data)

    async def receive_exactly(self, count: int) -> bytes:
        """
        Receive ``count`` bytes, neither more nor less.

        Raises:
            LimitExceeded: If ``count`` is more than the handshake's budget.
            PeerDisconnected: If the peer leaves first.
        """
        if count < 0:
            raise ValueError(f"count must be at least 0, got {count}")
        while len(self._inbox) < count:
            if not await self._more():
                await self._refuse(PeerDisconnected(self._received, f"{count} bytes"))
        if count > self._budget:
            await self._overdraw()
        return self._take(count)

    async def receive_until(self, delimiter: bytes, max_bytes: int) -> bytes:
        """
        Receive everything up to a delimiter, and drop the delimiter.

        Bytes after the delimiter stay unread; the session will get them.

        Args:
            delimiter: Marks the end, for example ``b"\\n"``.
            max_bytes: The most we are willing to hold, delimiter not counted.

        Raises:
            LimitExceeded: If no delimiter shows up within ``max_bytes``.
            PeerDisconnected: If the peer leaves first.
        """
        if not delimiter:
            raise ValueError("delimiter must not be empty")
        inbox = self._inbox
        furthest = max_bytes + len(delimiter)
        searched = 0
        while (end := inbox.find(delimiter, searched, furthest)) < 0:
            if len(inbox) >= furthest:
                await self._refuse(LimitExceeded(max_bytes, "max_bytes"))
            # What has been searched is not searched again, or a line that comes
            # byte by byte would cost the square of its length.
            searched = max(0, len(inbox) - len(delimiter) + 1)
            if not await self._more():
                await self._refuse(PeerDisconnected(self._received, shorten(delimiter)))
        if end + len(delimiter) > self._budget:
            await self._overdraw()
        return self._take(end + len(delimiter))[:end]

    async def receive_line(self, max_bytes: int) -> bytes:
        """
        Receive a line, and drop the LF or CRLF that ends it.

        Args:
            max_bytes: The most we are willing to hold, line ending not counted.

        Raises:
            LimitExceeded: If the line is longer than ``max_bytes``.
            PeerDisconnected: If the peer leaves first.
        """
        inbox = self._inbox
        searched = 0
        while (end := inbox.find(b"\n", searched, max_bytes + 2)) < 0:
            # One byte past the most may still turn out to be the CR of a CRLF.
            if len(inbox) >= max_bytes + 2:
                await self._refuse(LimitExceeded(max_bytes, "max_bytes"))
            searched = len(inbox)
            if not await self._more():
                await self._refuse(PeerDisconnected(self._received, "a line"))
        text_end = end - 1 if end and inbox[end - 1] == 0x0D else end
        if text_end > max_bytes:
            await self._refuse(LimitExceeded(max_bytes, "max_bytes"))
        if end >= self._budget:
            await self._overdraw()
        return self._take(end + 1)[:text_end]

    async def receive_frame(self, prefix_size: int, max_bytes: int) -> bytes:
        """
        Receive a frame: a big-endian length, then so many bytes.

        Args:
            prefix_size: How many bytes the length has: 1, 2 or 4.
            max_bytes: The most we are willing to hold, length not counted.

        Raises:
            LimitExceeded: If the length says more than ``max_bytes``; nothing is waited for then.
            PeerDisconnected: If the peer leaves first.
        """
        if prefix_size not in (1, 2, 4):
            raise ValueError(f"prefix_size must be 1, 2 or 4, got {prefix_size}")
        length = int.from_bytes(await self.receive_exactly(prefix_size), "big")
        if length > max_bytes:
            await self._refuse(LimitExceeded(max_bytes, "max_bytes"))
        return await self.receive_exactly(length)

    async def receive_netstring(self, max_bytes: int) -> bytes:
        """
        Receive a netstring: ``5:hello,`` (https://cr.yp.to/proto/netstrings.txt).

        Args:
            max_bytes: The most we are willing to hold, length, colon and comma not counted.

        Raises:
            ProtocolViolation: If that is not a netstring; a length with a leading zero is none.
            LimitExceeded: If the length says more than ``max_bytes``; nothing is waited for then.
            PeerDisconnected: If the peer leaves first.
        """
        inbox = self._inbox
        max_digits = len(str(max_bytes))
        while True:
            colon = inbox.find(b":", 0, max_digits + 1)
            digits = bytes(inbox[: max_digits + 1 if colon < 0 else colon])
            # isdigit() on bytes knows ASCII only, as the format does.
            proper = digits.isdigit() and not (digits[0] == 0x30 and len(digits) > 1)
            if not proper and (digits or colon == 0):
                await self._refuse(ProtocolViolation("a netstring", bytes(inbox[:64])))
            if len(digits) > max_digits or (colon > 0 and int(digits) > max_bytes):
                await self._refuse(LimitExceeded(max_bytes, "max_bytes"))
            if colon > 0:
                break
            if not await self._more():
                await self._refuse(PeerDisconnected(self._received, "a netstring"))
        end = colon + 1 + int(digits)
        while len(inbox) <= end:
            if not await self._more():
                await self._refuse(PeerDisconnected(self._received, "the rest of a netstring"))
        if inbox[end] != 0x2C:
            got = bytes(inbox[end : end + 16])
            await self._refuse(ProtocolViolation("a comma after a netstring", got))
        if end >= self._budget:
            await self._overdraw()
        return self._take(end + 1)[colon + 1 : end]

    async def expect(self, wanted: bytes) -> bool:
        """
        Receive ``wanted``, or find out that something else is coming.

        Returns:
            True, with ``wanted`` consumed; or False at the first byte that differs, with nothing
            consumed, so that another verb can look at what it is.

        Raises:
            TypeError: If ``wanted`` is not bytes, which nothing could equal.
            LimitExceeded: If ``wanted`` is longer than the handshake's budget.
            PeerDisconnected: If the peer leaves before any difference shows.
        """
        if not isinstance(wanted, bytes | bytearray | memoryview):
            raise TypeError(f"expect() takes bytes, got {type(wanted).__name__}")
        inbox = self._inbox
        while True:
            here = min(len(inbox), len(wanted))
            if inbox[:here] != wanted[:here]:
                return False
            if here == len(wanted):
                if here > self._budget:
                    await self._overdraw()
                self._take(here)
                return True
            if not await self._more():
                # Only the length: what is expected may be a secret.
                await self._refuse(PeerDisconnected(self._received, f"{len(wanted)} bytes"))

    async def receive_to_end(self, max_bytes: int) -> bytes:
        """
        Receive everything until the peer has finished sending.

        Args:
            max_bytes: The most we are willing to hold.

        Raises:
            LimitExceeded: If the peer sends more than ``max_bytes``.
        """
        while True:
            if len(self._inbox) > max_bytes:
                await self._refuse(LimitExceeded(max_bytes, "max_bytes"))
            if not await self._more():
                return self._take(len(self._inbox))

    async def receive_some(self, max_bytes: int) -> bytes:
        """
        Receive whatever has arrived: at least one byte, at most ``max_bytes``.

        How much that is depends on how the network has cut the stream, not only on what the peer
        has sent. It is the verb of protocols that were written for one ``recv``; prefer any other.

        Raises:
            PeerDisconnected: If the peer leaves without another byte.
        """
        if max_bytes < 1:
            raise ValueError(f"max_bytes must be at least 1, got {max_bytes}")
        inbox = self._inbox
        while not inbox:
            if not await self._more():
                await self._refuse(PeerDisconnected(self._received, "at least 1 byte"))
        count = len(inbox)
        if count > max_bytes:
            count = max_bytes
        if count > self._budget:
            await self._overdraw()
        return self._take(count)

    async def start_tls(self) -> TlsFacts:
        """
        Upgrade the connection to TLS; what was sent before leaves in the clear.

        The certificates are those of the factory's, or the client's, ``tls=`` argument. From here
        on ``peer.tls`` tells what was established.

        Returns:
            The same.

        Raises:
            ProtocolViolation: If the peer has sent anything in the clear that is still unread. It
                would be read after the upgrade as if it had come through TLS (RFC 3207 section 6),
                so the handshake is over, whoever catches this.
            PeerDisconnected: If the peer has finished sending; likewise.
            RuntimeError: If TLS is established already.
        """
        if self.tls is not None:
            raise RuntimeError("TLS is established already")
        await self._upgrade()
        established = self._facts.tls
        assert established is not None
        return established

    # What the verbs are made of

    def _queue(self, data: bytes) -> None:
        # Most handshakes have one thing to say at a time: no list, no buffer, no copy.
        if self._unsent:
            self._outbox = (
                bytearray(self._outbox) if isinstance(self._outbox, bytes) else self._outbox
            )
            self._outbox += data
        else:
            self._outbox = data
        self._unsent += len(data)

    # A generator, since it is where every byte is waited for: one frame less to resume.
    @coroutine
    def _more(self) -> Generator[_Wanted, object, bool]:
        """Wait until something may have arrived; False if nothing ever will."""
        # Not the end first: whether it is known yet may depend on how long a
        # Deferred took, and the story must not.
        if self._received > self._max_bytes:
            yield from self._overdraw()
        if self._eof:
            return False
        had = self._received
        if (yield MORE) is not None:
            raise RuntimeError(_NOT_OURS)
        return self._received != had or not self._eof

    @coroutine
    def _upgrade(self) -> Generator[_Wanted, object, None]:
        if (yield TLS) is not None:
            raise RuntimeError(_NOT_OURS)

    def _unfit_for_tls(self) -> PeerError | None:
        """What keeps TLS from being spoken from here on."""
        if self._inbox:
            return ProtocolViolation(NOTHING_MORE, bytes(self._inbox[:64]))
        if self._eof:
            return PeerDisconnected(self._received, EXPECTED_TLS)
        return None

    def _put_by(self, data: bytes) -> bytes:
        """Put by what no verb may see of the bytes that have just arrived; give back the rest."""
        visible = max(0, self._max_bytes + 1 - (self._received - len(data)))
        if self._beyond is None:
            self._beyond = bytearray()
        self._beyond += data[visible:]
        return data[:visible]

    def _take(self, count: int) -> bytes:
        """Take what has arrived. Whoever takes has made sure that the budget allows it."""
        self._budget -= count
        inbox = self._inbox
        if count == len(inbox):
            taken = bytes(inbox)
            inbox.clear()
        else:
            taken = bytes(inbox[:count])
            # A bytearray gives up its front in constant time.
            del inbox[:count]
        return taken

    @coroutine
    def _overdraw(self) -> Generator[_Wanted, object, None]:
        yield from self._refuse(LimitExceeded(self._max_bytes, "max_handshake_bytes"))

    @coroutine
    def _refuse(self, error: PeerError) -> Generator[_Wanted, object, NoReturn]:
        self._refusals += 1
        if self._refusals > MAX_REFUSALS:
            yield GIVE_UP
        raise error
