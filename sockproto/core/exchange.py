"""
One run of one side of a handshake, without a network.

A handshake is a coroutine, and an exchange steps it by hand: bytes go in, the coroutine runs until
it wants something that is not there yet, and what it has to say is taken out. No Deferred or task
exists per read, so a step costs less than a microsecond, and a test needs nothing but a call::

    exchange = Exchange(Passphrase(b"sesame").serve)
    exchange.receive_data(b"sesame\\n")
    assert exchange.outcome == Accept(b"OK\\n")
    assert exchange.data_to_send() == b"OK\\n"

What forced the shape of this file:

- A coroutine may wait for a Deferred (a directory, a database). The exchange does not know Twisted,
  so it only says which one (:attr:`Exchange.deferred`); whoever owns the event loop subscribes to
  it once, and reports with :meth:`Exchange.receive_result` or :meth:`Exchange.receive_failure`.
- A coroutine must hear of its end (:meth:`Exchange.throw`), so that its ``finally`` runs; but it
  gets no say any more: whatever it returns then, the outcome is the error that was thrown, and if
  it goes on waiting it is closed.
- Anything may call back into us while the coroutine runs, since it runs other people's code. Bytes
  are then put into the inbox, where it finds them; an end is kept until it stops.
- Every step runs in a context of its own, so that context variables survive from read to read and
  do not leak into the event loop.

Two rules keep the architecture standing. *Everything that decides whether a handshake is over lives
in this file. This file does not know what a socket or a clock is.*
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import copy_context
from os.path import basename
from types import CodeType, CoroutineType, FrameType
from typing import Any

from sockproto.core.errors import (
    HandshakeFailed,
    PeerDisconnected,
    PeerError,
    ProtocolViolation,
)
from sockproto.core.facts import NO_FACTS, Facts
from sockproto.core.handshake import Outcome, Side
from sockproto.core.outcomes import Accept, Reject
from sockproto.core.peer import (
    EXPECTED_TLS,
    GIVE_UP,
    MAX_REFUSALS,
    MORE,
    NOTHING_MORE,
    TLS,
    Peer,
)

MAX_BYTES = 4096
"""How much of the peer a handshake may take, as Conch has it; OpenSSH allows 8192."""

MAX_UNSENT = 65536
"""How much may wait to be sent: Twisted's own write buffer mark, ``FileDescriptor.bufferSize``."""


_OUTCOMES = (Accept, Reject)


class Exchange:
    """
    One run of one side of a handshake.

    Runs at once, up to the first wait, so that a side that speaks first has already spoken.

    Args:
        side: ``handshake.serve`` or ``handshake.connect``.
        facts: What is known about the peer.
        max_bytes: How many bytes the handshake may take before it is over.
        max_unsent: How many bytes may be queued for the peer at once.

    Attributes:
        outcome: None while it runs; then an ``Accept``, a ``Reject``, or the exception that ended
            it: a :class:`~sockproto.core.errors.PeerError`, a
            :class:`~sockproto.core.errors.HandshakeFailed`, or what was thrown. It never changes
            again.
        deferred: The Deferred that the handshake waits for, or None.
        wants_tls: Whether the handshake waits for TLS to be established; then tell it with
            :meth:`tls_started`.
        broken_by_deferred: Whether it broke because a Deferred had failed, before it was awaited or
            later, and not because of anything that the peer has sent.
    """

    __slots__ = (
        "_context",
        "_coroutine",
        "_peer",
        "_reading",
        "_side",
        "_stepping",
        "_thrown",
        "broken_by_deferred",
        "deferred",
        "outcome",
        "wants_tls",
    )

    def __init__(
        self,
        side: Side,
        facts: Facts | None = None,
        max_bytes: int = MAX_BYTES,
        max_unsent: int = MAX_UNSENT,
    ) -> None:
        self.outcome: Outcome | BaseException | None = None
        self.deferred: Any = None
        self.wants_tls = self.broken_by_deferred = False
        self._side = side
        self._peer = Peer(facts or NO_FACTS, max_bytes, max_unsent)
        self._context = copy_context()
        self._coroutine: Any = None
        self._stepping = self._reading = False
        self._thrown: BaseException | None = None
        self._step(self._start, None)

    # What has happened

    def receive_data(self, data: bytes) -> None:
        """Bytes have arrived. After the outcome they are kept for :meth:`unread`."""
        peer = self._peer
        peer._received += len(data)
        if peer._received > peer._max_bytes:
            data = peer._put_by(data)
        peer._inbox += data
        if self._reading:
            self._step(self._coroutine.send, None)
        elif self.wants_tls:
            self.throw(ProtocolViolation(NOTHING_MORE, data))

    def receive_eof(self) -> None:
        """The peer has finished sending."""
        self._peer._eof = True
        if self._reading:
            self._step(self._coroutine.send, None)
        elif self.wants_tls:
            self.throw(PeerDisconnected(self._peer._received, EXPECTED_TLS))

    def tls_started(self, facts: Facts) -> None:
        """
        TLS has been established.

        Args:
            facts: What is known about the peer now; its ``tls`` is set.
        """
        if self.wants_tls:
            self.wants_tls = False
            self._peer._facts = facts
            self._step(self._coroutine.send, None)

    def receive_result(self) -> None:
        """The Deferred has fired; the handshake finds its result there, and goes on."""
        if self.deferred is None:
            return
        self.deferred = None
        self._step(self._coroutine.send, None)

    def receive_failure(self, error: BaseException) -> None:
        """The Deferred has failed; the handshake sees ``error`` raised where it waits."""
        # throw() cancels a Deferred that is not waited for any more, and that
        # makes it fail.
        if self.deferred is None:
            return
        self.deferred = None
        # A failed Deferred that is asked again trips over an assertion of its
        # own, so the error is brought to the coroutine instead.
        self._step(self._coroutine.throw, error)

    def throw(self, error: BaseException) -> None:
        """
        End the handshake from outside: a timeout, a lost connection, a shutdown.

        The coroutine sees ``error`` raised where it waits, so that its ``finally`` runs. The
        outcome is ``error``, unless the coroutine breaks on its way out. A Deferred that it waited
        for is cancelled. Does nothing once there is an outcome.
        """
        if self.outcome is not None:
            return
        self._thrown = error
        if self._stepping:
            return
        deferred, self.deferred = self.deferred, None
        self.wants_tls = False
        self._step(self._coroutine.throw, error)
        if deferred is not None:
            self._cancel(deferred)

    # What comes of it

    def data_to_send(self) -> bytes:
        """Take what is to be sent, the outcome's reply included; a second call gives ``b""``."""
        peer = self._peer
        if not peer._unsent:
            return b""
        data = bytes(peer._outbox)
        peer._outbox = b""
        peer._unsent = 0
        return data

    def unread(self) -> bytes:
        """Take what is left for the session; a second call gives ``b""``."""
        peer = self._peer
        data = bytes(peer._inbox)
        peer._inbox.clear()
        if peer._beyond is not None:
            data += peer._beyond
            peer._beyond = None
        return data

    @property
    def listening(self) -> bool:
        """Whether it waits for bytes, and has nothing to say meanwhile."""
        return self._reading and not self._peer._unsent

    @property
    def has_unread(self) -> bool:
        """Whether anything is left for the session."""
        peer = self._peer
        return bool(peer._inbox or peer._beyond)

    @property
    def received(self) -> int:
        """How many bytes have arrived so far."""
        return self._peer._received

    @property
    def ended(self) -> bool:
        """Whether the peer has finished sending."""
        return self._peer._eof

    @property
    def name(self) -> str:
        """Whose run this is, for messages: ``Passphrase.serve``."""
        return name_of(self._side)

    @property
    def waiting_on(self) -> str | None:
        """What the handshake waits for: ``receive_line(max_bytes=64)``, ``Deferred``, or None."""
        if self.outcome is not None or self._coroutine is None:
            return None
        if self.deferred is not None:
            return type(self.deferred).__name__
        for frame in _frames(self._coroutine):
            if frame.f_code.co_filename == _PEER_FILE:
                return _verb(frame)
        return None

    def __repr__(self) -> str:
        if self.outcome is not None:
            return f"<Exchange of {self.name}: {_brief(self.outcome)}>"
        where = ""
        for frame in _frames(self._coroutine):
            if frame.f_code.co_filename == _PEER_FILE:
                break
            where = f" at {basename(frame.f_code.co_filename)}:{frame.f_lineno}"
        return f"<Exchange of {self.name} waiting on {self.waiting_on}{where}>"

    # The steps

    def _start(self, _: None) -> object:
        coroutine = self._side(self._peer)
        if not isinstance(coroutine, CoroutineType):
            given = type(coroutine).__name__
            trouble = f"gave a {given}, expected a coroutine: is it async def?"
            raise HandshakeFailed(self.name, trouble)
        self._coroutine = coroutine
        return coroutine.send(None)

    def _step(self, resume: Callable[[Any], object], value: object) -> None:
        """Run the coroutine until it waits for something, or is over."""
        self._stepping, self._reading = True, False
        try:
            while True:
                try:
                    awaited: Any = self._context.run(resume, value)
                except StopIteration as stop:
                    value = stop.value
                    if self._thrown is None and isinstance(value, _OUTCOMES):
                        self._conclude(value)
                    else:
                        self._finish(value)
                    return
                except BaseException as error:
                    self._break(error)
                    if isinstance(error, KeyboardInterrupt):
                        raise
                    return
                if self._thrown is not None:
                    # Thrown while it ran, or thrown already and it waits again.
                    if _is_deferred(awaited):
                        awaited.addErrback(lambda _: None)
                        self._cancel(awaited)
                    if resume == self._coroutine.throw and value is self._thrown:
                        self._close(self._thrown)
                        return
                    resume, value = self._coroutine.throw, self._thrown
                elif awaited is MORE:
                    self._reading = True
                    return
                elif awaited is GIVE_UP:
                    trouble = "kept on reading from a peer that gave no more"
                    self._close(HandshakeFailed(self.name, trouble))
                    return
                elif _is_deferred(awaited):
                    self.deferred = awaited
                    return
                elif awaited is TLS:
                    self._thrown = self._peer._unfit_for_tls()
                    if self._thrown is None:
                        self.wants_tls = True
                        return
                    # As if it came a moment later, when nobody could catch it.
                    resume, value = self._coroutine.throw, self._thrown
                else:
                    failed = HandshakeFailed(self.name, _cannot_await(awaited))
                    self._peer._refusals += 1
                    if self._peer._refusals > MAX_REFUSALS:
                        self._close(failed)
                        return
                    resume, value = self._coroutine.throw, failed
        finally:
            self._stepping = False

    def _finish(self, value: object) -> None:
        """The coroutine has returned what it may not return, or too late."""
        if self._thrown is not None:
            self._end(self._thrown)
        else:
            given = "None" if value is None else f"a {type(value).__name__}"
            self._end(HandshakeFailed(self.name, f"returned {given}, expected Accept or Reject"))

    def _conclude(self, outcome: Outcome) -> None:
        """The coroutine has returned an outcome: it stands, unless there is too much in it."""
        peer = self._peer
        reply = outcome.reply
        if reply:
            if peer._unsent + len(reply) > peer._max_unsent:
                limit = f"the limit set by max_unsent is {peer._max_unsent}"
                trouble = f"replied with {len(reply)} bytes, {limit}"
                self._end(HandshakeFailed(self.name, trouble))
                return
            peer._queue(reply)
        session = outcome.session if isinstance(outcome, Accept) else None
        if session is not None and session not in peer.sessions:
            offered = ", ".join(peer.sessions) or "none"
            trouble = f"chose the session {session!r}, which is not on offer: {offered}"
            self._end(HandshakeFailed(self.name, trouble))
            return
        peer._over = True
        self.outcome = outcome

    def _break(self, error: BaseException) -> None:
        """The coroutine has raised."""
        if error is self._thrown or isinstance(error, PeerError | HandshakeFailed):
            # A peer's doing needs no traceback, and the frames in it would
            # keep the peer's bytes alive.
            self._end(error.with_traceback(None))
            return
        failed = HandshakeFailed(self.name, f"raised {_brief(error)}{_raised_at(error)}")
        failed.__cause__ = error
        self.broken_by_deferred = _came_out_of_a_deferred(error)
        self._end(failed)

    def _close(self, outcome: BaseException) -> None:
        """The coroutine would go on, and may not."""
        try:
            self._context.run(self._coroutine.close)
        except BaseException as error:
            self._break(error)
        else:
            self._end(outcome)

    def _cancel(self, deferred: Any) -> None:
        """Nobody waits for it any more."""
        try:
            deferred.cancel()
        except Exception as error:
            # The canceller is the plug-in's, too.
            self._break(error)

    def _end(self, outcome: BaseException) -> None:
        """Nothing that was queued is owed to anybody any more."""
        peer = self._peer
        peer._outbox = b""
        peer._unsent = 0
        peer._over = True
        self.outcome = outcome


def name_of(side: Callable[..., object]) -> str:
    """What a side is called in messages: ``Passphrase.serve``."""
    return getattr(side, "__qualname__", None) or type(side).__name__


_PEER_FILE = Peer.send.__code__.co_filename


def _frames(coroutine: Any) -> list[FrameType]:
    """The frames of a suspended coroutine and of those that it awaits, outermost first."""
    frames = []
    while (frame := getattr(coroutine, "cr_frame", None)) is not None:
        frames.append(frame)
        coroutine = coroutine.cr_await
    return frames


def _is_deferred(awaited: object) -> bool:
    """Whether this is one of Twisted's, told by what it can do: nothing here imports Twisted."""
    return hasattr(awaited, "addErrback") and hasattr(awaited, "cancel")


def _verb(frame: FrameType) -> str:
    """Show the call that a verb's frame came from; bytes only where they cannot be a secret."""
    code: CodeType = frame.f_code
    shown = []
    for name in code.co_varnames[1 : code.co_argcount]:
        value = frame.f_locals[name]
        secret = isinstance(value, bytes | bytearray | memoryview) and name != "delimiter"
        shown.append(f"<{len(value)} bytes>" if secret else f"{name}={value!r}")
    return f"{code.co_name}({', '.join(shown)})"


def _cannot_await(awaited: object) -> str:
    kind = f"{type(awaited).__module__}.{type(awaited).__qualname__}"
    advice = "a handshake awaits its peer's verbs and Deferreds"
    if getattr(awaited, "_asyncio_future_blocking", None) is not None:
        advice = "wrap it in Deferred.fromFuture()"
    return f"awaited {kind}, which nobody here can resume: {advice}"


def _brief(error: object) -> str:
    if not isinstance(error, BaseException):
        return repr(error)
    try:
        words = str(error)
    except Exception:
        words = "(an error that cannot be shown)"
    return f"{type(error).__name__}: {words}" if words else type(error).__name__


def _raised_at(error: BaseException) -> str:
    """The line of the plug-in that raised: the innermost frame not ours, nor a Deferred's."""
    where = ""
    trace = error.__traceback__
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if file not in (_PEER_FILE, __file__) and not _is_of_a_deferred(trace.tb_frame):
            where = f" at {basename(file)}:{trace.tb_lineno}"
        trace = trace.tb_next
    return where


def _came_out_of_a_deferred(error: BaseException | None) -> bool:
    """Whether a Deferred has raised it, or what it was raised over."""
    seen: set[int] = set()
    # One that was raised from itself goes round in a circle.
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        trace = error.__traceback__
        while trace is not None:
            if _is_of_a_deferred(trace.tb_frame):
                return True
            trace = trace.tb_next
        error = error.__cause__ or error.__context__
    return False


def _is_of_a_deferred(frame: FrameType) -> bool:
    """Told by name: nothing here imports Twisted. One that has failed already raises by way of its
    Failure."""
    modules = ("twisted.internet.defer", "twisted.python.failure")
    return frame.f_globals.get("__name__") in modules
