"""
The machine's clock is set, back and forth by an hour, while the server runs.

libfaketime tells the server another time of day, from a file that is read anew at every question.
Monotonic time it leaves alone, as the kernel does.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path

import pytest

from .kit import PATIENCE, Sockserver, Starter, dial, read_to_end

HOUR = timedelta(hours=1)

WEB = """
from twisted.web.resource import Resource
from twisted.web.server import Site


class Page(Resource):
    isLeaf = True

    def render_GET(self, request):
        from twisted.internet import reactor

        # What twisted.web dates its own log by, and a page's last change.
        return b"%d" % reactor.seconds()


site = Site(Page())
"""


class Wall:
    """A clock on the wall that can be set."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "wall"
        self.set(timedelta())

    def set(self, ahead: timedelta) -> None:
        """Set it ahead of the real one, or behind."""
        written = self._file.with_suffix(".new")
        written.write_text(f"{ahead.total_seconds():+.0f}\n")
        written.replace(self._file)

    @property
    def environment(self) -> dict[str, str]:
        """What makes a program look at it."""
        ask = ["faketime", "-m", "-f", "+0", "printenv", "LD_PRELOAD"]
        told = subprocess.run(ask, capture_output=True, text=True, timeout=PATIENCE, check=True)
        return {
            "LD_PRELOAD": told.stdout.strip(),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }


@pytest.fixture
def wall(tmp_path: Path) -> Wall:
    if shutil.which("faketime") is None:
        reason = "faketime is missing; on Debian: apt-get install faketime"
        # Where everything is said to be tried, a test must not go missing in silence.
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(reason)
    return Wall(tmp_path)


@pytest.fixture
def server(start: Starter, wall: Wall) -> Sockserver:
    options = ["--handshake", "passphrase:sesame"]
    options += ["--idle-timeout", "1s", "--close-timeout", "1s"]
    return start.sockserver(*options, env=wall.environment)


def logged_at(line: str) -> datetime:
    """When the server wrote a line, by the clock on its wall."""
    return datetime.strptime(line.split()[0], "%Y-%m-%dT%H:%M:%S%z")


def about(one: timedelta | datetime, other: timedelta | datetime) -> bool:
    """Whether two times are the same as far as this is about hours."""
    return abs(one - other) < HOUR / 4


@pytest.mark.parametrize(
    "steps",
    [
        pytest.param((HOUR, -HOUR), id="forth and back", marks=pytest.mark.slow),
        pytest.param((-HOUR, HOUR), id="back and forth", marks=pytest.mark.slow),
        pytest.param((-HOUR, timedelta()), id="back and right again", marks=pytest.mark.slow),
    ],
)
def test_a_clock_that_is_set_changes_no_deadline(wall, server, steps):
    for count, step in enumerate(steps, 1):
        with dial(server.place) as silent, dial(server.place) as staying:
            staying.sendall(b"mellon\n")
            server.wait_for("rejected", count)

            wall.set(step)

            # Were it believed, a step back would keep them here for an hour.
            assert read_to_end(silent) == b""
            assert read_to_end(staying) == b"NO\n"
            gone(staying)
        # And a step ahead would be counted as time that has passed: 3600 s.
        found = server.wait_for(r"time out .* in \d{1,2}\.\d s: nothing heard for 1 s", count)
        assert about(logged_at(found.string), datetime.now(UTC) + step)


def gone(client: socket.socket) -> None:
    """Wait until the server takes nothing any more: the reset of its abort."""
    with suppress(ConnectionResetError, BrokenPipeError):
        while True:
            client.sendall(bytes(4096))


@pytest.mark.parametrize("start_at", [timedelta(), timedelta(days=-2)], ids=["today", "before"])
def test_a_web_server_behind_the_handshake_has_the_date_right(wall, start, start_at):
    (start.cwd / "web.py").write_text(WEB)
    wall.set(start_at)
    options = ["--handshake", "passphrase:sesame", "--session", "web:site"]
    server = start.sockserver(*options, env=wall.environment)

    for step in (timedelta(), HOUR, -HOUR):
        wall.set(start_at + step)
        with dial(server.place) as client:
            client.sendall(b"sesame\nGET / HTTP/1.0\r\n\r\n")
            answer = read_to_end(client).decode()

        found = re.fullmatch(r"OK\nHTTP/1\..*\r\nDate: (.*?)\r\n.*\r\n\r\n(\d+)", answer, re.DOTALL)
        assert found is not None
        now = datetime.now(UTC) + start_at
        assert about(parsedate_to_datetime(found[1]), now + step)
        # The reactor has begun with the time of day, and has not heard of any step since.
        assert about(datetime.fromtimestamp(int(found[2]), UTC), now)
