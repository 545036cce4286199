"""What the demo says, in virtual time; it is shown in tests/integration/test_demo.py."""

from __future__ import annotations

import pytest
from twisted.internet.task import Clock

from sockproto import Accept, Address, HandshakeEnded, Reject
from sockproto.commands.demo import Lesson, Narrator
from sockproto.testing import converse


@pytest.fixture
def told():
    return []


@pytest.fixture
def clock():
    return Clock()


def verdict(reason, detail="", port=40000, duration=0.0004):
    peer, local = (Address("ipv4", "127.0.0.1", each) for each in (port, 8001))
    return HandshakeEnded(
        1, peer, local, reason, "handshake", detail, None, None, duration, 1, None
    )


def test_a_line_with_a_1_is_welcome_however_it_is_cut():
    assert converse(Lesson().serve, b"1\n") == Accept(b"welcome to server!\n")
    assert converse(Lesson().serve, b"2\r\n") == Reject(
        b"please go out!\n", reason="expected b'1', got b'2'"
    )


def test_each_line_says_when_and_who(clock, told):
    narrator = Narrator(clock, told.append, colour=False)
    narrator.tell("right", "sends b'1'")
    clock.advance(10.96)
    narrator.tell("dripping", "has gone")

    assert told == ["  0.0 s  right     sends b'1'\n", " 11.0 s  dripping  has gone\n"]


def test_the_server_calls_its_clients_by_their_names(clock, told):
    narrator = Narrator(clock, told.append, colour=False)
    narrator.names[40000] = "silent"
    narrator(verdict("timeout", "nothing heard for 5 s", duration=5.04))
    narrator(verdict("accepted", port=1))

    assert told == [
        "  0.0 s  server    time out silent in 5.0 s: nothing heard for 5 s\n",
        "  0.0 s  server    accepted somebody in 0.4 ms\n",
    ]


def test_colour_changes_nothing_but_the_names(clock, told):
    Narrator(clock, told.append, colour=True).tell("wrong", "sends b'2'")

    assert told == ["  0.0 s  \x1b[31mwrong   \x1b[0m  sends b'2'\n"]
