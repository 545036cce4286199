"""
The crew, or the prober, in a process of its own: neither waits for the other, or for who watches.

It is told by its standard input, one byte a step: the first says begin, the second stop, and an end
that nobody is left to tell it anything. What it has seen it writes to its standard output, pickled;
whoever reads that has started it.
"""

from __future__ import annotations

import os
import pickle
import resource
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from select import select
from typing import Any

from sockproto.core.errors import ConfigurationError
from sockproto.testing.attack.crew import Crew
from sockproto.testing.attack.loop import IN, Loop
from sockproto.testing.attack.plan import Plan
from sockproto.testing.attack.prober import Prober

ROLES: dict[str, Callable[[Plan, Loop], Any]] = {"crew": Crew, "prober": Prober}

SPARE_DESCRIPTORS = 64
"""What a process needs besides its connections."""

LONGEST_START = 30.0


def see_that_there_is_room(connections: int) -> int:
    """
    How many descriptors a process may open here, if it asks for them.

    Raises:
        ConfigurationError: If these are fewer than so many connections need.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if connections + SPARE_DESCRIPTORS > hard:
        raise ConfigurationError(
            f"{connections:,} connections need more descriptors than the hard limit allows, "
            f"{hard:,}; ask for fewer, or raise it (ulimit -Hn)"
        )
    return hard


class Child:
    """
    A process that plays a role of a plan.

    Args:
        role: One of :data:`ROLES`.
        plan: What it is to do.
    """

    def __init__(self, role: str, plan: Plan) -> None:
        home = str(Path(__file__).parents[3])
        paths = [home, *filter(None, [os.environ.get("PYTHONPATH")])]
        self._role = role
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__, role],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
            # Ctrl-C is for who has started us; a child ends when its input does.
            start_new_session=True,
        )
        self._tell(pickle.dumps(plan))

    def wait_until_ready(self) -> None:
        """
        Wait until it can begin.

        Raises:
            RuntimeError: If it cannot.
        """
        if not self.waits(LONGEST_START) or self._out.read(1) != b"r":
            raise RuntimeError(f"the {self._role} has not started")

    def begin(self) -> None:
        """Let it begin."""
        self._tell(b"b")

    def stop(self) -> None:
        """Ask it to come to an end."""
        self._tell(b"s")

    def waits(self, seconds: float) -> bool:
        """Wait until it says something, or for so long; gives whether it does."""
        return bool(select([self._out], [], [], seconds)[0])

    def result(self) -> Any:
        """Wait for what it has seen."""
        return pickle.load(self._out)

    def discard(self) -> None:
        """See to it that it is gone."""
        self._process.kill()
        self._process.wait()
        for each in (self._process.stdin, self._process.stdout):
            assert each is not None
            with suppress(BrokenPipeError):
                each.close()

    @property
    def _out(self) -> Any:
        return self._process.stdout

    def _tell(self, data: bytes) -> None:
        assert self._process.stdin is not None
        # If it has ended of its own accord, its result is there to be read.
        with suppress(BrokenPipeError):
            self._process.stdin.write(data)
            self._process.stdin.flush()


def main(role: str) -> None:
    """Play a role; in the process of its own."""
    source, out = sys.stdin.buffer.raw, sys.stdout.buffer  # type: ignore[union-attr]
    plan = pickle.load(source)
    # Here, and not in who has started us: a server that it starts, too, is to get what it would
    # have got without us.
    most = see_that_there_is_room(plan.connections)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    loop = Loop()
    player = ROLES[role](plan, loop)

    def told(events: int) -> None:
        said = source.read(1)
        if said == b"b":
            player.start()
        elif said == b"s":
            player.finish()
        else:
            sys.exit(1)

    loop.watch(source.fileno(), IN, told)
    out.write(b"r")
    out.flush()
    loop.run()
    pickle.dump(player.tally if role == "crew" else player.visits, out)
    out.flush()


if __name__ == "__main__":
    main(sys.argv[1])
