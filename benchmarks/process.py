"""
A process on a core of its own, what it takes of that core, and what it holds of the memory.

CPU is counted by the scheduler, in nanoseconds, over all the threads of the process: the first
field of ``/proc/PID/task/TID/schedstat``, see sched-stats.rst in the kernel's documentation. It
covers what the kernel does on the process's behalf, and most of what loopback does there. Memory is
the resident set, ``Rss`` in ``/proc/PID/smaps_rollup``, see proc(5); neither socket buffers nor
anything else that the kernel keeps is in it.
"""

from __future__ import annotations

import os
import resource
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from benchmarks.workshop import HERE, Unavailable

STARTING = 20.0
STOPPING = 5.0
SETTLING = 10.0
"""Seconds that a server may take for each."""

QUIET = 0.05
"""Seconds without any CPU after which a server has come to rest."""


class Cores:
    """Two cores: one for the server, one for everything that is not measured."""

    def __init__(self, available: Sequence[int] | None = None) -> None:
        cores = sorted(os.sched_getaffinity(0) if available is None else available)
        if len(cores) < 2:
            raise Unavailable("there is one core; server and load need one each")
        self.server, self.load = cores[:2]


class Server:
    """
    A server under test, from its start until the end of the block.

    Args:
        command: What to run.
        port: Where on 127.0.0.1 it will listen.
        core: Where it runs.
        environment: Variables to set.

    Raises:
        Unavailable: If it does not listen in time; and at every question, if it has ended.
    """

    def __init__(
        self,
        command: Sequence[str],
        port: int,
        core: int,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.port = port
        # To a file, as a service's log would be.
        self._output = tempfile.TemporaryFile()  # noqa: SIM115
        self._process = subprocess.Popen(
            command,
            cwd=HERE.parent,
            env={**_environment(), **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=self._output,
            preexec_fn=lambda: os.sched_setaffinity(0, {core}),
        )
        try:
            self._wait_until_listening()
        except BaseException:
            self.stop()
            raise

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *error: Any) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    def stop(self) -> None:
        """End it."""
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(STOPPING)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._output.close()

    def _wait_until_listening(self) -> None:
        end = time.monotonic() + STARTING
        while not is_listening(self.port):
            self._see_that_it_runs()
            if time.monotonic() > end:
                raise Unavailable(f"it does not listen within {STARTING:g} s")
            time.sleep(0.01)
        self.settle()

    def _see_that_it_runs(self) -> None:
        if self._process.poll() is not None:
            raise Unavailable(f"it has ended: {self._last_line()}")

    def _last_line(self) -> str:
        self._output.seek(0)
        lines = self._output.read().decode(errors="replace").strip().splitlines()
        return lines[-1].strip() if lines else f"exit status {self._process.returncode}"

    def cpu(self) -> float:
        """Seconds of CPU so far."""
        self._see_that_it_runs()
        total = 0
        for file in Path(f"/proc/{self.pid}/task").glob("*/schedstat"):
            # A thread may end while we look.
            with suppress(OSError):
                total += int(file.read_text().split()[0])
        return total / 1e9

    def memory(self) -> int:
        """Bytes that are resident."""
        self._see_that_it_runs()
        return resident(Path(f"/proc/{self.pid}/smaps_rollup").read_text())

    def descriptors(self) -> int:
        """How many it has open."""
        self._see_that_it_runs()
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def settle(self, descriptors: int = 0) -> None:
        """
        Wait until it has come to rest.

        Args:
            descriptors: How many it should have open by then, at least.

        Raises:
            Unavailable: If it never has.
        """
        end = time.monotonic() + SETTLING
        before = -1.0
        # A timer that ticks is no work: a thousandth of a core is rest.
        while self.descriptors() < descriptors or self.cpu() - before > QUIET / 1000:
            if time.monotonic() > end:
                if self.descriptors() < descriptors:
                    raise Unavailable(
                        f"it has {self.descriptors()} descriptors open, expected {descriptors}"
                    )
                return
            before = self.cpu()
            time.sleep(QUIET)


def _environment() -> dict[str, str]:
    """Ours, without what would configure a sockserver behind our back."""
    return {name: text for name, text in os.environ.items() if not name.startswith("SOCKSERVER_")}


def resident(smaps_rollup: str) -> int:
    """Find the resident set in ``smaps_rollup``, in bytes."""
    for line in smaps_rollup.splitlines():
        name, *rest = line.split()
        if name == "Rss:":
            return int(rest[0]) * 1024
    raise ValueError("no Rss in smaps_rollup")


def is_listening(port: int) -> bool:
    """Whether anybody listens on a port of 127.0.0.1; without the bother of a connection."""
    wanted = (f"0100007F:{port:04X}", f"00000000:{port:04X}")
    rows = (line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:])
    return any(row[1] in wanted and row[3] == "0A" for row in rows)


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as asking:
        asking.bind(("127.0.0.1", 0))
        port: int = asking.getsockname()[1]
        return port


def raise_descriptor_limit() -> None:
    """Let this process, and those it starts, open as many descriptors as they may."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
