"""What all commands have in common: how a line is read, and how a person is answered."""

from __future__ import annotations

import argparse
import sys
from typing import NoReturn

from sockproto.service.escaping import escaped
from sockproto.service.units import seconds

USAGE = 2
"""The exit status of every command that was not understood."""


class Parser(argparse.ArgumentParser):
    """A parser that answers a mistake with one line, and not with the whole usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(USAGE, f"sockproto: {escaped(message)}; see {self.prog} --help\n")


def time(text: str) -> float:
    """Read a time above zero, for an argument's ``type``."""
    try:
        return seconds(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def say(sentence: str) -> None:
    """Tell the person at the terminal; standard output is for what was asked for."""
    print(f"sockproto: {sentence}", file=sys.stderr)
