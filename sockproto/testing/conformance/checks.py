"""What a check is: a function of a subject, whose cases raise what they find."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from sockproto.testing.conformance.subject import Subject

Case: TypeAlias = Callable[[], None]
"""One thing to try. It raises a :class:`~.results.Fault`, or returns."""


class _Looks(Protocol):
    __name__: str

    def __call__(self, subject: Subject) -> Iterator[Case]: ...


@dataclass(frozen=True)
class Check:
    """
    One promise, and how to find out whether it is kept.

    Attributes:
        name: What it is called on a command line.
        group: What it belongs to.
        promise: What a handshake that passes promises.
        cases: Gives what to try, always in the same order: the number of a case is its seed.
    """

    name: str
    group: str
    promise: str
    cases: Callable[[Subject], Iterator[Case]]


def check(group: str) -> Callable[[_Looks], Check]:
    """Make a check of a function; its name is the check's, its docstring the promise."""

    def make(function: _Looks) -> Check:
        promise = " ".join((function.__doc__ or "").split())
        return Check(function.__name__.replace("_", "-"), group, promise, function)

    return make
