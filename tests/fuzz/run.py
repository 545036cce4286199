"""One target in the hands of atheris: what ``python -m tests.fuzz`` starts for each."""

from __future__ import annotations

import gc
import os
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    # Not before atheris can look into what they import.
    from .rules import Stopwatch

INSTRUMENTED = ("sockproto", "scramp", "jwt", "tomllib")
"""The modules in which new code makes an input worth keeping."""


class Run:
    """A target, until it has had its time."""

    def __init__(
        self, name: str, target: Callable[[bytes], None], stopwatch: Stopwatch, seconds: float
    ) -> None:
        self._name, self._target = name, target
        self._stopwatch, self._seconds = stopwatch, seconds
        self._count = 0

    def __call__(self, data: bytes) -> None:
        self._target(data)
        self._count += 1
        used = time.process_time()
        if used >= self._seconds:
            print(
                f"{self._name}: {self._count} inputs in {used:.0f} s of processor time, "
                f"the slowest took {self._stopwatch.slowest * 1000:.1f} ms",
                flush=True,
            )
            # Whoever is called by the fuzzer cannot ask it to stop.
            os._exit(0)


def main() -> None:
    import atheris

    with atheris.instrument_imports(include=list(INSTRUMENTED)):
        from . import rules, targets
    program, name, seconds, *given = sys.argv
    # A collection of all that was imported takes as long as an input may.
    gc.collect()
    gc.freeze()
    rules.stopwatch.strict = True
    run = Run(name, targets.TARGETS[name], rules.stopwatch, float(seconds))
    atheris.Setup([program, *given], run)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
