"""
A conversation with one side of a handshake, line by line, as a test reads it aloud.

::

    dialogue(Guests().serve).says(b"who?\\n").hears(b"ann\\n").says(b"hello\\n").accepts("ann")

When a line is not as it should be, the test fails, and shows what was expected and what happened
side by side.
"""

from __future__ import annotations

from typing import Any, NoReturn

from sockproto.core.errors import shorten
from sockproto.core.exchange import name_of
from sockproto.core.facts import NO_FACTS, PeerFacts, TlsFacts
from sockproto.core.handshake import Side
from sockproto.core.outcomes import Accept, Reject
from sockproto.testing.conversation import Run

_WIDTH = 44


class Dialogue:
    """
    A conversation that goes on with each call; :func:`dialogue` begins one.

    Attributes:
        outcome: What has come of it so far, as an exchange has it.
    """

    def __init__(self, side: Side, facts: PeerFacts, clock: Any) -> None:
        self._name = name_of(side)
        self._clock = clock
        self._run = Run(side, facts)
        self._said = 0
        self._lines: list[tuple[str, str]] = []

    @property
    def outcome(self) -> object:
        """What has come of it: None, ``Accept``, ``Reject``, or the exception that ended it."""
        return self._run.exchange.outcome

    def hears(self, *pieces: bytes) -> Dialogue:
        """The peer says something, in so many pieces."""
        for piece in pieces:
            self._note(f"hears {shorten(piece)}")
            self._run.receive(piece)
        return self

    def hears_end(self) -> Dialogue:
        """The peer finishes."""
        self._note("hears the end")
        self._run.end()
        return self

    def breaks_off(self, error: BaseException) -> Dialogue:
        """Somebody ends it: a deadline, a shutdown, a connection that is lost."""
        self._note(f"is told {type(error).__name__}")
        self._run.exchange.throw(error)
        return self

    def starts_tls(self, tls: TlsFacts | None = None) -> Dialogue:
        """
        The side asks for TLS, and gets it.

        Raises:
            AssertionError: If it does not ask.
        """
        wants = self._run.exchange.wants_tls
        self._expect("asks for TLS", "asks for TLS" if wants else self._state(), wants)
        self._run.start_tls(tls or TlsFacts())
        return self

    def passes(self, seconds: float) -> Dialogue:
        """Time passes, on the clock that was given."""
        if self._clock is None:
            raise TypeError("no time passes without a clock: write dialogue(side, clock=Clock())")
        self._note(f"{seconds:g} s pass")
        self._clock.advance(seconds)
        return self

    def says(self, data: bytes) -> Dialogue:
        """
        The side says exactly this next; its verdict's reply is said, too.

        Raises:
            AssertionError: If it says something else, or nothing.
        """
        unheard = self._run.sent[self._said :]
        right = unheard.startswith(data) and bool(data)
        actual = f"says {shorten(data if right else unheard)}" if unheard else self._state()
        self._expect(f"says {shorten(data)}", actual, right)
        self._said += len(data)
        return self

    def waits(self, verb: str = "") -> Dialogue:
        """
        The side says nothing more now, and waits: for more bytes, or for a Deferred.

        Args:
            verb: With which verb, if that matters: ``receive_line``.

        Raises:
            AssertionError: If it does not.
        """
        waiting_on = self._run.exchange.waiting_on
        right = waiting_on is not None and waiting_on.startswith(verb) and not self._unheard
        self._expect(f"waits on {verb or 'something'}", self._state(), right)
        return self

    def accepts(
        self, identity: str | None = None, *, session: str | None = None, leaves: bytes = b""
    ) -> Dialogue:
        """
        The side accepts, and has said everything.

        Args:
            identity: Whom the peer turns out to be.
            session: Which session it chooses.
            leaves: What is left for the session.

        Raises:
            AssertionError: If it does not, or says or leaves something else.
        """
        outcome = self.outcome
        left = self._left if isinstance(outcome, Accept) else b""
        right = (
            isinstance(outcome, Accept)
            and (outcome.identity, outcome.session) == (identity, session)
            and left == leaves
            and not self._unheard
        )
        expected = f"accepts identity={identity!r} session={session!r}{_leaving(leaves)}"
        self._expect(expected, self._state(left), right)
        return self

    def rejects(self, reason: str | None = None) -> Dialogue:
        """
        The side rejects, and has said everything.

        Args:
            reason: Why, for the log; anything unless given.

        Raises:
            AssertionError: If it does not.
        """
        outcome = self.outcome
        right = isinstance(outcome, Reject) and not self._unheard
        right = right and reason in (None, getattr(outcome, "reason", None))
        self._expect(f"rejects {reason!r}" if reason else "rejects", self._state(), right)
        return self

    def fails(self, kind: type[BaseException], words: str = "") -> Dialogue:
        """
        The side ends in an exception.

        Args:
            kind: Of which kind.
            words: What its message contains.

        Raises:
            AssertionError: If it does not.
        """
        outcome = self.outcome
        right = isinstance(outcome, kind) and words in str(outcome)
        self._expect(f"fails with {kind.__name__} {words}".rstrip(), self._state(), right)
        return self

    # What is shown

    @property
    def _unheard(self) -> bytes:
        return self._run.sent[self._said :]

    @property
    def _left(self) -> bytes:
        # Looked at, and not taken: somebody may look again.
        exchange = self._run.exchange
        left = exchange.unread()
        exchange._peer._inbox += left
        return left

    def _state(self, left: bytes = b"") -> str:
        """What it does, in the words of this class."""
        if self._unheard:
            return f"says {shorten(self._unheard)}"
        outcome = self.outcome
        if isinstance(outcome, Accept):
            chosen = f"identity={outcome.identity!r} session={outcome.session!r}"
            return f"accepts {chosen}{_leaving(left)}"
        if isinstance(outcome, Reject):
            return f"rejects {outcome.reason!r}"
        if isinstance(outcome, BaseException):
            return f"fails with {type(outcome).__name__} {outcome}"
        return f"waits on {self._run.exchange.waiting_on}"

    def _note(self, line: str) -> None:
        self._lines.append((line, line))

    def _expect(self, expected: str, actual: str, right: bool) -> None:
        self._lines.append((expected, expected if right else actual))
        if not right:
            self._fail()

    def _fail(self) -> NoReturn:
        width = min(_WIDTH, max(len(each) for each, _ in self._lines))
        rows = [("expected", "what happened"), *self._lines]
        shown = [
            f"  {one:<{width}} | {other}{'   <--' if row == len(rows) - 1 else ''}"
            for row, (one, other) in enumerate(rows)
        ]
        told = "\n".join(shown)
        raise AssertionError(f"{self._name} goes on otherwise\n\n{told}")


def dialogue(side: Side, *, facts: PeerFacts | None = None, clock: Any = None) -> Dialogue:
    """
    Begin a conversation with one side of a handshake.

    Args:
        side: ``handshake.serve`` or ``handshake.connect``.
        facts: What is known about the peer.
        clock: A ``twisted.internet.task.Clock`` that the handshake follows, too, if time is to
            pass.
    """
    return Dialogue(side, facts or NO_FACTS, clock)


def _leaving(data: bytes) -> str:
    return f" leaving {shorten(data)}" if data else ""
