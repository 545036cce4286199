"""A report on a terminal: a line for each check, and below it what was found."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TextIO

from sockproto.service.escaping import escaped
from sockproto.testing.conformance.results import Report, Result, Verdict

_COLOURS = {Verdict.OK: "32", Verdict.WEAK: "33", Verdict.FAILED: "31", Verdict.NOT_APPLICABLE: "2"}

_WIDTH = max(len(each.value) for each in Verdict)


def wants_colour(out: TextIO, environment: Mapping[str, str] = os.environ) -> bool:
    """Whether colour is welcome: on a terminal, unless ``NO_COLOR`` is set to anything."""
    return out.isatty() and not environment.get("NO_COLOR")


class Terminal:
    """
    Writes a report as it comes to be.

    Args:
        out: Where to.
        colour: Whether in colour.
    """

    def __init__(self, out: TextIO, *, colour: bool) -> None:
        self._out, self._colour = out, colour
        self._group = ""

    def tell(self, result: Result) -> None:
        """One check has come to its end."""
        if result.group != self._group:
            self._group = result.group
            print(f"{result.group}:", file=self._out)
        verdict = f"{result.verdict!s:<{_WIDTH}}"
        if self._colour:
            verdict = f"\x1b[{_COLOURS[result.verdict]}m{verdict}\x1b[0m"
        count = f"{result.cases} case" + ("s" if result.cases != 1 else "")
        why = escaped(result.reason) if result.verdict is Verdict.NOT_APPLICABLE else count
        print(f"  {verdict}  {result.check:<33}  {why}", file=self._out)

    def conclude(self, report: Report) -> None:
        """All have; show what was found."""
        for result in report.results:
            if result.verdict in (Verdict.FAILED, Verdict.WEAK):
                print(f"\n{result.verdict} {result.check}: {result.promise}", file=self._out)
                for line in report.describe(result):
                    print(f"  {escaped(line)}", file=self._out)
        print(f"\n{report.summary}", file=self._out)
