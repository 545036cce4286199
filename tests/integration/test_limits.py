"""The limits of a server that is run as an operator would."""

from __future__ import annotations

import signal
from contextlib import ExitStack

from .kit import dial, read_to_end, talk

WELCOME = b"welcome to server!"


def test_at_the_cap_clients_wait_outside_and_a_stop_leaves_none_of_them_without_an_end(start):
    server = start.sockserver("--max-connections", "3", "--idle-timeout", "off")
    with ExitStack() as everybody:
        clients = [everybody.enter_context(dial(server.place)) for _ in range(6)]
        server.wait_for("no room for another connection")
        for client in clients:
            client.sendall(b"1")
        assert [read_to_end(client) for client in clients] == [WELCOME] * 6
        # Those who are in say nothing, and the others wait.
        clients = [everybody.enter_context(dial(server.place)) for _ in range(6)]

        assert server.stop() == -signal.SIGTERM

        assert [read_to_end(client) for client in clients] == [b""] * 6
    assert len(server.matching("no room for another connection")) == 1
    assert len(server.matching("refused .*: max_connections: 3 of 3 connections are taken")) == 3
    assert not server.matching("Traceback|Unhandled")


def test_who_is_refused_hears_what_the_operator_says(start):
    server = start.sockserver(
        *("--listen", "tcp:0:interface=127.0.0.1", "--listen", "unix:door"),
        *("--max-connections", "1", "--on-limit", "reply:421 busy\n"),
        *("--idle-timeout", "off"),
    )
    with dial(server.place):
        for place in (server.place, str(start.cwd / "door")):
            assert talk(place, b"1" * 1000) == b"421 busy\n"
    server.stop()
    assert len(server.matching("refused .*: max_connections: 1 of 1 connections")) == 2


def test_a_source_that_is_rejected_again_and_again_is_kept_out_and_in_a_dry_run_it_is_not(start):
    answers = []
    for more in ([], ["--dry-run"]):
        server = start.sockserver("--exempt", "none", *more)
        for _ in range(5):
            talk(server.place, b"2")
        answers.append(talk(server.place, b"1"))
        server.stop()

        told = "waived" if more else "refused"
        assert server.matching(f"{told} .*: penalties: refused for .* s more")
    assert answers == [b"", WELCOME]
