import asyncio
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, ensureDeferred

from sockproto import (
    Accept,
    Address,
    Exchange,
    HandshakeFailed,
    LimitExceeded,
    PeerDisconnected,
    PeerError,
    PeerFacts,
    ProtocolViolation,
    TlsFacts,
)
from sockproto.core.exchange import MAX_UNSENT
from sockproto.core.facts import NO_FACTS
from sockproto.core.peer import GIVE_UP, MAX_REFUSALS, MORE, Peer
from sockproto.testing import Story, converse, every_cut, play

unhurried = settings(deadline=None)


def reading(read):
    """A side that reads something, and gives it as its result."""

    async def serve(peer):
        return Accept(result=await read(peer))

    return serve


def exactly(count):
    return reading(lambda peer: peer.receive_exactly(count))


def until(delimiter, max_bytes):
    return reading(lambda peer: peer.receive_until(delimiter, max_bytes))


def line(max_bytes):
    return reading(lambda peer: peer.receive_line(max_bytes))


def frame(prefix_size, max_bytes):
    return reading(lambda peer: peer.receive_frame(prefix_size, max_bytes))


def netstring(max_bytes):
    return reading(lambda peer: peer.receive_netstring(max_bytes))


def expecting(wanted):
    return reading(lambda peer: peer.expect(wanted))


def to_end(max_bytes):
    return reading(lambda peer: peer.receive_to_end(max_bytes))


def some(max_bytes):
    return reading(lambda peer: peer.receive_some(max_bytes))


def read_in_every_cut(side, data, **options):
    """What a side reads, which has to be the same in every cut; and what it leaves."""
    outcome = converse(side, data, **options)
    return outcome.result, play(side, [data], **options).unread


def refused_in_every_cut(side, data, kind, **options):
    """How a side refuses, which has to be the same in every cut."""
    with pytest.raises(kind) as caught:
        converse(side, data, **options)
    assert type(caught.value) is kind
    return str(caught.value)


# receive_exactly


def test_exactly_so_many_bytes_are_received_and_the_rest_is_left():
    assert read_in_every_cut(exactly(3), b"abcde") == (b"abc", b"de")


def test_no_bytes_at_all_can_be_received():
    assert read_in_every_cut(exactly(0), b"ab") == (b"", b"ab")


def test_fewer_bytes_than_wanted_are_a_disconnect():
    words = refused_in_every_cut(exactly(3), b"ab", PeerDisconnected)

    assert words == "peer disconnected after 2 bytes, expected 3 bytes"


def test_a_negative_count_is_the_handshake_s_mistake():
    words = refused_in_every_cut(exactly(-1), b"ab", HandshakeFailed)

    assert "raised ValueError: count must be at least 0, got -1" in words


def test_more_bytes_than_the_budget_cannot_be_asked_for():
    words = refused_in_every_cut(exactly(11), b"x" * 11, LimitExceeded, max_bytes=10)

    assert words == "peer sent more than 10 bytes, the limit set by max_handshake_bytes"


def test_as_many_bytes_as_the_budget_can():
    assert read_in_every_cut(exactly(10), b"x" * 12, max_bytes=10) == (b"x" * 10, b"xx")


# receive_until


def test_a_delimiter_is_dropped_and_what_follows_is_left():
    assert read_in_every_cut(until(b"\n", 64), b"sesame\nhello") == (b"sesame", b"hello")


def test_a_delimiter_may_be_cut_in_two():
    assert read_in_every_cut(until(b"\r\n\r\n", 64), b"a\r\nb\r\n\r\n\r\n") == (
        b"a\r\nb",
        b"\r\n",
    )


def test_a_delimiter_that_overlaps_itself_ends_at_its_first_chance():
    assert read_in_every_cut(until(b"aab", 64), b"aaaabaab") == (b"aa", b"aab")


def test_nothing_may_stand_before_a_delimiter():
    assert read_in_every_cut(until(b"--", 0), b"--rest") == (b"", b"rest")


def test_an_empty_message_may_follow_another():
    async def serve(peer):
        return Accept(result=[await peer.receive_until(b"\n", 8) for _ in range(3)])

    assert read_in_every_cut(serve, b"a\n\nb\n") == ([b"a", b"", b"b"], b"")


def test_the_delimiter_does_not_count():
    assert read_in_every_cut(until(b"\r\n", 6), b"sesame\r\nhello") == (b"sesame", b"hello")


@pytest.mark.parametrize("data", [b"sesames\r\n", b"sesame--", b"sesame--\r\n"])
def test_a_delimiter_that_comes_too_late_is_over_the_limit(data):
    words = refused_in_every_cut(until(b"\r\n", 6), data, LimitExceeded)

    assert words == "peer sent more than 6 bytes, the limit set by max_bytes"


def test_a_peer_that_leaves_before_the_delimiter_is_told_from_one_that_is_done():
    words = refused_in_every_cut(until(b"\r\n", 64), b"sesame\r", PeerDisconnected)

    assert words == "peer disconnected after 7 bytes, expected b'\\r\\n'"


def test_an_empty_delimiter_is_the_handshake_s_mistake():
    words = refused_in_every_cut(until(b"", 64), b"sesame", HandshakeFailed)

    assert "raised ValueError: delimiter must not be empty" in words


@unhurried
@given(data=st.binary(max_size=24), delimiter=st.sampled_from([b"\n", b"ab", b"aab", b"\0\0\0"]))
def test_whatever_stands_before_a_delimiter_is_received(data, delimiter):
    before, _, after = (data + delimiter).partition(delimiter)

    assert read_in_every_cut(until(delimiter, 24), data + delimiter) == (before, after)


# receive_line


@pytest.mark.parametrize(
    ("data", "text", "left"),
    [
        (b"hello\nyou", b"hello", b"you"),
        (b"hello\r\nyou", b"hello", b"you"),
        (b"\n\n", b"", b"\n"),
        (b"\r\n\n", b"", b"\n"),
        (b"a\rb\r\r\n", b"a\rb\r", b""),
        (b"12345678\n", b"12345678", b""),
        (b"12345678\r\n", b"12345678", b""),
        (b"1234567\r\r\n", b"1234567\r", b""),
    ],
)
def test_a_line_loses_its_ending_whichever_it_is(data, text, left):
    assert read_in_every_cut(line(8), data) == (text, left)


@pytest.mark.parametrize(
    "data", [b"123456789\n", b"12345678\r\r\n", b"1234567890", b"123456789\r\n"]
)
def test_a_line_that_is_too_long_is_over_the_limit(data):
    words = refused_in_every_cut(line(8), data, LimitExceeded)

    assert words == "peer sent more than 8 bytes, the limit set by max_bytes"


@pytest.mark.parametrize("data", [b"", b"hello", b"12345678\r"])
def test_a_line_without_an_end_is_a_disconnect(data):
    words = refused_in_every_cut(line(8), data, PeerDisconnected)

    assert words == f"peer disconnected after {len(data)} bytes, expected a line"


# receive_frame


@pytest.mark.parametrize(
    ("prefix_size", "prefix"), [(1, b"\x05"), (2, b"\x00\x05"), (4, b"\x00\x00\x00\x05")]
)
def test_a_frame_is_as_long_as_it_says(prefix_size, prefix):
    assert read_in_every_cut(frame(prefix_size, 5), prefix + b"helloyou") == (b"hello", b"you")


def test_a_frame_may_be_empty():
    assert read_in_every_cut(frame(2, 5), b"\0\0you") == (b"", b"you")


def test_a_frame_that_says_too_much_is_not_waited_for():
    exchange = Exchange(frame(2, 5))

    exchange.receive_data(b"\x00\x06")

    assert str(exchange.outcome) == "peer sent more than 5 bytes, the limit set by max_bytes"


def test_a_frame_that_says_too_much_is_over_the_limit_in_every_cut():
    words = refused_in_every_cut(frame(2, 5), b"\xff\xffhello", LimitExceeded)

    assert words == "peer sent more than 5 bytes, the limit set by max_bytes"


def test_a_frame_that_is_cut_off_is_a_disconnect():
    words = refused_in_every_cut(frame(1, 5), b"\x05hell", PeerDisconnected)

    assert words == "peer disconnected after 5 bytes, expected 5 bytes"


@pytest.mark.parametrize("prefix_size", [0, 3, 8])
def test_a_length_of_an_odd_size_is_the_handshake_s_mistake(prefix_size):
    words = refused_in_every_cut(frame(prefix_size, 5), b"hello", HandshakeFailed)

    assert f"raised ValueError: prefix_size must be 1, 2 or 4, got {prefix_size}" in words


# receive_netstring


@pytest.mark.parametrize(
    ("data", "text", "left"),
    [
        (b"5:hello,you", b"hello", b"you"),
        (b"0:,0:,", b"", b"0:,"),
        (b"12:hello, world,", b"hello, world", b""),
        (b"3:1:,,", b"1:,", b""),
        (b"99:" + b"x" * 99 + b",", b"x" * 99, b""),
    ],
)
def test_a_netstring_is_as_long_as_it_says(data, text, left):
    assert read_in_every_cut(netstring(99), data) == (text, left)


@pytest.mark.parametrize("data", [b"100:x", b"99999999999:x", b"100"])
def test_a_netstring_that_says_too_much_is_over_the_limit(data):
    words = refused_in_every_cut(netstring(99), data, LimitExceeded)

    assert words == "peer sent more than 99 bytes, the limit set by max_bytes"


def test_a_netstring_with_as_many_digits_as_allowed_may_still_say_too_much():
    words = refused_in_every_cut(netstring(50), b"51:x", LimitExceeded)

    assert words == "peer sent more than 50 bytes, the limit set by max_bytes"


@pytest.mark.parametrize("data", [b":", b"x", b"5x:", b"-1:", b"05:hello,", b"00:,", b" 5:hello,"])
def test_what_has_no_proper_length_is_no_netstring(data):
    words = refused_in_every_cut(netstring(99), data, ProtocolViolation)

    assert words == f"expected a netstring, got {data!r}"


def test_an_arabic_digit_is_no_digit():
    words = refused_in_every_cut(netstring(99), "٣:abc,".encode(), ProtocolViolation)

    assert words.startswith("expected a netstring, got b'\\xd9\\xa3:abc,'")


def test_a_netstring_that_is_really_a_web_request_is_guessed_at():
    words = refused_in_every_cut(netstring(99), b"GET / HTTP/1.1\r\n", ProtocolViolation)

    assert words == ("expected a netstring, got b'GET / HTTP/1.1\\r\\n'; is this an HTTP client?")


def test_a_netstring_ends_in_a_comma():
    words = refused_in_every_cut(netstring(99), b"5:hello;you", ProtocolViolation)

    assert words == "expected a comma after a netstring, got b';you'"


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", "a netstring"),
        (b"5", "a netstring"),
        (b"5:", "the rest of a netstring"),
        (b"5:hello", "the rest of a netstring"),
    ],
)
def test_a_netstring_that_is_cut_off_is_a_disconnect(data, expected):
    words = refused_in_every_cut(netstring(99), data, PeerDisconnected)

    assert words == f"peer disconnected after {len(data)} bytes, expected {expected}"


@unhurried
@given(payload=st.binary(max_size=120), rest=st.binary(max_size=3))
def test_every_payload_survives_a_netstring(payload, rest):
    data = b"%d:%b,%b" % (len(payload), payload, rest)

    assert read_in_every_cut(netstring(120), data) == (payload, rest)


# expect


def test_what_was_expected_is_consumed():
    assert read_in_every_cut(expecting(b"OK\n"), b"OK\nhello") == (True, b"hello")


@pytest.mark.parametrize("data", [b"NO\n", b"ONO", b"OK\r"])
def test_what_was_not_expected_is_left_to_be_looked_at(data):
    assert read_in_every_cut(expecting(b"OK\n"), data) == (False, data)


def test_the_first_byte_that_differs_decides():
    exchange = Exchange(expecting(b"OK\n"))

    exchange.receive_data(b"ON")

    assert exchange.outcome == Accept(result=False)


def test_only_bytes_can_be_expected():
    outcome = play(expecting("OK"), [b"OK"]).outcome

    assert str(outcome.__cause__) == "expect() takes bytes, got str"


def test_nothing_can_be_expected():
    assert read_in_every_cut(expecting(b""), b"x") == (True, b"x")


def test_what_another_verb_makes_of_the_unexpected_is_one_story_too():
    async def serve(peer):
        if await peer.expect(b"HELO "):
            return Accept(result=("helo", await peer.receive_line(16)))
        if await peer.expect(b"HELP"):
            return Accept(result=("help", b""))
        return Accept(result=("other", await peer.receive_line(16)))

    assert read_in_every_cut(serve, b"HELO me\n.") == (("helo", b"me"), b".")
    assert read_in_every_cut(serve, b"HELP\n") == (("help", b""), b"\n")
    assert read_in_every_cut(serve, b"HEAP\n") == (("other", b"HEAP"), b"")


def test_an_end_before_any_difference_is_a_disconnect_that_keeps_the_secret():
    words = refused_in_every_cut(expecting(b"sesame\n"), b"sesame", PeerDisconnected)

    assert words == "peer disconnected after 6 bytes, expected 7 bytes"


# receive_to_end


def test_everything_until_the_end_is_received():
    assert read_in_every_cut(to_end(8), b"12345678") == (b"12345678", b"")


def test_nothing_until_the_end_is_fine():
    assert read_in_every_cut(to_end(8), b"") == (b"", b"")


def test_more_until_the_end_is_over_the_limit():
    words = refused_in_every_cut(to_end(8), b"1234567890", LimitExceeded)

    assert words == "peer sent more than 8 bytes, the limit set by max_bytes"


def test_the_end_comes_after_what_was_read_before_it():
    async def serve(peer):
        return Accept(result=(await peer.receive_line(8), await peer.receive_to_end(8)))

    assert read_in_every_cut(serve, b"a\nbc") == ((b"a", b"bc"), b"")


# receive_some


def test_some_is_what_has_arrived_and_shows_the_cut():
    assert play(some(1024), [b"a", b"bc"]) == Story(Accept(result=b"a"), b"", b"bc")
    assert play(some(1024), [b"abc"]) == Story(Accept(result=b"abc"))


def test_some_is_never_more_than_asked_for():
    assert play(some(2), [b"abc"]) == Story(Accept(result=b"ab"), b"", b"c")
    assert play(some(1), [b"abc"]) == Story(Accept(result=b"a"), b"", b"bc")


def test_some_is_at_least_one_byte():
    words = refused_in_every_cut(some(2), b"", PeerDisconnected)

    assert words == "peer disconnected after 0 bytes, expected at least 1 byte"


def test_some_of_nothing_is_the_handshake_s_mistake():
    words = refused_in_every_cut(some(0), b"abc", HandshakeFailed)

    assert "raised ValueError: max_bytes must be at least 1, got 0" in words


# The budget

BUDGET = "peer sent more than 10 bytes, the limit set by max_handshake_bytes"


@pytest.mark.parametrize(
    ("side", "data"),
    [
        (exactly(11), b"x" * 11),
        (exactly(99), b"x" * 40),
        (until(b"\n", 64), b"x" * 40),
        (until(b"\n", 20), b"x" * 40),
        (until(b"\n", 64), b"x" * 10 + b"\n"),
        (until(b"\n", 64), b"x" * 20 + b"\n"),
        (line(20), b"x" * 40),
        (line(20), b"x" * 21 + b"\n"),
        (line(64), b"x" * 20 + b"\n"),
        (frame(1, 64), b"\x14" + b"x" * 40),
        (netstring(64), b"20:" + b"x" * 40),
        (netstring(64), b"20:" + b"x" * 20 + b","),
        (netstring(64), b"8:" + b"x" * 8 + b","),
        (netstring(10**20), b"1" * 40),
        (expecting(b"x" * 11), b"x" * 11),
        (expecting(b"x" * 20), b"x" * 15 + b"y" * 5),
        (expecting(b"x" * 20), b"x" * 11 + b"y"),
        (until(b"\n", 11), b"x" * 12),
        (to_end(64), b"x" * 11),
        (to_end(20), b"x" * 40),
    ],
)
def test_the_budget_is_exceeded_by_every_cut_or_by_none(side, data):
    assert refused_in_every_cut(side, data, LimitExceeded, max_bytes=10, random_cuts=20) == BUDGET


@pytest.mark.parametrize(
    ("side", "data", "result"),
    [
        (until(b"\n", 9), b"x" * 9 + b"\n", b"x" * 9),
        (line(9), b"x" * 8 + b"\r\n", b"x" * 8),
        (frame(1, 9), b"\x09" + b"x" * 9, b"x" * 9),
        (netstring(9), b"7:" + b"x" * 7 + b",", b"x" * 7),
        (expecting(b"x" * 10), b"x" * 10, True),
        (expecting(b"x" * 20), b"x" * 10 + b"y", False),
    ],
)
def test_the_last_byte_of_the_budget_can_be_taken_and_leftovers_do_not_count(side, data, result):
    assert converse(side, data, max_bytes=10).result == result
    assert converse(side, data + b"left" * 9, max_bytes=10).result == result


def test_to_the_end_of_the_budget_is_not_too_far():
    assert converse(to_end(64), b"x" * 10, max_bytes=10) == Accept(result=b"x" * 10)


def test_the_budget_is_for_all_verbs_together():
    async def serve(peer):
        return Accept(result=[await peer.receive_line(8) for _ in range(3)])

    assert converse(serve, b"1\n345\n78\n", max_bytes=9) == Accept(result=[b"1", b"345", b"78"])
    assert refused_in_every_cut(serve, b"1\n345\n789\n", LimitExceeded, max_bytes=9) == (
        "peer sent more than 9 bytes, the limit set by max_handshake_bytes"
    )


def test_some_is_not_more_than_the_budget():
    assert str(play(some(64), [b"x" * 11], max_bytes=10).outcome) == BUDGET
    assert play(some(10), [b"x" * 11], max_bytes=10).outcome == Accept(result=b"x" * 10)


def test_the_lower_limit_is_the_one_that_is_named():
    words = refused_in_every_cut(line(5), b"x" * 40, LimitExceeded, max_bytes=10)

    assert words == "peer sent more than 5 bytes, the limit set by max_bytes"


def test_a_handshake_may_go_on_after_a_limit_and_still_sees_the_same_bytes():
    async def serve(peer):
        try:
            await peer.receive_line(64)
        except LimitExceeded as error:
            return Accept(result=(str(error), await peer.receive_exactly(10)))

    side, data = serve, b"0123456789abcdef"

    assert read_in_every_cut(side, data, max_bytes=10) == ((BUDGET, b"0123456789"), b"abcdef")


def read_anything(moves):
    """A side that makes the given moves one after the other, whatever comes of them."""

    async def serve(peer):
        seen = []
        for verb, arguments in moves:
            try:
                seen.append(await getattr(peer, verb)(*arguments))
            except (LimitExceeded, PeerDisconnected, ProtocolViolation) as error:
                seen.append(type(error).__name__)
            peer.send(b".")
        return Accept(result=seen)

    return serve


few = st.integers(min_value=0, max_value=12)
moves = st.lists(
    st.one_of(
        st.tuples(st.just("receive_exactly"), st.tuples(few)),
        st.tuples(st.just("receive_until"), st.tuples(st.sampled_from([b"\n", b"0:"]), few)),
        st.tuples(st.just("receive_line"), st.tuples(few)),
        st.tuples(st.just("receive_frame"), st.tuples(st.sampled_from([1, 2, 4]), few)),
        st.tuples(st.just("receive_netstring"), st.tuples(few)),
        st.tuples(st.just("expect"), st.tuples(st.sampled_from([b"1", b"12", b"1:\n", b"\0\0"]))),
        st.tuples(st.just("receive_to_end"), st.tuples(few)),
    ),
    max_size=4,
)


@settings(unhurried, max_examples=300)
@given(
    moves=moves,
    data=st.lists(st.sampled_from(b"\0\1\n\r012:,")).map(bytes),
    budget=st.integers(min_value=0, max_value=12),
)
def test_any_verbs_on_any_bytes_within_any_budget_tell_one_story(moves, data, budget):
    converse(read_anything(moves), data[:20], max_bytes=budget, random_cuts=5)


@unhurried
@given(data=st.binary(max_size=40), rest=st.binary(max_size=20))
def test_every_byte_is_either_received_or_left_and_none_is_both(data, rest):
    side = exactly(len(data))

    for cut in every_cut(data + rest, random_cuts=5):
        story = play(side, cut, max_bytes=len(data))
        assert story.outcome.result + story.unread == data + rest


# Waiting


def test_no_bytes_are_not_the_end():
    assert play(line(8), [b"", b"a", b"", b"\n"]) == Story(Accept(result=b"a"))


@pytest.mark.parametrize(
    "side", [exactly(1), until(b"\n", 8), line(8), frame(1, 8), netstring(8), to_end(8), some(8)]
)
def test_no_bytes_are_not_the_end_for_any_verb(side):
    exchange = Exchange(side)
    waits = exchange.waiting_on

    exchange.receive_data(b"")

    assert (exchange.outcome, exchange.waiting_on) == (None, waits)


def test_an_end_that_is_already_known_does_not_hide_that_the_peer_sent_too_much():
    async def serve(peer):
        await Deferred()
        return Accept(result=await peer.receive_exactly(20))

    exchange = Exchange(serve, max_bytes=10)
    exchange.receive_data(b"x" * 11)
    exchange.receive_eof()
    exchange.deferred.callback(None)
    exchange.receive_result()

    assert str(exchange.outcome) == BUDGET


async def tireless(peer):
    while True:
        try:
            await peer.receive_exactly(1)
        except PeerDisconnected:
            peer.send(b"!")


def test_a_handshake_that_reads_for_ever_from_a_peer_that_has_left_is_given_up():
    story = play(tireless, [b"abc"])

    assert isinstance(story.outcome, HandshakeFailed)
    assert str(story.outcome) == "tireless kept on reading from a peer that gave no more"


def test_a_verb_refuses_only_so_often_before_it_gives_up():
    peer = Peer(NO_FACTS, 10, MAX_UNSENT)
    peer._eof = True
    coroutine = tireless(peer)

    assert coroutine.send(None) is GIVE_UP
    assert peer._outbox == b"!" * MAX_REFUSALS

    coroutine.close()


# Other drivers

OTHER_DRIVER = (
    "a peer's verbs must be awaited by the handshake itself, "
    "not wrapped in a Deferred or a task of their own"
)


@pytest.mark.parametrize("verb", [lambda peer: peer.receive_line(8), Peer.start_tls])
def test_a_verb_under_a_deferred_of_its_own_is_refused(verb):
    failures = []
    peer = Peer(NO_FACTS, 10, MAX_UNSENT)

    ensureDeferred(verb(peer)).addErrback(failures.append)

    assert [str(failure.value) for failure in failures] == [OTHER_DRIVER]
    assert failures[0].check(RuntimeError)


def test_a_handshake_that_wraps_a_verb_in_a_deferred_is_told_so():
    async def serve(peer):
        return Accept(result=await ensureDeferred(peer.receive_line(8)))

    words = refused_in_every_cut(serve, b"hello\n", HandshakeFailed)

    assert f"raised RuntimeError: {OTHER_DRIVER}" in words


def test_a_verb_under_asyncio_is_refused():
    peer = Peer(NO_FACTS, 10, MAX_UNSENT)

    with pytest.raises(RuntimeError, match="bad yield: MORE"):
        asyncio.run(peer.receive_line(8))


def test_a_suspended_verb_says_what_it_wants():
    coroutine = Peer(NO_FACTS, 10, MAX_UNSENT).receive_line(8)

    assert coroutine.send(None) is MORE
    assert repr(MORE) == "MORE"

    coroutine.close()


# start_tls


async def upgrading(peer):
    """A side that upgrades at a word, and then reads another one."""
    if await peer.receive_line(16) != b"STARTTLS":
        return Accept()
    peer.send(b"220\n")
    established = await peer.start_tls()
    assert established is peer.tls
    return Accept(result=(established.alpn, await peer.receive_line(16)))


def test_an_upgrade_gives_what_tls_has_established():
    exchange = Exchange(upgrading)
    exchange.receive_data(b"STARTTLS\n")
    assert (exchange.wants_tls, exchange.data_to_send()) == (True, b"220\n")

    exchange.tls_started(PeerFacts(tls=TlsFacts("chat")))
    assert not exchange.wants_tls
    exchange.receive_data(b"hi\nrest")

    assert exchange.outcome == Accept(result=("chat", b"hi"))
    assert exchange.unread() == b"rest"


@pytest.mark.parametrize("more", [b"\n", b"hi\n", b"x" * 500])
def test_what_is_unread_in_the_clear_ends_an_upgrade_in_every_cut(more):
    words = refused_in_every_cut(upgrading, b"STARTTLS\n" + more, ProtocolViolation, max_bytes=100)

    assert words.startswith("expected nothing in the clear before TLS, got ")


def test_what_comes_between_the_call_and_the_upgrade_ends_it():
    exchange = Exchange(upgrading)
    exchange.receive_data(b"STARTTLS\n")

    exchange.receive_data(b"RSET\n")
    exchange.tls_started(PeerFacts(tls=TlsFacts()))

    assert str(exchange.outcome) == "expected nothing in the clear before TLS, got b'RSET\\n'"
    assert exchange.data_to_send() == b""


@pytest.mark.parametrize("more", [b"", b"RSET\n"])
def test_whoever_catches_what_ends_an_upgrade_has_no_say_any_more(more):
    async def catching(peer):
        try:
            return await upgrading(peer)
        except PeerError:
            return Accept(b"never mind\n")

    expected = ProtocolViolation if more else PeerDisconnected

    refused_in_every_cut(catching, b"STARTTLS\n" + more, expected)


def test_a_peer_that_has_finished_cannot_be_upgraded():
    words = refused_in_every_cut(upgrading, b"STARTTLS\n", PeerDisconnected)

    assert words == "peer disconnected after 9 bytes, expected the TLS handshake"


def test_an_end_that_is_known_already_ends_an_upgrade_too():
    async def serve(peer):
        await Deferred()
        return Accept(result=await peer.start_tls())

    exchange = Exchange(serve)
    exchange.receive_eof()
    exchange.deferred.callback(None)
    exchange.receive_result()

    assert str(exchange.outcome) == "peer disconnected after 0 bytes, expected the TLS handshake"


def test_a_side_that_waits_for_tls_says_so():
    story = play(upgrading, [b"STARTTLS\n"], eof=False)

    assert story == Story(None, b"220\n", waiting_on="start_tls()")


def test_tls_can_be_asked_for_once():
    async def serve(peer):
        return Accept(result=await peer.start_tls())

    story = play(serve, [], facts=PeerFacts(tls=TlsFacts()))

    assert "raised RuntimeError: TLS is established already" in str(story.outcome)


# send


def test_what_is_sent_arrives_in_order():
    async def serve(peer):
        peer.send(b"220 ")
        peer.send(b"hello\n")
        peer.send(await peer.receive_line(8))
        return Accept(b"!")

    assert play(serve, [b"you\n"]) == Story(Accept(b"!"), sent=b"220 hello\nyou!")


@pytest.mark.parametrize(
    ("data", "given"), [("text", "str"), (bytearray(b"x"), "bytearray"), (None, "NoneType")]
)
def test_only_bytes_can_be_sent(data, given):
    peer = Peer(NO_FACTS, 10, MAX_UNSENT)

    with pytest.raises(TypeError) as caught:
        peer.send(data)

    assert str(caught.value) == f"send() takes bytes, got {given}"


def test_nothing_is_sent_after_the_verdict():
    peers = []

    async def serve(peer):
        peers.append(peer)
        return Accept(b"OK\n")

    exchange = Exchange(serve)
    with pytest.raises(RuntimeError) as caught:
        peers[0].send(b"and another thing")

    assert str(caught.value) == "the handshake is over, nothing can be sent any more"
    assert exchange.data_to_send() == b"OK\n"


def test_as_much_as_fits_can_be_queued_and_not_a_byte_more():
    peer = Peer(NO_FACTS, 10, 8)
    peer.send(b"12345678")
    peer.send(b"")

    with pytest.raises(LimitExceeded) as caught:
        peer.send(b"9")

    assert str(caught.value) == "peer was owed more than 8 bytes, the limit set by max_unsent"


# Facts


def test_a_peer_knows_what_is_known():
    facts = PeerFacts(
        address=Address("inet", "192.0.2.1", 50000),
        local=Address("inet", "192.0.2.9", 8001),
        tls=TlsFacts(alpn="chat"),
        uid=1000,
        sessions=("chat", "echo"),
    )
    peer = Peer(facts, 10, MAX_UNSENT)

    assert facts == PeerFacts(peer.address, peer.local, peer.tls, peer.uid, peer.sessions)
    assert repr(peer) == "<Peer 192.0.2.1:50000>"


# What reading costs


class Weighed(bytearray):
    """An inbox that counts how many bytes are looked at or copied out of it."""

    weight = 0

    def find(self, wanted, start=0, end=sys.maxsize):
        self.weight += max(0, min(end, len(self)) - start)
        return super().find(wanted, start, end)

    def __getitem__(self, key):
        found = super().__getitem__(key)
        self.weight += len(found) if isinstance(key, slice) else 1
        return found


def cost(read, data):
    """The bytes looked at, and the calls made, for data that comes byte by byte."""
    peer = Peer(NO_FACTS, len(data), MAX_UNSENT)
    inbox = peer._inbox = Weighed()
    calls = 0

    def count(frame, event, argument):
        nonlocal calls
        calls += event in ("call", "c_call")

    reading = read(peer)
    before = sys.getprofile()
    sys.setprofile(count)
    try:
        reading.send(None)
        for at in range(len(data)):
            inbox += data[at : at + 1]
            peer._received += 1
            reading.send(None)
    except StopIteration:
        pass
    finally:
        sys.setprofile(before)
    assert not inbox
    return inbox.weight, calls


@pytest.mark.parametrize(
    ("read", "make"),
    [
        (lambda peer: peer.receive_exactly(peer._max_bytes), lambda size: b"x" * size),
        (lambda peer: peer.receive_line(4096), lambda size: b"x" * (size - 1) + b"\n"),
        (
            lambda peer: peer.receive_until(b"\r\n", 4096),
            lambda size: b"\r" * (size - 2) + b"\r\n",
        ),
        (
            lambda peer: peer.receive_netstring(4096),
            lambda size: b"%d:%b," % (size - 6, b"x" * (size - 6)),
        ),
        (
            lambda peer: peer.receive_frame(2, 4096),
            lambda size: (size - 2).to_bytes(2, "big") + b"x" * (size - 2),
        ),
    ],
    ids=["exactly", "line", "until", "netstring", "frame"],
)
def test_a_message_twice_as_long_costs_about_twice_as_much(read, make):
    weight, calls = cost(read, make(2048))
    double_weight, double_calls = cost(read, make(4096))

    assert double_weight <= 2.2 * weight
    assert double_calls < 2.2 * calls
    assert double_weight < 8 * 4096
