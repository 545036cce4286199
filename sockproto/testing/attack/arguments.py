"""What the command lines here have in common: how a word is read, and how a person is answered."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import Any, NoReturn

PROGRAM = "python -m sockproto.testing.attack"

CANNOT = 2
"""The exit status for what a person has to change first."""


class Parser(argparse.ArgumentParser):
    """A parser that answers a mistake with one line, and not with the whole usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(CANNOT, f"attack: {message}; see {PROGRAM} --help\n")


def say(sentence: str) -> None:
    """Tell the person at the terminal; standard output is for what was asked for."""
    print(f"attack: {sentence}", file=sys.stderr)


def reading(kind: Callable[[str], Any]) -> Callable[[str], Any]:
    """Have a mistake told in words, for an argument's ``type``."""

    def read(text: str) -> Any:
        try:
            return kind(text)
        except ValueError as error:
            # int() and float() speak to programmers.
            told = str(error) if kind not in (int, float) else f"{text!r} is not a number"
            raise argparse.ArgumentTypeError(told) from error

    return read
