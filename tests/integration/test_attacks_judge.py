"""The judge of an attack tells what it has met, whatever a server does to it."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Thread
from typing import Any

import pytest

from sockproto.testing.attack import Plan
from sockproto.testing.attack.crew import Crew
from sockproto.testing.attack.loop import Loop
from sockproto.testing.attack.prober import Prober, Visit
from sockproto.testing.attack.tally import Tally

from .kit import PATIENCE, free_port

RESET = struct.pack("ii", 1, 0)


def serve_it(client: socket.socket) -> None:
    client.recv(100)
    client.sendall(b"welcome to ser")
    time.sleep(0.01)
    client.sendall(b"ver!")


def answer_otherwise(client: socket.socket) -> None:
    client.recv(100)
    client.sendall(b"welcome to hell")


def end_too_soon(client: socket.socket) -> None:
    client.recv(100)
    client.sendall(b"welcome")


def reset_it(client: socket.socket) -> None:
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)


def keep_silent(client: socket.socket) -> None:
    client.recv(100)
    # Until the client has had enough.
    client.recv(100)


@contextmanager
def server(*manners: Callable[[socket.socket], object]) -> Iterator[int]:
    """A server that treats the first client in the first manner, and so on; gives its port."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            for treat in manners:
                client, _ = listening.accept()
                with client:
                    treat(client)

        thread = Thread(target=serve, daemon=True)
        thread.start()
        yield listening.getsockname()[1]
        thread.join(PATIENCE)


def visit(port: int, **more: Any) -> Visit:
    """Pay one visit, with all the patience that a server may need."""
    usual = {"tries": 1, "try_after": 0.01, "try_timeout": 30.0, "probe_every": 10.0}
    loop = Loop()
    prober = Prober(Plan.read("hold", f"127.0.0.1:{port}", **{**usual, **more}), loop)
    prober.start()
    prober.finish()
    loop.run()
    [paid] = prober.visits
    return paid


@pytest.mark.parametrize(
    ("treat", "came_to"),
    [
        (serve_it, "served"),
        (answer_otherwise, "another answer"),
        (end_too_soon, "closed without an answer"),
        (reset_it, "reset"),
        (keep_silent, "no answer"),
    ],
)
def test_the_judge_tells_how_it_was_treated(treat, came_to):
    with server(treat) as port:
        paid = visit(port, try_timeout=0.3) if treat is keep_silent else visit(port)

    assert [each.came_to for each in paid.tries] == [came_to]
    assert paid.served == paid.served_at_once == (came_to == "served")
    assert paid.tries[0].took > 0


def test_nobody_at_home_is_a_refusal():
    assert [each.came_to for each in visit(free_port(), tries=2).tries] == ["refused"] * 2


def test_the_judge_tries_again_until_it_is_served_and_no_longer():
    with server(reset_it, end_too_soon, serve_it) as port:
        paid = visit(port, tries=5)

    assert [each.came_to for each in paid.tries] == ["reset", "closed without an answer", "served"]
    assert paid.served
    assert not paid.served_at_once


def test_a_judge_that_says_nothing_waits_for_a_greeting():
    with server(lambda client: client.sendall(b"SSH-2.0-OpenSSH\r\n")) as port:
        assert visit(port, send=b"", expect=b"SSH-").served


def attack(port: int, kind: str, **more: Any) -> Tally:
    """Attack until everybody has had enough."""
    loop = Loop()
    plan = Plan.read(kind, f"127.0.0.1:{port}", **{"duration": PATIENCE, **more})
    crew = Crew(plan, loop)
    crew.start()
    loop.run()
    return crew.tally


def test_a_crew_goes_home_after_so_many_connections():
    with server(serve_it, serve_it, serve_it) as port:
        tally = attack(port, "flood", total=3, connections=1)

    assert (tally.attempts, tally.connected, tally.answered, tally.failed) == (3, 3, 3, 0)


def test_a_crew_goes_home_when_its_time_is_over():
    with server(keep_silent) as port:
        tally = attack(port, "hold", connections=1, duration=0.1)

    assert (tally.attempts, tally.most, tally.closed) == (1, 1, 0)


def test_a_crew_that_finds_nobody_fails_and_does_not_hurry():
    tally = attack(free_port(), "flood", connections=2, duration=0.25)

    assert tally.connected == 0
    assert 2 <= tally.failed == tally.attempts <= 6


def test_a_crew_that_pushes_goes_home_after_so_many_bytes():
    def take_it(client: socket.socket) -> None:
        while client.recv(65536):
            pass

    with server(take_it) as port:
        tally = attack(port, "oversize", connections=1, amount=1_000_000)

    assert 1_000_000 <= tally.sent < 1_100_000


def test_one_that_is_reset_comes_back():
    with server(reset_it, keep_silent) as port:
        tally = attack(port, "hold", connections=1, return_after=0.01, duration=1.0)

    assert (tally.reset, tally.connected) == (1, 2)
