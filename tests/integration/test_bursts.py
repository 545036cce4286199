"""A burst of clients, while the server is busy with something else: the kernel keeps them all."""

from __future__ import annotations

import select
import signal
import socket
import sys
import time
from collections import Counter
from errno import EINPROGRESS
from pathlib import Path

import pytest

from .kit import PATIENCE, Sockserver, read_to_end, room_for

WELCOME = b"welcome to server!"

SIZE = 2000


def gather(server: Sockserver, size: int) -> list[socket.socket]:
    """So many clients, all of which are told to connect before any of them is looked after."""
    clients = []
    for _ in range(size):
        client = socket.socket()
        client.setblocking(False)
        assert client.connect_ex(server.place) in (0, EINPROGRESS)
        clients.append(client)
    return clients


def wait_for_all(clients: list[socket.socket]) -> None:
    """Wait until each is connected, or has failed."""
    waiting = {client.fileno() for client in clients}
    poll = select.poll()
    for fileno in waiting:
        poll.register(fileno, select.POLLOUT)
    end = time.monotonic() + PATIENCE
    while waiting:
        assert time.monotonic() < end, f"{len(waiting)} are not connected"
        for fileno, _ in poll.poll(1000):
            poll.unregister(fileno)
            waiting.discard(fileno)


def retransmits(client: socket.socket) -> int:
    """How often it had to send something again, its SYN included (``tcpi_total_retrans``)."""
    info = client.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
    return int.from_bytes(info[100:104], sys.byteorder)


@pytest.fixture
def server(start):
    most = int(Path("/proc/sys/net/core/somaxconn").read_text())
    if most < SIZE:
        pytest.skip(f"the kernel keeps {most} clients waiting, {SIZE} are needed")
    room_for(2 * SIZE + 500)
    forever = ["--idle-timeout", "off", "--handshake-timeout", "off"]
    return start.sockserver(*forever, "--max-pending", "off")


def test_nobody_knocks_twice_while_the_server_is_busy(server):
    # As busy as can be: all the clients are through before it goes on.
    server.send(signal.SIGSTOP)

    clients = gather(server, SIZE)
    try:
        wait_for_all(clients)
        server.send(signal.SIGCONT)
        for client in clients:
            client.setblocking(True)
            client.settimeout(PATIENCE)
            client.sendall(b"1")
        heard = Counter(read_to_end(client) for client in clients)
        again = Counter(retransmits(client) for client in clients)
    finally:
        for client in clients:
            client.close()

    assert heard == {WELCOME: SIZE}
    assert again == {0: SIZE}
    server.wait_for("accepted", SIZE)


def test_those_who_have_spoken_meanwhile_are_served_too(server):
    server.send(signal.SIGSTOP)

    clients = gather(server, SIZE)
    try:
        wait_for_all(clients)
        for client in clients:
            client.setblocking(True)
            client.settimeout(PATIENCE)
            client.sendall(b"1")
        # These have gone again, with and without a word.
        for client in clients[: SIZE // 4]:
            client.close()
        server.send(signal.SIGCONT)
        heard = Counter(read_to_end(client) for client in clients[SIZE // 4 :])
    finally:
        for client in clients:
            client.close()

    assert heard == {WELCOME: SIZE - SIZE // 4}
    assert not server.matching("Traceback|Unhandled")
