from __future__ import annotations

import random

import pytest

from sockproto.core.exchange import Exchange
from sockproto.core.outcomes import Reject
from sockproto.core.peer import Peer
from sockproto.testing.simulation.dice import Dice
from sockproto.testing.simulation.world import World, story_of
from sockproto.transport import gate
from sockproto.transport.deadlines import Deadlines
from sockproto.transport.terms import Terms

SEEDS = range(150)


@pytest.fixture(autouse=True)
def plugins_that_break(logged_failures):
    """Some of the plug-ins of a world are meant to break, and it is logged that they did."""
    yield
    logged_failures.take()


def first_broken_promise(seeds=SEEDS):
    return next((broken for _, _, broken in map(story_of, seeds) if broken is not None), None)


def test_every_promise_is_kept():
    assert first_broken_promise() is None


def test_the_same_seed_tells_the_same_story():
    for seed in range(20):
        assert story_of(seed) == story_of(seed)


def test_the_stories_hold_all_there_is():
    told = "\n".join("\n".join(story_of(seed)[1]) for seed in SEEDS)

    for word in ("accepted", "rejected", "timeout", "lost", "probe", "limit", "crashed", "refused"):
        assert f"HandshakeEnded {word} " in told
    for word in ("shutdown", "the server stops", "reset", "end", "connects"):
        assert word in told


def test_chance_is_left_as_it_was():
    random.seed(4711)
    expected = random.random()
    random.seed(4711)

    story_of(1)

    assert random.random() == expected


def test_dice_cut_bytes_and_lose_none():
    dice = Dice(1)

    assert all(b"".join(dice.cut(b"x" * 100)) == b"x" * 100 for _ in range(50))
    assert len({len(dice.cut(b"x" * 100)) for _ in range(50)}) > 5


def test_a_slot_that_is_not_given_back_is_found(monkeypatch):
    monkeypatch.setattr(Terms, "release", lambda self, ticket: None)

    assert "connections are counted" in first_broken_promise()


def test_bytes_that_are_lost_at_the_hand_over_are_found(monkeypatch):
    monkeypatch.setattr(Exchange, "unread", lambda self: b"")

    assert "the session has heard b''" in first_broken_promise()


def test_a_deadline_that_is_not_kept_is_found(monkeypatch):
    monkeypatch.setattr(Deadlines, "file", lambda self, entry: None)

    assert "a deadline was missed" in first_broken_promise()


@pytest.mark.parametrize("verdict", [gate.Accept, Reject])
def test_a_reply_that_is_not_sent_is_found(monkeypatch, verdict):
    data_to_send = Exchange.data_to_send

    def mute(self):
        said = data_to_send(self)
        return b"" if type(self.outcome) is verdict else said

    monkeypatch.setattr(Exchange, "data_to_send", mute)

    assert "the peer has heard" in first_broken_promise()


def test_a_gate_that_hears_nobody_is_found(monkeypatch):
    monkeypatch.setattr(gate.Gate, "data_received", lambda self, data: None)

    assert "ends in timeout" in first_broken_promise()


def test_a_peer_that_has_finished_and_is_waited_for_is_found(monkeypatch):
    monkeypatch.setattr(gate.Gate, "eof_received", lambda self: None)

    assert "ends in timeout, though it was over" in first_broken_promise()


def test_a_handshake_that_crashes_by_itself_is_found(monkeypatch):
    async def broken(self, max_bytes):
        raise IndexError

    monkeypatch.setattr(Peer, "receive_line", broken)

    assert first_broken_promise() == "a handshake has crashed that does not break"


def test_what_nobody_was_told_to_raise_is_found(monkeypatch):
    data_received = gate.Gate.data_received

    def fussy(self, data):
        if data == b"y":
            raise KeyError(data)
        data_received(self, data)

    monkeypatch.setattr(gate.Gate, "data_received", fussy)

    assert first_broken_promise() == "KeyError was raised: b'y'"


def test_an_ending_that_is_told_twice_is_found(monkeypatch):
    end = gate.Gate._end

    def twice(self):
        end(self)
        self._over = False
        end(self)

    monkeypatch.setattr(gate.Gate, "_end", twice)

    assert first_broken_promise() is not None


def test_a_session_without_an_accept_is_found(monkeypatch):
    decide = gate.Gate._decide

    def lenient(self, exchange):
        outcome = exchange.outcome
        if type(outcome).__name__ == "Reject":
            exchange.outcome = gate.Accept(outcome.reply)
        decide(self, exchange)

    monkeypatch.setattr(gate.Gate, "_decide", lenient)

    assert first_broken_promise() == "somebody was accepted who has not said yes"


@pytest.mark.slow
def test_every_promise_is_kept_in_20000_worlds():
    assert first_broken_promise(range(20_000)) is None


def test_a_world_is_made_before_it_lives():
    world = World(3)

    assert world.trace == []
    world.live()
    assert world.trace != []
