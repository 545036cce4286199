"""The load, ``load.c``, as Python sees it."""

from __future__ import annotations

import os
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

from benchmarks.workshop import Unavailable

LONGEST = 320.0
"""Seconds; a little more than the load gives itself."""

URGENT = -20
"""The nice value of a load that must not wait for another one on its core."""


class Load:
    """
    One run of the load, on a core of its own.

    Args:
        program: The compiled ``load.c``.
        core: Where it runs.
        words: Its arguments; bytes are passed on in hex.
        urgent: Whether it goes before the other loads; if we may say so.
    """

    def __init__(self, program: Path, core: int, *words: object, urgent: bool = False) -> None:
        def prepare() -> None:
            os.sched_setaffinity(0, {core})
            if urgent:
                with suppress(PermissionError):
                    os.setpriority(os.PRIO_PROCESS, 0, URGENT)

        shown = [word.hex() if isinstance(word, bytes) else str(word) for word in words]
        self._process = subprocess.Popen(
            [str(program), *shown],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=prepare,
        )

    def __enter__(self) -> Load:
        return self

    def __exit__(self, *error: Any) -> None:
        self._process.kill()
        self._process.communicate()

    def wait_until_ready(self) -> None:
        """Wait for it to have its connections."""
        if self._line() != "ready":
            raise Unavailable("the load said something else than ready")

    def go(self) -> None:
        """Let it go on."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def finish(self) -> None:
        """Let it come to an end, if it runs by the count."""
        self._process.terminate()

    def result(self) -> dict[str, float]:
        """What it has seen, by name."""
        return values(self._line())

    def _line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline().strip()
        if not line:
            _, said = self._process.communicate(timeout=LONGEST)
            raise Unavailable(said.strip() or f"the load ended with {self._process.returncode}")
        return line


def values(line: str) -> dict[str, float]:
    """Read ``name=value name=value``."""
    return {name: float(value) for name, value in (word.split("=") for word in line.split())}
