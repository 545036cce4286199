"""Crowds that hold slots are shown out in time, an honest client is served, and nothing is left."""

from __future__ import annotations

import selectors
import socket
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.threads import deferToThread

from sockproto import Limits
from sockproto.handshakes.passphrase import Passphrase

from .kit import PATIENCE, descriptors, dial, read_to_end, room_for, until


@dataclass
class Crowd:
    """
    Clients that come together, each from a socket of its own.

    Attributes:
        lasted: How many seconds each was let stay, once it is over.
        received: All that any of them has heard.
    """

    drip: float | None
    lasted: list[float] = field(default_factory=list)
    received: bytes = b""

    def gather(self, port: int, size: int) -> None:
        self._clients = {}
        for _ in range(size):
            began = time.monotonic()
            self._clients[dial(("127.0.0.1", port))] = began

    def stay(self) -> None:
        """Be silent, or drip a byte now and then, until everybody is shown out."""
        here = selectors.DefaultSelector()
        for client in self._clients:
            client.setblocking(False)
            here.register(client, selectors.EVENT_READ)
        end = time.monotonic() + 2 * PATIENCE
        next_drip = time.monotonic()
        while here.get_map():
            now = time.monotonic()
            assert now < end, f"{len(here.get_map())} clients are still there"
            if self.drip is not None and now >= next_drip:
                next_drip = now + self.drip
                for key in list(here.get_map().values()):
                    self._say(key.fileobj)
            for key, _ in here.select(0.05 if self.drip is None else self.drip / 4):
                self._listen(here, key.fileobj)
        here.close()

    def _say(self, client: Any) -> None:
        # It may have been shown out a moment ago; the selector will say so.
        with suppress(OSError):
            client.send(b".")

    def _listen(self, here: selectors.BaseSelector, client: Any) -> None:
        try:
            part = client.recv(1024)
        except ConnectionResetError:
            part = b""
        self.received += part
        if not part:
            self.lasted.append(time.monotonic() - self._clients[client])
            here.unregister(client)
            client.close()


# Time enough for all of them to come, on a slow machine, before the first is shown out.
SMALL = (100, Limits(idle_timeout=2.0, handshake_timeout=4.0), 0.3)
FULL = (500, Limits(), 1.0)


@pytest.mark.parametrize(
    ("size", "limits", "drip"),
    [
        pytest.param(*SMALL, id="small", marks=pytest.mark.slow),
        pytest.param(*FULL, id="full", marks=pytest.mark.slow),
    ],
)
@pytest_twisted.ensureDeferred
async def test_crowds_are_shown_out_and_an_honest_client_is_served_at_once(
    sockproto_server, size, limits, drip
):
    room_for(4 * size + 500)
    server = await sockproto_server(
        Passphrase(b"sesame"), limits=limits, listen="tcp:0:interface=127.0.0.1:backlog=4096"
    )
    # A thread, and what it needs, is not what a crowd leaves behind.
    await deferToThread(int)
    before = descriptors()
    silent, dripping = Crowd(None), Crowd(drip)

    await deferToThread(silent.gather, server.port, size)
    leaving = deferToThread(silent.stay)
    await deferToThread(dripping.gather, server.port, size)
    staying = deferToThread(dripping.stay)
    await until(lambda: len(server.factory.terms.live) == 2 * size)
    assert await deferToThread(honest, server.port) == b"OK\n"
    shown_out = len(server.verdicts) - 1
    await leaving
    await staying

    # It has not waited for those who were there before.
    assert shown_out == 0
    assert len(silent.lasted) == len(dripping.lasted) == size
    assert silent.received == dripping.received == b""
    # Never early; the dripping ones outlast the silent ones, and are told so.
    assert min(silent.lasted) > limits.idle_timeout - 0.1
    assert min(dripping.lasted) > limits.handshake_timeout - 0.1
    words = [each.detail.partition(" in ")[0] for each in server.verdicts if each.detail]
    assert words.count(f"nothing heard for {limits.idle_timeout:g} s") == size
    assert words.count(f"not finished after {limits.handshake_timeout:g} s") == size
    assert len(words) == 2 * size
    # Nothing is left.
    await until(lambda: not server.factory.terms.live)
    assert len(server.factory.terms.deadlines) == 0
    assert len(server.endings) == 2 * size + 1
    await until(lambda: descriptors() <= before)


def honest(port: int) -> bytes:
    with dial(("127.0.0.1", port)) as client:
        client.sendall(b"sesame\n")
        client.shutdown(socket.SHUT_WR)
        return read_to_end(client)
