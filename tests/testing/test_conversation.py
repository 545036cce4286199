import subprocess
import sys

import pytest
from twisted.internet.defer import Deferred, fail, succeed

import sockproto.testing
from sockproto import (
    Accept,
    Exchange,
    HandshakeFailed,
    LimitExceeded,
    PeerDisconnected,
    PeerFacts,
    ProtocolViolation,
    Reject,
)
from sockproto.handshakes.passphrase import Passphrase
from sockproto.testing import Story, converse, play

# The package


def test_the_kit_is_complete_and_does_not_bring_twisted_along():
    program = (
        "import sys, sockproto.testing as kit\n"
        "assert 'sockproto.core' not in sys.modules\n"
        # The checks of a whole handshake put it behind the gate, which is Twisted's.
        "gated = {'conform', 'assert_conforms'}\n"
        "for name in set(kit.__all__) - gated:\n"
        "    assert callable(getattr(kit, name)), name\n"
        "assert not [name for name in sys.modules if name.startswith('twisted')]\n"
        "for name in gated:\n"
        "    assert callable(getattr(kit, name)), name\n"
    )

    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_the_kit_lists_what_it_has():
    assert set(sockproto.testing.__all__) <= set(dir(sockproto.testing))


def test_the_kit_has_nothing_else():
    with pytest.raises(AttributeError) as caught:
        sockproto.testing.mock  # noqa: B018

    assert str(caught.value) == "module 'sockproto.testing' has no attribute 'mock'"


def test_what_is_asked_for_again_is_at_hand():
    vars(sockproto.testing).pop("converse", None)

    assert sockproto.testing.converse is sockproto.testing.converse
    assert "converse" in vars(sockproto.testing)


# play


async def greet(peer):
    peer.send(b"name? ")
    name = await peer.receive_line(16)
    peer.send(b"hello " + name + b"\n")
    return Accept(b"bye\n", result=await peer.receive_exactly(2))


def test_a_story_is_told_whole():
    assert play(greet, [b"ada\n", b"hi", b" there"]) == Story(
        Accept(b"bye\n", result=b"hi"), sent=b"name? hello ada\nbye\n", unread=b" there"
    )


def test_an_end_follows_the_bytes_unless_told_otherwise():
    assert type(play(greet, [b"ada\nh"]).outcome) is PeerDisconnected
    assert play(greet, [b"ada\nh"], eof=False) == Story(
        None,
        sent=b"name? hello ada\n",
        unread=b"h",
        waiting_on="receive_exactly(count=2)",
    )


def test_what_is_said_after_the_end_is_part_of_the_story():
    async def serve(peer):
        return Accept(b"%d bytes\n" % len(await peer.receive_to_end(16)))

    assert play(serve, [b"ab", b"c"]) == Story(Accept(b"3 bytes\n"), sent=b"3 bytes\n")


def test_what_is_said_after_a_lookup_is_part_of_the_story():
    lookup = Deferred()

    async def serve(peer):
        try:
            await lookup
        except KeyError:
            return Reject(b"who?\n")

    def chunks():
        yield b"ada\n"
        lookup.errback(KeyError())

    assert play(serve, chunks()) == Story(Reject(b"who?\n"), sent=b"who?\n", unread=b"ada\n")


def test_facts_and_budget_reach_the_exchange():
    async def serve(peer):
        return Accept(session=peer.sessions[0], result=await peer.receive_to_end(8))

    facts = PeerFacts(sessions=("chat",))

    assert play(serve, [b"abcd"], facts=facts, max_bytes=4) == Story(
        Accept(session="chat", result=b"abcd")
    )
    assert type(play(serve, [b"abcde"], facts=facts, max_bytes=4).outcome) is LimitExceeded


def test_deferreds_may_fire_while_the_next_chunk_is_made():
    first, second, third = Deferred(), Deferred(), Deferred()

    async def serve(peer):
        seen = [await first]
        try:
            await second
        except KeyError as error:
            seen.append(error.args)
        seen += [await peer.receive_exactly(2), await third, await third]
        return Accept(b"ok", result=seen)

    def chunks():
        yield b"a"
        first.callback(1)
        yield b"b"
        second.errback(KeyError("ada"))
        yield b"c"
        third.callback(3)

    assert play(serve, chunks()) == Story(
        Accept(b"ok", result=[1, ("ada",), b"ab", 3, 3]), sent=b"ok", unread=b"c"
    )


def test_the_result_of_a_deferred_is_still_there_for_others():
    shared, seen = Deferred(), []

    async def serve(peer):
        return Accept(result=await shared)

    def chunks():
        yield b"a"
        shared.callback("ada")

    play(serve, chunks())
    shared.addCallback(seen.append)

    assert seen == ["ada"]


def test_a_deferred_that_never_fires_is_pointed_out():
    async def serve(peer):
        await Deferred()

    line = serve.__code__.co_firstlineno + 1
    with pytest.raises(AssertionError) as caught:
        play(serve, [b"a"])

    assert str(caught.value) == (
        "<Exchange of test_a_deferred_that_never_fires_is_pointed_out.<locals>.serve "
        f"waiting on Deferred at test_conversation.py:{line}>, "
        "which has not fired and which nobody here can fire: "
        "let the handshake await one that has, such as defer.succeed(result)"
    )


# converse


def test_an_outcome_is_given():
    assert converse(Passphrase(b"sesame").serve, b"sesame\n") == Accept(b"OK\n")
    assert converse(Passphrase(b"sesame").serve, b"simsim\n") == Reject(
        b"NO\n", reason="wrong word"
    )


def test_bytes_that_end_too_soon_are_a_disconnect_and_not_a_hang():
    with pytest.raises(PeerDisconnected) as caught:
        converse(greet, b"ada")

    assert str(caught.value) == "peer disconnected after 3 bytes, expected a line"


def test_no_bytes_at_all_can_be_played():
    async def serve(peer):
        return Reject(b"closed\n")

    assert converse(serve, b"") == Reject(b"closed\n")


def test_a_plug_in_that_breaks_is_raised_with_its_cause():
    error = KeyError("ada")

    async def serve(peer):
        await peer.receive_line(16)
        raise error

    with pytest.raises(HandshakeFailed, match="raised KeyError: 'ada'") as caught:
        converse(serve, b"hello\n")

    assert caught.value.__cause__ is error


def test_a_handshake_that_still_waits_has_no_outcome():
    with pytest.raises(AssertionError) as caught:
        converse(greet, b"ada\n", eof=False)

    assert str(caught.value) == (
        "greet has no outcome: after 4 bytes it still waits on receive_exactly(count=2)"
    )


def test_a_handshake_that_is_over_does_not_need_the_end():
    assert converse(greet, b"ada\nhi", eof=False) == Accept(b"bye\n", result=b"hi")


def test_a_lookup_that_fires_at_once_is_no_obstacle():
    async def serve(peer):
        try:
            await fail(KeyError())
        except KeyError:
            return Accept(result=await succeed("ada"))

    assert converse(serve, b"abc") == Accept(result="ada")


def test_facts_and_budget_reach_every_exchange():
    async def serve(peer):
        return Accept(session=peer.sessions[0], result=await peer.receive_to_end(8))

    facts = PeerFacts(sessions=("chat",))

    assert converse(serve, b"abcd", facts=facts, max_bytes=4) == Accept(
        session="chat", result=b"abcd"
    )
    with pytest.raises(LimitExceeded):
        converse(serve, b"abcde", facts=facts, max_bytes=4)


# Two stories


def two_stories(side, data, **options):
    """How it is told that a side depends on the cut."""
    with pytest.raises(AssertionError) as caught:
        converse(side, data, **options)
    return str(caught.value)


async def first_chunk(peer):
    """What the network happened to bring first; the rest is read, too, and forgotten."""
    chunk = await peer.receive_some(16)
    await peer.receive_to_end(64)
    return chunk


async def tutorial(peer):
    peer.send(b"hello\n")
    return Accept(result=await peer.receive_some(16))


def test_two_outcomes_are_two_stories_and_both_are_told():
    assert two_stories(tutorial, b"12") == (
        "tutorial tells two stories about the same 2 bytes\n"
        "\n"
        "  when it receives  b'12'\n"
        "  its outcome is    Accept(reply=b'', identity=None, session=None, result=b'12')\n"
        "  it has sent       b'hello\\n'\n"
        "  and leaves unread b''\n"
        "\n"
        "  when it receives  b'1' | b'2'\n"
        "  its outcome is    Accept(reply=b'', identity=None, session=None, result=b'1')\n"
        "  it has sent       b'hello\\n'\n"
        "  and leaves unread b'2'"
    )


def test_long_stories_are_cut_short():
    words = two_stories(tutorial, b"x" * 99)

    assert f"  when it receives  {b'x' * 32!r}...\n" in words
    assert f"  when it receives  {' | '.join([repr(b'x')] * 8)} | ... (99 chunks)\n" in words
    assert f"  and leaves unread {b'x' * 64!r}..." in words


def test_one_byte_more_or_less_sent_is_another_story():
    async def serve(peer):
        while not (await peer.receive_some(16)).endswith(b"\n"):
            peer.send(b".")
        return Accept()

    assert "  it has sent       b'..'" in two_stories(serve, b"ab\n")


def test_one_byte_more_or_less_unread_is_another_story():
    async def serve(peer):
        await peer.receive_some(1024)
        return Accept()

    assert "  and leaves unread b'bc'" in two_stories(serve, b"abc")


def test_an_exception_here_and_a_verdict_there_are_two_stories():
    async def serve(peer):
        assert await first_chunk(peer) == b"ab", "where is the rest?"
        return Accept()

    words = two_stories(serve, b"ab")

    assert "  its outcome is    Accept(" in words
    assert "raised AssertionError: where is the rest?" in words


@pytest.mark.parametrize(
    "error", [lambda got: KeyError(), lambda got: KeyError(got), lambda got: ValueError()]
)
def test_exceptions_that_differ_in_their_words_are_two_stories(error):
    async def serve(peer):
        got = await first_chunk(peer)
        raise error(got) if got == b"ab" else ValueError(got)

    assert "raised ValueError: b'a'" in two_stories(serve, b"ab")


def test_exceptions_that_differ_in_their_type_are_two_stories():
    async def serve(peer):
        got = await first_chunk(peer)
        if got == b"ab":
            raise LimitExceeded(1, "somebody")
        raise PeerDisconnected(1, "more")

    words = two_stories(serve, b"ab")

    assert "LimitExceeded: peer sent more than 1 bytes" in words
    assert "PeerDisconnected: peer disconnected after 1 bytes" in words


def test_an_end_here_and_waiting_there_are_two_stories():
    async def serve(peer):
        if await peer.receive_some(16) == b"ab":
            return Accept()
        return Accept(result=await peer.receive_exactly(9))

    words = two_stories(serve, b"ab", eof=False)

    assert "  its outcome is    none, waits on receive_exactly(count=9)\n" in words


def test_waiting_for_one_thing_here_and_another_there_are_two_stories():
    async def serve(peer):
        await peer.receive_exactly(1)
        return Accept(result=await peer.receive_line(len(peer._inbox)))

    words = two_stories(serve, b"ab", eof=False)

    assert "waits on receive_line(max_bytes=1)\n" in words
    assert "waits on receive_line(max_bytes=0)\n" in words


def test_random_cuts_find_what_only_three_chunks_show():
    async def serve(peer):
        chunks = [await peer.receive_some(16)]
        while sum(map(len, chunks)) < 4:
            chunks.append(await peer.receive_some(16))
        return Accept(result=len(chunks) == 3)

    assert converse(serve, b"abcd") == Accept(result=False)
    assert "result=True" in two_stories(serve, b"abcd", random_cuts=5)


# What may differ


def test_a_violation_may_show_more_of_what_had_arrived():
    async def serve(peer):
        return Accept(result=await peer.receive_netstring(99))

    with pytest.raises(ProtocolViolation) as caught:
        converse(serve, b"GET / HTTP/1.1\r\n")

    assert caught.value.got == b"GET / HTTP/1.1\r\n"


@pytest.mark.parametrize(
    "violation",
    [
        lambda got: ProtocolViolation(f"{len(got)} bytes", b"x"),
        lambda got: ProtocolViolation("a word", got[::-1]),
    ],
)
def test_a_violation_may_not_differ_in_what_was_expected_or_in_what_came(violation):
    async def serve(peer):
        raise violation(await first_chunk(peer))

    assert "ProtocolViolation: expected" in two_stories(serve, b"abc")


def test_less_may_have_left_before_an_exception_but_nothing_else():
    async def serve(peer):
        await peer.receive_line(8)
        peer.send(b"first\n")
        await peer.receive_line(2)
        raise AssertionError

    whole, in_two = play(serve, [b"a\ntoo long"]), play(serve, [b"a\n", b"too long"])
    assert (whole.sent, in_two.sent) == (b"", b"first\n")

    with pytest.raises(LimitExceeded):
        converse(serve, b"a\ntoo long")


def test_something_else_before_an_exception_is_another_story():
    async def serve(peer):
        chunk = await peer.receive_some(16)
        peer.send(b"%d\n" % len(chunk))
        await peer.receive_exactly(3 - len(chunk))
        await peer.receive_exactly(9)

    words = two_stories(serve, b"abc")

    assert "  it has sent       b'3\\n'" in words
    assert "  it has sent       b'1\\n'" in words


def test_an_exchange_is_what_is_played_into():
    exchange = Exchange(greet)
    exchange.receive_data(b"ada\nhi there")

    assert play(greet, [b"ada\nhi there"]) == Story(
        exchange.outcome, exchange.data_to_send(), exchange.unread()
    )


async def upgrades(peer):
    await peer.receive_line(16)
    await peer.start_tls()
    return Accept()


def test_a_side_that_waits_for_tls_has_heard_all_it_will():
    assert play(upgrades, [b"STARTTLS\n"], eof=False) == Story(None, waiting_on="start_tls()")
    with pytest.raises(ProtocolViolation, match="nothing in the clear before TLS"):
        converse(upgrades, b"STARTTLS\nRSET\n")
    with pytest.raises(PeerDisconnected, match="expected the TLS handshake"):
        converse(upgrades, b"STARTTLS\n")
