"""
A server that we start, and what it takes: its process, its children, and theirs.

Memory is what its processes have to themselves: ``Pss_Anon`` and ``Pss_Shmem`` in
``/proc/PID/smaps_rollup``, see proc(5). The resident set would count every page of a library once
for each child, and a server that forks for every client would look worse than it is. What the
kernel keeps for it, socket buffers above all, is not in it.

CPU is what the scheduler has counted for them and for the children they have waited for; a child
that has just ended, and that nobody has waited for, is missing until somebody does.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from sockproto.core.errors import ConfigurationError

STARTING = 20.0
STOPPING = 10.0
"""Seconds that a server may take for each."""

PROC = Path("/proc")

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Figures:
    """
    What the processes of a server hold, or have used.

    Attributes:
        memory: Bytes that are theirs alone.
        cpu: Seconds since they were started.
        descriptors: How many they have open.
        processes: How many there are.
    """

    memory: int
    cpu: float
    descriptors: int
    processes: int


class Household:
    """
    A server from its start until the end of the block.

    Args:
        command: What a person would type, which no shell reads; or its words.
        port: Where it will listen.
        folder: Where it runs; here, unless given.

    Raises:
        ConfigurationError: If it cannot be started, has ended, or does not listen in time.
    """

    def __init__(self, command: str | Sequence[str], port: int, folder: Path | None = None) -> None:
        self._port = port
        # To a file, as a service's log would be.
        self._output = tempfile.TemporaryFile()  # noqa: SIM115
        words = shlex.split(command) if isinstance(command, str) else list(command)
        if listens(port):
            raise ConfigurationError(
                f"something listens at port {port} already; the command needs it for itself"
            )
        try:
            self._process = subprocess.Popen(
                words,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=self._output,
                stderr=self._output,
                start_new_session=True,
            )
        except (OSError, IndexError) as error:
            self._output.close()
            name = words[0] if words else "an empty command"
            reason = getattr(error, "strerror", None) or "there is nothing in it"
            raise ConfigurationError(f"cannot start {name}: {reason.lower()}") from error
        try:
            self._wait_until_it_listens()
        except BaseException:
            self.stop()
            raise

    def __enter__(self) -> Household:
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """The process that was started."""
        return self._process.pid

    def figures(self) -> Figures:
        """What they hold now."""
        memory = descriptors = ticks = processes = 0
        for pid in tree(self.pid):
            # One may end while we look.
            with suppress(OSError):
                ticks += _ticks_of(pid)
                memory += own_memory((PROC / str(pid) / "smaps_rollup").read_text())
                descriptors += len(os.listdir(PROC / str(pid) / "fd"))
                processes += 1
        return Figures(memory, ticks / _TICKS, descriptors, processes)

    def has_ended(self) -> bool:
        """Whether it runs no more."""
        return self._process.poll() is not None

    def last_line(self) -> str:
        """What it has said last."""
        self._output.seek(0)
        lines = self._output.read().decode(errors="replace").split("\n")
        said = [line.strip() for line in lines if line.strip()]
        return said[-1] if said else f"exit status {self._process.returncode}"

    def stop(self) -> None:
        """End it, and what it has started."""
        if self._output.closed:
            return
        left = list(tree(self.pid)) if self._process.poll() is None else []
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(STOPPING)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for pid in left:
            # Those who outlive it are in its session, or not its children any more.
            with suppress(OSError):
                if pid != self.pid and os.getsid(pid) == self.pid:
                    os.kill(pid, signal.SIGKILL)
        self._output.close()

    def _wait_until_it_listens(self) -> None:
        end = time.monotonic() + STARTING
        while not listens(self._port):
            if self.has_ended():
                raise ConfigurationError(f"the command has ended: {self.last_line()}")
            if time.monotonic() > end:
                raise ConfigurationError(
                    f"the command does not listen at port {self._port} within {STARTING:g} s"
                )
            time.sleep(0.02)


def tree(root: int) -> Iterator[int]:
    """A process, its children, and theirs."""
    children: dict[int, list[int]] = {}
    for name in os.listdir(PROC):
        if name.isdecimal():
            with suppress(OSError):
                children.setdefault(int(_stat_of(int(name))[1]), []).append(int(name))
    found = [root]
    for pid in found:
        found += children.get(pid, ())
        yield pid


def _stat_of(pid: int) -> list[str]:
    """The fields of ``/proc/PID/stat`` behind the name, which may hold blanks and brackets."""
    return (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()


def _ticks_of(pid: int) -> int:
    # utime, stime, cutime, cstime: fields 14 to 17 of proc(5), which counts the name as the second.
    return sum(int(each) for each in _stat_of(pid)[11:15])


def own_memory(smaps_rollup: str) -> int:
    """Find what a process has to itself in ``smaps_rollup``, in bytes."""
    total = 0
    for line in smaps_rollup.splitlines():
        name, *rest = line.split()
        if name in ("Pss_Anon:", "Pss_Shmem:"):
            total += int(rest[0]) * 1024
    return total


def listens(port: int) -> bool:
    """Whether somebody listens at a port of any address; without the bother of a connection."""
    for table in ("tcp", "tcp6"):
        with suppress(OSError):
            for row in (PROC / "net" / table).read_text().splitlines()[1:]:
                local, state = row.split()[1], row.split()[3]
                if state == "0A" and local.endswith(f":{port:04X}"):
                    return True
    return False
