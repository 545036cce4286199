"""A conversation, line by line, and what a test shows when it goes on otherwise."""

from __future__ import annotations

import pytest
from twisted.internet.task import Clock, deferLater

from sockproto import (
    Accept,
    HandshakeTimeout,
    LimitExceeded,
    PeerDisconnected,
    PeerFacts,
    Reject,
    TlsFacts,
)
from sockproto.testing import dialogue


class Guests:
    """Ask for a name, and greet whoever is on the list."""

    def __init__(self, clock=None):
        self.clock = clock

    async def serve(self, peer):
        peer.send(b"who?\n")
        name = await peer.receive_line(8)
        if self.clock is not None:
            await deferLater(self.clock, 2.0, lambda: None)
        if name == b"ann":
            return Accept(b"hello\n", identity="ann", session=next(iter(peer.sessions), None))
        return Reject(b"no\n", reason="not on the list")


def test_a_conversation_is_read_as_it_is_held():
    dialogue(Guests().serve).says(b"who?\n").hears(b"ann\nmore").says(b"hello\n").accepts(
        "ann", leaves=b"more"
    )
    dialogue(Guests().serve).says(b"who?\n").hears(b"bob\n").says(b"no\n").rejects()
    dialogue(Guests().serve).hears(b"bob\n").says(b"who?\nno\n").rejects("not on the list")


def test_what_is_said_in_pieces_may_be_looked_at_in_pieces():
    talk = dialogue(Guests().serve).says(b"who").says(b"?\n").waits("receive_line")

    talk.hears(b"a", b"n", b"n").waits().hears(b"\n").says(b"hello\n").accepts("ann").accepts("ann")


def test_a_peer_may_leave_or_say_too_much_or_be_too_slow():
    talk = dialogue(Guests().serve)

    talk.hears(b"ann").hears_end().fails(PeerDisconnected, "expected a line")
    dialogue(Guests().serve).hears(b"x" * 100).fails(LimitExceeded)
    slow = HandshakeTimeout(5.0, "idle_timeout")
    assert dialogue(Guests().serve).breaks_off(slow).fails(HandshakeTimeout).outcome is slow


def test_time_passes_on_the_clock_that_is_given():
    clock = Clock()
    talk = dialogue(Guests(clock).serve, clock=clock).says(b"who?\n").hears(b"ann\n")

    talk.waits("Deferred").passes(1.5).waits().passes(0.5).says(b"hello\n").accepts("ann")


def test_without_a_clock_no_time_passes():
    with pytest.raises(TypeError) as caught:
        dialogue(Guests().serve).passes(1.0)

    assert str(caught.value) == (
        "no time passes without a clock: write dialogue(side, clock=Clock())"
    )


def test_a_session_is_chosen_of_those_that_are_on_offer():
    facts = PeerFacts(sessions=("chat",))

    dialogue(Guests().serve, facts=facts).hears(b"ann\n").says(b"who?\nhello\n").accepts(
        "ann", session="chat"
    )


def test_tls_is_there_when_it_is_asked_for():
    class Upgrade:
        async def serve(self, peer):
            await peer.receive_line(8)
            peer.send(b"go\n")
            tls = await peer.start_tls()
            return Accept(identity=tls.names[0])

    talk = dialogue(Upgrade().serve).hears(b"tls\n").says(b"go\n")

    talk.starts_tls(TlsFacts(names=("ann",))).accepts("ann")


def test_a_failure_shows_the_two_conversations_side_by_side():
    talk = dialogue(Guests().serve).says(b"who?\n").hears(b"bob\n")

    with pytest.raises(AssertionError) as caught:
        talk.says(b"hello\n")

    assert str(caught.value).splitlines() == [
        "Guests.serve goes on otherwise",
        "",
        "  expected        | what happened",
        "  says b'who?\\n'  | says b'who?\\n'",
        "  hears b'bob\\n'  | hears b'bob\\n'",
        "  says b'hello\\n' | says b'no\\n'   <--",
    ]


@pytest.mark.parametrize(
    ("expect", "happened"),
    [
        (lambda talk: talk.says(b"more"), "rejects 'not on the list'"),
        (lambda talk: talk.waits(), "rejects 'not on the list'"),
        (lambda talk: talk.accepts("ann"), "rejects 'not on the list'"),
        (lambda talk: talk.rejects("too late"), "rejects 'not on the list'"),
        (lambda talk: talk.fails(PeerDisconnected), "rejects 'not on the list'"),
        (lambda talk: talk.starts_tls(), "rejects 'not on the list'"),
    ],
)
def test_whatever_is_expected_is_compared_with_what_happened(expect, happened):
    talk = dialogue(Guests().serve).hears(b"bob\n").says(b"who?\nno\n")

    with pytest.raises(AssertionError) as caught:
        expect(talk)

    assert str(caught.value).endswith(f"| {happened}   <--")


@pytest.mark.parametrize(
    ("heard", "happened"),
    [
        (b"ann", "waits on receive_line(max_bytes=8)"),
        (b"ann\nmore", "accepts identity='ann' session=None leaving b'more'"),
        (b"x" * 99, "fails with LimitExceeded peer sent more than 8 bytes, the limit set by max"),
    ],
)
def test_what_happened_is_told_in_the_same_words(heard, happened):
    talk = dialogue(Guests().serve).says(b"who?\n").hears(heard)
    if heard.startswith(b"ann\n"):
        talk.says(b"hello\n")

    with pytest.raises(AssertionError) as caught:
        talk.accepts("bob")

    assert happened in str(caught.value)


def test_words_that_nobody_expected_fail_a_verdict():
    with pytest.raises(AssertionError, match=r"\| says b'who"):
        dialogue(Guests().serve).hears(b"ann\n").accepts("ann")
