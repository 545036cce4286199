"""
Play bytes into one side of a handshake, cut in every way, and insist on one story.

A network may cut a stream of bytes anywhere, so a handshake that depends on where it was cut works
on a developer's machine and fails elsewhere, sometimes. One call finds that out::

    assert converse(Passphrase(b"sesame").serve, b"sesame\\n") == Accept(b"OK\\n")
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from sockproto.core.errors import ProtocolViolation, shorten
from sockproto.core.exchange import MAX_BYTES, Exchange, name_of
from sockproto.core.facts import NO_FACTS, PeerFacts, TlsFacts
from sockproto.core.handshake import Outcome, Side
from sockproto.testing.cuts import every_cut

NEW_TLS = TlsFacts()
"""What is known about a peer that has asked for TLS and got it."""


@dataclass(frozen=True, slots=True)
class Story:
    """
    What came of playing bytes into one side of a handshake.

    Attributes:
        outcome: An ``Accept``, a ``Reject``, the exception that ended it, or None if it still
            waits.
        sent: All that it has sent, its outcome's reply included.
        unread: What it has left for the session.
        waiting_on: What it still waits for; None if it is over.
    """

    outcome: Outcome | BaseException | None
    sent: bytes = b""
    unread: bytes = b""
    waiting_on: str | None = None


def play(
    side: Side,
    chunks: Iterable[bytes],
    *,
    facts: PeerFacts | None = None,
    eof: bool = True,
    max_bytes: int = MAX_BYTES,
) -> Story:
    """
    Play chunks of bytes into one side of a handshake, in this one cut.

    All chunks are played, also after the outcome; what is left of them is the story's ``unread``.
    A Deferred that the side awaits may have fired before, or fire while the next chunk is made.
    The chunks are in the clear: a side that awaits ``start_tls()`` has heard all it will, and ends
    at the next byte as it would on a network. :func:`~sockproto.testing.rehearse` goes on.

    Args:
        side: ``handshake.serve`` or ``handshake.connect``.
        chunks: What the peer sends.
        facts: What is known about the peer.
        eof: Whether the peer finishes sending then. A side that still waits for bytes hears of
            it, and ends; if False, it is left waiting, and the story has no outcome.
        max_bytes: The handshake's budget, as for :class:`~sockproto.core.exchange.Exchange`.

    Raises:
        AssertionError: If the side ends up waiting on a Deferred that has not fired.
    """
    run = Run(side, facts, max_bytes)
    for chunk in chunks:
        run.receive(chunk)
    if eof:
        run.end()
    exchange = run.exchange
    if exchange.deferred is not None:
        raise AssertionError(
            f"{exchange!r}, which has not fired and which nobody here can fire: "
            "let the handshake await one that has, such as defer.succeed(result)"
        )
    return Story(exchange.outcome, run.sent, exchange.unread(), exchange.waiting_on)


def converse(
    side: Side,
    data: bytes,
    *,
    facts: PeerFacts | None = None,
    eof: bool = True,
    max_bytes: int = MAX_BYTES,
    random_cuts: int = 0,
) -> Outcome:
    """
    Play bytes into one side of a handshake, cut in every way, and insist on one story.

    One story is: the same outcome, the same bytes sent, the same bytes left unread. Outcomes are
    compared as values, exceptions by their type and their words. Two things may differ, because
    they say how far the network was and not what the peer said: how much of the peer's bytes a
    :class:`~sockproto.core.errors.ProtocolViolation` could show, and, where an exception ends the
    story, how much had left before it. What was still queued then is dropped, so one cut may have
    sent less than another, but never something else.

    Args:
        side: ``handshake.serve`` or ``handshake.connect``.
        data: All that the peer sends.
        facts: What is known about the peer.
        eof: Whether the peer finishes sending then, as it should: a side that wants more bytes
            ends in ``PeerDisconnected`` and does not wait for ever.
        max_bytes: The handshake's budget, as for :class:`~sockproto.core.exchange.Exchange`.
        random_cuts: How many random cuts to try after the others, see
            :func:`~sockproto.testing.every_cut`.

    Returns:
        The outcome, if it is an ``Accept`` or a ``Reject``.

    Raises:
        BaseException: The outcome, if it is an exception, so that ``pytest.raises`` sees it.
        AssertionError: If two cuts tell two stories, or if the side has no outcome: it waits on a
            Deferred that has not fired, or for more bytes with ``eof=False``.
    """
    cuts = every_cut(data, random_cuts=random_cuts)
    whole = next(cuts)
    first = play(side, whole, facts=facts, eof=eof, max_bytes=max_bytes)
    for cut in cuts:
        story = play(side, cut, facts=facts, eof=eof, max_bytes=max_bytes)
        if not _agree(first, story):
            raise AssertionError(
                f"{name_of(side)} tells two stories about the same {len(data)} bytes\n\n"
                f"{_tell(whole, first)}\n\n{_tell(cut, story)}"
            )
    if first.outcome is None:
        raise AssertionError(
            f"{name_of(side)} has no outcome: after {len(data)} bytes "
            f"it still waits on {first.waiting_on}"
        )
    if isinstance(first.outcome, BaseException):
        raise first.outcome
    return first.outcome


class Run:
    """One exchange, and what a shell would do for it: collect what it says, bring it results."""

    def __init__(self, side: Side, facts: PeerFacts | None, max_bytes: int = MAX_BYTES) -> None:
        self.exchange = Exchange(side, facts, max_bytes=max_bytes)
        self._facts = facts or NO_FACTS
        self.sent = b""
        self._followed: Any = None
        self._look()

    def receive(self, data: bytes) -> None:
        """The other end has said something."""
        self.exchange.receive_data(data)
        self._look()

    def end(self) -> None:
        """The other end has finished."""
        self.exchange.receive_eof()
        self._look()

    def start_tls(self, tls: TlsFacts = NEW_TLS) -> None:
        """Both ends have asked for TLS: let this one believe that it is there."""
        self.exchange.tls_started(replace(self._facts, tls=tls))
        self._look()

    def _look(self) -> None:
        self.sent += self.exchange.data_to_send()
        deferred = self.exchange.deferred
        if deferred is not None and deferred is not self._followed:
            self._followed = deferred
            deferred.addCallbacks(self._receive_result, self._receive_failure)

    def _receive_result(self, result: object) -> object:
        self.exchange.receive_result()
        self._look()
        # Handed on: somebody else may await the same Deferred.
        return result

    def _receive_failure(self, failure: Any) -> None:
        self.exchange.receive_failure(failure.value)
        self._look()


def _agree(one: Story, other: Story) -> bool:
    """Whether two stories are one."""
    if (one.unread, one.waiting_on) != (other.unread, other.waiting_on):
        return False
    if isinstance(one.outcome, BaseException) and isinstance(other.outcome, BaseException):
        return _same_error(one.outcome, other.outcome) and _continues(one.sent, other.sent)
    return one.outcome == other.outcome and one.sent == other.sent


def _same_error(one: BaseException, other: BaseException) -> bool:
    if type(one) is not type(other):
        return False
    if isinstance(one, ProtocolViolation) and isinstance(other, ProtocolViolation):
        return one.expected == other.expected and _continues(one.got, other.got)
    return str(one) == str(other)


def _continues(one: bytes, other: bytes) -> bool:
    """Whether one of the two is how the other begins."""
    return one.startswith(other) or other.startswith(one)


def _tell(cut: tuple[bytes, ...], story: Story) -> str:
    """Show a cut and its story, for somebody who has to find out where they part."""
    outcome: object = story.outcome
    if isinstance(outcome, BaseException):
        outcome = f"{type(outcome).__name__}: {outcome}"
    elif outcome is None:
        outcome = f"none, waits on {story.waiting_on}"
    shown = " | ".join(shorten(chunk) for chunk in cut[:8])
    if len(cut) > 8:
        shown += f" | ... ({len(cut)} chunks)"
    return (
        f"  when it receives  {shown}\n"
        f"  its outcome is    {outcome}\n"
        f"  it has sent       {shorten(story.sent, 64)}\n"
        f"  and leaves unread {shorten(story.unread, 64)}"
    )
