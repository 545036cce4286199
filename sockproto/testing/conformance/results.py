"""What a check has found, and what all of them have."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from sockproto.core.errors import shorten


class Verdict(Enum):
    """What a check says."""

    OK = "OK"
    WEAK = "WEAK"
    FAILED = "FAILED"
    NOT_APPLICABLE = "NOT APPLICABLE"

    def __str__(self) -> str:
        return self.value


class Fault(Exception):
    """
    A check has found something.

    Args:
        words: What it is.
        heard: What the side had heard by then, in the pieces in which it came.
        weak: Whether the handshake works nevertheless.
    """

    def __init__(self, words: str, heard: Sequence[bytes] = (), *, weak: bool = False) -> None:
        super().__init__(words)
        self.words, self.heard, self.weak = words, tuple(heard), weak


class NotApplicable(Exception):
    """There is nothing for a check to look at, and why."""


@dataclass(frozen=True)
class Result:
    """
    What one check says about one handshake.

    Attributes:
        check: Its name.
        group: What it belongs to.
        promise: What it looks for, in a sentence.
        verdict: What it says.
        cases: How many cases it has looked at.
        reason: Why it is not ``OK``; empty if it is.
        seed: Which case shows it; the same seed shows it again.
        heard: The bytes that show it, in the pieces in which they came.
        seconds: How long it took.
    """

    check: str
    group: str
    promise: str
    verdict: Verdict
    cases: int = 0
    reason: str = ""
    seed: int | None = None
    heard: tuple[bytes, ...] = ()
    seconds: float = 0.0


@dataclass(frozen=True)
class Report:
    """
    What all the checks say about one handshake.

    Attributes:
        name: What the handshake is called.
        sides: Which of its sides were there: ``server``, ``client``.
        results: One for each check, in their order.
        command: What is typed to look at it again, without its options.
    """

    name: str
    sides: tuple[str, ...]
    results: tuple[Result, ...]
    command: str

    def of(self, verdict: Verdict) -> list[Result]:
        """The results with this verdict."""
        return [each for each in self.results if each.verdict is verdict]

    @property
    def failed(self) -> bool:
        """Whether any check has failed."""
        return bool(self.of(Verdict.FAILED))

    @property
    def weak(self) -> bool:
        """Whether any check says that the handshake is weak."""
        return bool(self.of(Verdict.WEAK))

    @property
    def summary(self) -> str:
        """How many checks say what, in a line."""
        counted = Counter(each.verdict for each in self.results)
        parts = [f"{counted[each]} {each}" for each in Verdict if counted[each]]
        sides = " and ".join(self.sides) or "no side"
        return f"{self.name} ({sides}): {len(self.results)} checks, {', '.join(parts)}"

    def again(self, result: Result) -> str:
        """What to type to see one finding again."""
        seed = "" if result.seed is None else f" --seed {result.seed}"
        return f"{self.command} --only {result.check}{seed}"

    def describe(self, result: Result) -> list[str]:
        """A finding for a person to read, without its name: the reason, the bytes, the command."""
        lines = [result.reason]
        if result.heard:
            lines.append(f"when it hears {show(result.heard)}")
        if result.verdict is Verdict.FAILED:
            lines.append(f"again: {self.again(result)}")
        return lines


def show(pieces: Sequence[bytes], most: int = 6) -> str:
    """Pieces of a conversation on one line; no more of them than a person looks at."""
    shown = [shorten(each, 48) for each in pieces[:most]]
    if len(pieces) > most:
        shown.append(f"... ({len(pieces)} pieces)")
    return " | ".join(shown)
