"""A stop, while clients pour in: whoever has got through is served or let go, and never reset."""

from __future__ import annotations

import signal
import socket
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Thread

import pytest

from .kit import PATIENCE, Sockserver, Where, dial, free_port, read_to_end, room_for, talk

WELCOME = b"welcome to server!"

STEADY, PRESSING = 500, 5000
"""Clients a second; with the latter, somebody comes at every moment of the stop."""


@dataclass
class Pouring:
    """
    Clients that come at a steady rate, until they are told that it is over.

    A third speaks at once, a third a little later, and a third never.

    Attributes:
        connected: Those whose ``connect()`` has returned, oldest first.
        refused: How many have found nobody.
        trouble: What has gone wrong otherwise.
    """

    place: Where
    rate: int
    connected: list[socket.socket] = field(default_factory=list)
    refused: int = 0
    trouble: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._over = Event()
        self._thread = Thread(target=self._pour)
        self._thread.start()

    def _pour(self) -> None:
        began = time.monotonic()
        for number in range(60 * self.rate):
            self._over.wait(max(0.0, began + number / self.rate - time.monotonic()))
            if self._over.is_set():
                return
            family = socket.AF_UNIX if isinstance(self.place, str) else socket.AF_INET
            try:
                client = socket.socket(family)
            except OSError as error:
                self.trouble.append(f"socket: {error!r}")
                return
            client.settimeout(PATIENCE)
            try:
                client.connect(self.place)
            except (ConnectionRefusedError, FileNotFoundError):
                self.refused += 1
                client.close()
                continue
            except OSError as error:
                self.trouble.append(f"connect: {error!r}")
                client.close()
                continue
            self.connected.append(client)
            if number % 3 == 0:
                self._speak(client)
            if len(self.connected) > 7 and number % 3 == 1:
                self._speak(self.connected[-7])

    def _speak(self, client: socket.socket) -> None:
        # It may have been let go already. Whether in good order, its end tells.
        with suppress(BrokenPipeError):
            try:
                client.send(b"1")
            except ConnectionResetError as error:
                self.trouble.append(f"send: {error!r}")

    def finish(self) -> Counter[bytes]:
        """What the clients have heard, once nobody comes any more."""
        self._over.set()
        self._thread.join(PATIENCE)
        heard: Counter[bytes] = Counter()
        for client in self.connected:
            with client:
                try:
                    heard[client.recv(1024)] += 1
                    assert client.recv(1024) == b""
                except ConnectionResetError as error:
                    self.trouble.append(f"recv: {error!r}")
        return heard


LONG = [pytest.mark.slow, pytest.mark.timeout(3600)]

every_kind = pytest.mark.parametrize("kind", ["tcp", pytest.param("unix", marks=pytest.mark.slow)])


def door(kind: str) -> str:
    return f"tcp:{free_port()}:interface=127.0.0.1" if kind == "tcp" else "unix:door"


@every_kind
@pytest.mark.parametrize(
    ("rate", "stops"),
    [
        pytest.param(STEADY, 3, id="a few"),
        pytest.param(STEADY, 100, id="many", marks=LONG),
        pytest.param(PRESSING, 5, id="a few, pressing", marks=LONG),
        pytest.param(PRESSING, 50, id="many, pressing", marks=LONG),
    ],
)
def test_no_client_whose_connect_has_returned_is_reset_by_a_stop(start, kind, rate, stops):
    room_for(10_000)
    listen = door(kind)
    heard: Counter[bytes] = Counter()
    trouble = []
    refused = 0

    for _ in range(stops):
        server = start.sockserver("--listen", listen)
        pouring = Pouring(way_to(server, start.cwd), rate)
        serve_some(server, 100)
        server.stop()
        serve_none(pouring)
        heard += pouring.finish()
        trouble += pouring.trouble
        refused += pouring.refused

    assert trouble == []
    # Some came just in time, had not spoken yet, and were let go without a word.
    assert set(heard) == {WELCOME, b""}
    assert heard[WELCOME] >= 100 * stops
    # The last ones found nobody: they did come until the end.
    assert refused >= stops


def way_to(server: Sockserver, folder: Path) -> Where:
    place = server.place
    return str(folder / place) if isinstance(place, str) else place


def serve_some(server: Sockserver, count: int) -> None:
    server.wait_for("accepted", count)


def serve_none(pouring: Pouring) -> None:
    """Wait until somebody has come in vain."""
    end = time.monotonic() + PATIENCE
    while not pouring.refused:
        assert time.monotonic() < end, pouring.trouble
        time.sleep(0.002)


@every_kind
def test_whoever_is_in_the_queue_when_the_stop_comes_is_let_in(start, kind):
    room_for(4000)
    # Half of them say nothing, and would be in each other's way.
    server = start.sockserver("--listen", door(kind), "--max-pending", "off")
    way = way_to(server, start.cwd)
    # Until the reactor runs, a signal is deadly.
    assert talk(way, b"1") == WELCOME
    # More than are accepted in one turn.
    server.send(signal.SIGSTOP)
    clients = [dial(way) for _ in range(1000)]
    try:
        for client in clients[::2]:
            client.sendall(b"1")
        server.send(signal.SIGTERM)
        server.send(signal.SIGCONT)
        server.wait()

        heard = Counter(read_to_end(client) for client in clients[::2])
        unheard = Counter(read_to_end(client) for client in clients[1::2])
    finally:
        for client in clients:
            client.close()

    assert heard == {WELCOME: 500}
    assert unheard == {b"": 500}
    assert not server.matching("Traceback|Unhandled")
