"""When there is no room for another descriptor, the server rests and its sessions go on."""

from __future__ import annotations

import resource
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from .kit import Sockserver, cpu_time, descriptors, dial, eventually, read_to_end, room_for

LIMIT = 256
CROWD = 1000
FRIENDS = 10

MOST_LINES = 20
MOST_CPU = 0.2
"""
Of a core. To accept in vain as fast as can be takes a whole one; to rest, half a hundredth, and on
a machine that is ten times slower ten times as much.
"""


def keep_few_descriptors() -> None:
    """What ``ulimit -n`` does."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (LIMIT, LIMIT))


@pytest.fixture
def server(start) -> Sockserver:
    room_for(2 * CROWD)
    # Nobody is shown out: the crowd stays for as long as it likes.
    options = ["--idle-timeout", "off", "--handshake-timeout", "off"]
    # The cap would stop them before the descriptors are gone, and the early drop some of them.
    options += ["--max-connections", "off", "--max-pending", "off"]
    options += ["--handshake", "passphrase:sesame", "--session", "echo"]
    return start.sockserver(*options, preexec_fn=keep_few_descriptors)


@pytest.fixture
def friends(server: Sockserver) -> Iterator[list[socket.socket]]:
    """Sessions that have been there before the crowd."""
    with ExitStack() as all_of_them:
        made = [all_of_them.enter_context(dial(server.place)) for _ in range(FRIENDS)]
        for friend in made:
            friend.sendall(b"sesame\n")
            assert friend.recv(3, socket.MSG_WAITALL) == b"OK\n"
        yield made


def echoes(friend: socket.socket, word: bytes) -> bool:
    friend.sendall(word)
    return friend.recv(len(word), socket.MSG_WAITALL) == word


def open_descriptors(server: Sockserver) -> int:
    return descriptors(server.pid)


@pytest.mark.parametrize(
    "seconds",
    [
        pytest.param(2, id="a moment", marks=pytest.mark.slow),
        pytest.param(30, id="a while", marks=pytest.mark.slow),
    ],
)
def test_a_crowd_beyond_the_limit_of_descriptors_costs_next_to_nothing(server, friends, seconds):
    lines = len(server.lines)
    with ExitStack() as crowd:
        for _ in range(CROWD):
            crowd.enter_context(dial(server.place))
        eventually(lambda: open_descriptors(server) >= LIMIT - 1)
        spent, began = cpu_time(server.pid), time.monotonic()

        while time.monotonic() < began + seconds:
            assert all(echoes(friend, b"still here") for friend in friends)
            time.sleep(0.25)

        spent, took = cpu_time(server.pid) - spent, time.monotonic() - began
        said = server.lines[lines:]
        late = dial(server.place)
        late.sendall(b"sesame\n")

    gone = time.monotonic()
    with late:
        assert late.recv(3, socket.MSG_WAITALL) == b"OK\n"
        back = time.monotonic() - gone
        assert echoes(late, b"at last")
    assert all(echoes(friend, b"and still") for friend in friends)
    assert len(said) <= MOST_LINES, said
    assert spent / took < MOST_CPU
    print(f"\nspent {spent / took:.2%} of a core, {len(said)} lines, back after {back:.3f} s")
    assert not server.matching("Traceback|Unhandled")


def test_whoever_is_accepted_becomes_a_session_with_the_last_descriptor(server):
    """To become a transport, a connection needs no descriptor but its own."""
    with ExitStack() as crowd:
        first = crowd.enter_context(dial(server.place))
        # It has been accepted, and has a descriptor.
        first.sendall(b"ses")
        for _ in range(LIMIT):
            crowd.enter_context(dial(server.place))
        eventually(lambda: open_descriptors(server) >= LIMIT - 1)

        first.sendall(b"ame\n")
        assert first.recv(3, socket.MSG_WAITALL) == b"OK\n"
        assert echoes(first, b"hello")
        first.shutdown(socket.SHUT_WR)
        assert read_to_end(first) == b""


def test_those_who_wait_outside_are_let_in_as_others_leave(server):
    with ExitStack() as crowd:
        clients = [crowd.enter_context(dial(server.place)) for _ in range(2 * LIMIT)]
        eventually(lambda: open_descriptors(server) >= LIMIT - 1)
        for client in clients:
            client.sendall(b"mellon\n")

        for client in clients:
            assert read_to_end(client) == b"NO\n"
            client.close()
    # So many lines are summed up; the answers were counted.
    server.wait_for("rejected")
