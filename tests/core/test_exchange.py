import asyncio
import gc
import re
from contextlib import suppress
from contextvars import ContextVar
from functools import partial

import pytest
from twisted.internet.defer import CancelledError, Deferred, fail, succeed

from sockproto import (
    Accept,
    Exchange,
    HandshakeFailed,
    HandshakeTimeout,
    LimitExceeded,
    PeerDisconnected,
    PeerFacts,
    ProtocolViolation,
    Reject,
    Shutdown,
    TlsFacts,
)
from sockproto.core.exchange import MAX_BYTES, MAX_UNSENT
from sockproto.testing import Story, converse, play

HERE = r"test_exchange\.py:\d+"


async def word(peer):
    """Ask for a word, and take any."""
    peer.send(b"word? ")
    return Accept(b"thanks\n", result=await peer.receive_line(16))


class Breakage(Exception):
    """What breaks a handshake in here."""


def outcome_of(side, *chunks, **options):
    """What a side comes to, which has to be its own failure."""
    outcome = play(side, chunks, **options).outcome
    assert type(outcome) is HandshakeFailed
    return outcome


# One run


def test_a_side_that_speaks_first_has_spoken_at_once():
    exchange = Exchange(word)

    assert exchange.outcome is None
    assert exchange.data_to_send() == b"word? "


def test_bytes_go_in_and_an_outcome_comes_out():
    exchange = Exchange(word)

    exchange.receive_data(b"ses")
    assert exchange.outcome is None
    exchange.receive_data(b"ame\nhello")

    assert exchange.outcome == Accept(b"thanks\n", result=b"sesame")
    assert exchange.data_to_send() == b"word? thanks\n"
    assert exchange.unread() == b"hello"


def test_what_is_to_be_sent_is_given_once():
    exchange = Exchange(word)

    assert (exchange.data_to_send(), exchange.data_to_send()) == (b"word? ", b"")

    exchange.receive_data(b"sesame\n")

    assert (exchange.data_to_send(), exchange.data_to_send()) == (b"thanks\n", b"")


def test_what_is_unread_is_given_once():
    exchange = Exchange(word)
    exchange.receive_data(b"sesame\nhello")

    assert (exchange.unread(), exchange.unread()) == (b"hello", b"")


def test_bytes_after_the_outcome_are_kept_for_the_session():
    exchange = Exchange(word)
    exchange.receive_data(b"sesame\nhe")
    exchange.receive_data(b"llo")

    assert exchange.unread() == b"hello"

    exchange.receive_data(b" again")

    assert exchange.unread() == b" again"


def test_bytes_far_past_the_budget_reach_the_session_in_order():
    exchange = Exchange(word, max_bytes=8)
    exchange.receive_data(b"sesame\n0123456789")
    exchange.receive_data(b"abc")

    assert exchange.received == 20
    assert exchange.unread() == b"0123456789abc"

    exchange.receive_data(b"def")
    exchange.receive_data(b"ghi")

    assert exchange.unread() == b"defghi"
    assert exchange.unread() == b""


def test_a_side_that_needs_no_bytes_is_over_before_any_arrive():
    async def shut(peer):
        return Reject(b"closed\n", reason="closed for the day")

    exchange = Exchange(shut)

    assert exchange.outcome == Reject(b"closed\n", reason="closed for the day")
    assert exchange.data_to_send() == b"closed\n"


def test_an_end_before_the_outcome_is_a_disconnect():
    exchange = Exchange(word)
    exchange.receive_data(b"ses")
    exchange.receive_eof()

    assert str(exchange.outcome) == "peer disconnected after 3 bytes, expected a line"
    assert type(exchange.outcome) is PeerDisconnected


def test_an_end_after_the_outcome_changes_nothing():
    exchange = Exchange(word)
    exchange.receive_data(b"sesame\n")
    assert not exchange.ended

    exchange.receive_eof()

    assert exchange.ended
    assert exchange.outcome == Accept(b"thanks\n", result=b"sesame")


def test_what_has_arrived_is_counted():
    exchange = Exchange(word)
    exchange.receive_data(b"sesame\n")
    exchange.receive_data(b"hello")

    assert exchange.received == 12


def test_what_was_queued_is_not_owed_to_a_peer_that_broke_it():
    async def serve(peer):
        peer.send(b"welcome, ")
        await peer.receive_line(2)
        raise AssertionError

    exchange = Exchange(serve)
    exchange.receive_data(b"too long")

    assert type(exchange.outcome) is LimitExceeded
    assert exchange.data_to_send() == b""


def test_a_peer_s_failure_holds_no_frames_of_ours():
    assert play(word, [b"ses"]).outcome.__traceback__ is None


def test_the_facts_reach_the_peer():
    async def serve(peer):
        return Accept(session=peer.sessions[1])

    facts = PeerFacts(sessions=("echo", "chat"))

    assert Exchange(serve, facts).outcome == Accept(session="chat")


def test_the_default_budgets_are_those_of_the_design():
    assert (MAX_BYTES, MAX_UNSENT) == (4096, 65536)


def test_an_exchange_listens_while_it_wants_bytes_and_has_nothing_to_say():
    exchange = Exchange(word)
    assert not exchange.listening
    exchange.data_to_send()
    assert exchange.listening

    exchange.receive_data(b"sesame\n")

    assert not exchange.listening


def test_what_is_left_for_the_session_can_be_asked_for():
    exchange = Exchange(word, max_bytes=10)
    exchange.receive_data(b"sesame\n")
    assert not exchange.has_unread

    exchange.receive_data(b"hello" * 10)

    assert exchange.has_unread
    assert exchange.unread() == b"hello" * 10
    assert not exchange.has_unread


# Names


class Door:
    async def serve(self, peer):
        return Accept(result=await peer.receive_line(16))

    async def connect(self, peer, word):
        return Accept(result=await peer.expect(word))

    async def __call__(self, peer):
        return Accept(result=await self.serve(peer))


def test_an_exchange_is_named_after_its_side():
    assert Exchange(Door().serve).name == "Door.serve"
    assert Exchange(partial(Door().connect, word=b"x")).name == "partial"
    assert Exchange(Door()).name == "Door"


def test_an_exchange_shows_what_it_waits_for_and_on_which_line():
    exchange = Exchange(Door().serve)
    line = Door.serve.__code__.co_firstlineno + 1

    assert exchange.waiting_on == "receive_line(max_bytes=16)"
    assert repr(exchange) == (
        f"<Exchange of Door.serve waiting on receive_line(max_bytes=16) at test_exchange.py:{line}>"
    )


def test_the_line_is_that_of_the_innermost_coroutine_of_the_plug_in():
    line = Door.serve.__code__.co_firstlineno + 1

    assert f"at test_exchange.py:{line}>" in repr(Exchange(Door()))


@pytest.mark.parametrize(
    ("read", "shown"),
    [
        (lambda peer: peer.receive_exactly(4), "receive_exactly(count=4)"),
        (
            lambda peer: peer.receive_until(b"\n", max_bytes=64),
            "receive_until(delimiter=b'\\n', max_bytes=64)",
        ),
        (lambda peer: peer.receive_frame(2, 64), "receive_frame(prefix_size=2, max_bytes=64)"),
        (lambda peer: peer.receive_netstring(64), "receive_netstring(max_bytes=64)"),
        (lambda peer: peer.receive_to_end(64), "receive_to_end(max_bytes=64)"),
        (lambda peer: peer.receive_some(64), "receive_some(max_bytes=64)"),
        (lambda peer: peer.expect(b"sesame"), "expect(<6 bytes>)"),
        (lambda peer: peer.expect(bytearray(b"sesame")), "expect(<6 bytes>)"),
        (lambda peer: peer.expect(memoryview(b"sesame")), "expect(<6 bytes>)"),
    ],
)
def test_what_it_waits_for_is_shown_as_it_was_called_and_secrets_as_their_length(read, shown):
    async def serve(peer):
        await read(peer)

    exchange = Exchange(serve)

    assert exchange.waiting_on == shown
    assert "sesame" not in repr(exchange)


def test_an_exchange_that_is_over_shows_its_outcome():
    accepted, failed = Exchange(word), Exchange(word)
    accepted.receive_data(b"sesame\n")
    failed.receive_eof()

    assert repr(accepted) == f"<Exchange of word: {accepted.outcome!r}>"
    assert repr(failed) == (
        "<Exchange of word: PeerDisconnected: peer disconnected after 0 bytes, expected a line>"
    )
    assert (accepted.waiting_on, failed.waiting_on) == (None, None)


def test_an_exchange_that_is_running_waits_for_nothing():
    seen = []

    async def serve(peer):
        await peer.receive_line(16)
        seen.append((exchange.waiting_on, repr(exchange)))
        return Accept()

    exchange = Exchange(serve)
    exchange.receive_data(b"\n")

    (((waiting_on, shown)),) = seen
    assert waiting_on is None
    assert re.fullmatch(rf"<Exchange of \S+ waiting on None at {HERE}>", shown)


# Deferreds


def looking_up(lookup):
    """A side that looks a word up in a directory."""

    async def serve(peer):
        word = await peer.receive_line(16)
        try:
            user = await lookup(word)
        except KeyError:
            return Reject(b"who?\n", reason="unknown")
        return Accept(identity=user, result=await peer.receive_line(16))

    return serve


def test_a_deferred_that_has_fired_is_not_waited_for():
    side = looking_up(lambda word: succeed(word.decode()))

    assert converse(side, b"ada\nhi\n") == Accept(identity="ada", result=b"hi")


def test_a_deferred_that_has_failed_is_raised_where_it_is_awaited():
    side = looking_up(lambda word: fail(KeyError(word)))

    assert converse(side, b"ada\nhi\n") == Reject(b"who?\n", reason="unknown")


def test_a_deferred_that_has_not_fired_is_handed_out_and_its_result_brought_back():
    directory = Deferred()
    exchange = Exchange(looking_up(lambda word: directory))

    exchange.receive_data(b"ada\n")
    assert exchange.deferred is directory
    assert exchange.waiting_on == "Deferred"
    assert re.fullmatch(rf"<Exchange of \S+ waiting on Deferred at {HERE}>", repr(exchange))

    directory.callback("ada")
    exchange.receive_result()
    assert (exchange.outcome, exchange.deferred) == (None, None)

    exchange.receive_data(b"hi\n")
    assert exchange.outcome == Accept(identity="ada", result=b"hi")


def test_bytes_and_the_end_that_come_during_a_lookup_wait_for_it():
    directory = Deferred()
    exchange = Exchange(looking_up(lambda word: directory))
    exchange.receive_data(b"ada\nh")
    exchange.receive_data(b"i\nmore")
    exchange.receive_eof()
    assert exchange.outcome is None

    directory.callback("ada")
    exchange.receive_result()

    assert exchange.outcome == Accept(identity="ada", result=b"hi")
    assert exchange.unread() == b"more"


def test_a_failure_is_raised_where_the_handshake_waits_and_can_be_answered():
    exchange = Exchange(looking_up(lambda word: Deferred()))
    exchange.receive_data(b"ada\n")

    exchange.receive_failure(KeyError("ada"))

    assert exchange.outcome == Reject(b"who?\n", reason="unknown")
    assert exchange.data_to_send() == b"who?\n"


def test_a_failure_that_nobody_answers_is_a_failed_handshake():
    exchange = Exchange(looking_up(lambda word: Deferred()))
    error = OSError("directory is down")
    exchange.receive_data(b"ada\n")

    exchange.receive_failure(error)

    assert type(exchange.outcome) is HandshakeFailed
    assert re.fullmatch(rf"\S+ raised OSError: directory is down at {HERE}", str(exchange.outcome))
    assert exchange.outcome.__cause__ is error


def test_deferreds_can_be_awaited_one_after_the_other():
    first, second = Deferred(), Deferred()

    async def serve(peer):
        return Accept(result=(await first, await succeed(2), await second))

    exchange = Exchange(serve)
    first.callback(1)
    exchange.receive_result()
    assert exchange.deferred is second
    second.callback(3)
    exchange.receive_result()

    assert exchange.outcome == Accept(result=(1, 2, 3))


def test_a_result_that_comes_when_nobody_waits_for_it_is_ignored():
    exchange = Exchange(word)

    exchange.receive_result()
    exchange.receive_failure(OSError())

    assert exchange.outcome is None


# Ends from outside


def test_what_is_thrown_is_the_outcome():
    exchange = Exchange(word)
    timeout = HandshakeTimeout(5, "idle_timeout", exchange.waiting_on)

    exchange.throw(timeout)

    assert exchange.outcome is timeout
    assert exchange.data_to_send() == b""


def test_nothing_is_thrown_at_a_handshake_that_is_over():
    exchange = Exchange(word)
    exchange.receive_data(b"sesame\n")

    exchange.throw(Shutdown())

    assert exchange.outcome == Accept(b"thanks\n", result=b"sesame")


def test_a_handshake_hears_of_its_end():
    heard = []

    async def serve(peer):
        try:
            return Accept(result=await peer.receive_line(16))
        except Shutdown as shutdown:
            heard.append(shutdown)
            raise
        finally:
            heard.append("finally")

    exchange = Exchange(serve)
    shutdown = Shutdown()
    exchange.throw(shutdown)

    assert heard == [shutdown, "finally"]
    assert exchange.outcome is shutdown


def test_what_a_handshake_returns_at_its_end_counts_no_more():
    async def serve(peer):
        try:
            return Accept(result=await peer.receive_line(16))
        except Shutdown:
            return Accept(b"come in quickly")

    exchange = Exchange(serve)
    shutdown = Shutdown()
    exchange.throw(shutdown)

    assert exchange.outcome is shutdown
    assert exchange.data_to_send() == b""


def test_a_handshake_that_breaks_on_its_way_out_has_failed():
    async def serve(peer):
        try:
            await peer.receive_line(16)
        finally:
            raise Breakage("door is jammed")

    exchange = Exchange(serve)
    exchange.throw(Shutdown())

    assert type(exchange.outcome) is HandshakeFailed
    assert re.fullmatch(rf"\S+ raised Breakage: door is jammed at {HERE}", str(exchange.outcome))


@pytest.mark.parametrize("linger", [lambda peer: peer.receive_line(16), lambda peer: Deferred()])
def test_a_handshake_that_waits_again_at_its_end_is_closed(linger):
    heard = []

    async def serve(peer):
        try:
            await peer.receive_line(16)
        except Shutdown:
            try:
                await linger(peer)
            finally:
                heard.append("finally")

    exchange = Exchange(serve)
    shutdown = Shutdown()
    exchange.throw(shutdown)

    assert exchange.outcome is shutdown
    assert heard == ["finally"]
    assert exchange.deferred is None


def test_a_handshake_that_breaks_when_it_is_closed_has_failed():
    async def serve(peer):
        try:
            await peer.receive_line(16)
        except Shutdown:
            try:
                await peer.receive_line(16)
            finally:
                raise Breakage("door is jammed")

    exchange = Exchange(serve)
    exchange.throw(Shutdown())

    assert "raised Breakage: door is jammed" in str(exchange.outcome)


def test_a_deferred_that_is_not_waited_for_any_more_is_cancelled():
    directory, results = Deferred(), []
    exchange = Exchange(looking_up(lambda word: directory))
    exchange.receive_data(b"ada\n")
    directory.addErrback(results.append)
    shutdown = Shutdown()

    exchange.throw(shutdown)

    assert exchange.outcome is shutdown
    assert exchange.deferred is None
    assert [result.type for result in results] == [CancelledError]


def test_a_cancelled_deferred_that_reports_back_does_not_change_the_outcome():
    directory = Deferred()
    exchange = Exchange(looking_up(lambda word: directory))
    exchange.receive_data(b"ada\n")
    directory.addCallbacks(
        lambda _: exchange.receive_result(),
        lambda failure: exchange.receive_failure(failure.value),
    )
    shutdown = Shutdown()

    exchange.throw(shutdown)

    assert exchange.outcome is shutdown


def test_a_canceller_that_breaks_is_a_failed_handshake_and_nobody_else_s():
    def cancel(deferred):
        raise Breakage("cannot hang up")

    directory = Deferred(cancel)
    exchange = Exchange(looking_up(lambda word: directory))
    exchange.receive_data(b"ada\n")

    exchange.throw(Shutdown())

    assert type(exchange.outcome) is HandshakeFailed
    assert "raised Breakage: cannot hang up" in str(exchange.outcome)


# TLS in the middle of it


async def upgrades(peer):
    """Greet, upgrade, and take a word."""
    peer.send(b"go ahead\n")
    await peer.start_tls()
    return await word(peer)


def test_a_handshake_that_asks_for_tls_waits_until_it_is_there():
    exchange = Exchange(upgrades)
    assert (exchange.wants_tls, exchange.waiting_on) == (True, "start_tls()")
    assert exchange.data_to_send() == b"go ahead\n"

    exchange.tls_started(PeerFacts(tls=TlsFacts()))
    exchange.tls_started(PeerFacts())
    exchange.receive_data(b"sesame\n")

    assert exchange.outcome == Accept(b"thanks\n", result=b"sesame")
    assert exchange.data_to_send() == b"word? thanks\n"
    assert not exchange.wants_tls


def test_tls_that_nobody_asked_for_changes_nothing():
    exchange = Exchange(word)

    exchange.tls_started(PeerFacts(tls=TlsFacts()))

    assert exchange.waiting_on == "receive_line(max_bytes=16)"


def test_a_byte_in_the_clear_ends_a_handshake_that_has_asked_for_tls():
    exchange = Exchange(upgrades)

    exchange.receive_data(b"RSET")

    assert str(exchange.outcome) == "expected nothing in the clear before TLS, got b'RSET'"
    assert (exchange.wants_tls, exchange.data_to_send()) == (False, b"")


def test_bytes_that_came_before_it_asked_for_tls_end_a_handshake_as_well():
    async def serve(peer):
        await Deferred()
        with suppress(ProtocolViolation):
            await peer.start_tls()
        return Accept()

    exchange = Exchange(serve)
    exchange.receive_data(b"RSET")
    exchange.deferred.callback(None)
    exchange.receive_result()

    assert str(exchange.outcome) == "expected nothing in the clear before TLS, got b'RSET'"


def test_bytes_do_not_end_a_handshake_that_waits_for_something_else():
    exchange = Exchange(looking_up(lambda _: Deferred()))

    exchange.receive_data(b"ada\n")
    exchange.receive_data(b"hi\n")

    assert exchange.outcome is None


def test_the_end_of_the_stream_ends_a_handshake_that_waits_for_tls():
    exchange = Exchange(upgrades)

    exchange.receive_eof()

    assert str(exchange.outcome) == "peer disconnected after 0 bytes, expected the TLS handshake"


def test_a_handshake_that_waits_for_tls_hears_of_its_end():
    exchange = Exchange(upgrades)
    shutdown = Shutdown()

    exchange.throw(shutdown)
    exchange.tls_started(PeerFacts(tls=TlsFacts()))

    assert (exchange.outcome, exchange.wants_tls) == (shutdown, False)


def test_a_handshake_that_asks_for_tls_at_its_end_is_closed():
    async def serve(peer):
        try:
            await peer.receive_line(16)
        finally:
            await peer.start_tls()

    exchange = Exchange(serve)
    shutdown = Shutdown()
    exchange.throw(shutdown)

    assert (exchange.outcome, exchange.wants_tls) == (shutdown, False)


# While it runs


def test_bytes_that_arrive_while_the_handshake_runs_are_found_by_it():
    async def serve(peer):
        await peer.receive_line(16)
        exchange.receive_data(b"second\n")
        return Accept(result=await peer.receive_line(16))

    exchange = Exchange(serve)
    exchange.receive_data(b"first\n")

    assert exchange.outcome == Accept(result=b"second")


def test_an_end_that_comes_while_the_handshake_runs_is_found_by_it():
    async def serve(peer):
        await peer.receive_line(16)
        exchange.receive_eof()
        return Accept(result=await peer.receive_to_end(16))

    exchange = Exchange(serve)
    exchange.receive_data(b"first\nrest")

    assert exchange.outcome == Accept(result=b"rest")


def throws_while_it_runs(then):
    """An exchange whose handshake throws at itself, and then does something."""
    shutdown = Shutdown()

    async def serve(peer):
        await peer.receive_line(16)
        exchange.throw(shutdown)
        return await then(peer)

    exchange = Exchange(serve)
    exchange.receive_data(b"go\n")
    return exchange, shutdown


async def returns(peer):
    return Accept(b"too late")


async def reads(peer):
    return Accept(result=await peer.receive_line(16))


async def waits(peer):
    return Accept(result=await Deferred())


async def reads_on_and_on(peer):
    for _ in range(3):
        try:
            await peer.receive_line(16)
        except Shutdown:
            peer.send(b"but ")
    return Accept(b"too late")


@pytest.mark.parametrize("then", [returns, reads, waits, reads_on_and_on])
def test_an_end_from_outside_while_the_handshake_runs_is_kept_until_it_stops(then):
    exchange, shutdown = throws_while_it_runs(then)

    assert exchange.outcome is shutdown
    assert exchange.deferred is None
    assert exchange.data_to_send() == b""


def test_a_handshake_that_breaks_after_an_end_from_outside_has_failed():
    async def breaks(peer):
        raise Breakage("door is jammed")

    exchange, _ = throws_while_it_runs(breaks)

    assert "raised Breakage: door is jammed" in str(exchange.outcome)


# Context variables

speaker = ContextVar("speaker", default="nobody")


def test_context_variables_survive_from_read_to_read_and_do_not_leak():
    async def serve(peer):
        seen = [speaker.get()]
        speaker.set((await peer.receive_line(16)).decode())
        seen.append(await peer.receive_line(16))
        seen.append(speaker.get())
        return Accept(result=seen)

    outer = speaker.set("the shell")
    try:
        ada, bob = Exchange(serve), Exchange(serve)
    finally:
        speaker.reset(outer)
    for exchange, name in ((ada, b"ada\n"), (bob, b"bob\n")):
        exchange.receive_data(name)
    assert speaker.get() == "nobody"
    for exchange in (ada, bob):
        exchange.receive_data(b"hi\n")

    assert ada.outcome == Accept(result=["the shell", b"hi", "ada"])
    assert bob.outcome == Accept(result=["the shell", b"hi", "bob"])
    assert speaker.get() == "nobody"


def test_a_handshake_closes_in_its_own_context():
    seen = []

    async def serve(peer):
        token = speaker.set("ada")
        try:
            while True:
                with suppress(Shutdown):
                    await peer.receive_line(16)
        finally:
            # ValueError, if that were another context.
            speaker.reset(token)
            seen.append(speaker.get())

    Exchange(serve).throw(Shutdown())

    assert seen == ["nobody"]


# Plug-ins that break


@pytest.mark.parametrize(
    ("value", "given"),
    [(None, "None"), (True, "a bool"), (b"OK\n", "a bytes"), (Accept, "a type")],
)
def test_a_handshake_that_returns_nonsense_has_failed(value, given):
    async def serve(peer):
        peer.send(b"OK\n")
        return value

    outcome = outcome_of(serve)

    assert str(outcome).endswith(f".serve returned {given}, expected Accept or Reject")
    assert Exchange(serve).data_to_send() == b""


def test_a_handshake_that_is_no_coroutine_has_failed():
    def serve(peer):
        return Accept()

    words = str(outcome_of(serve, b"hello"))

    assert words.endswith(".serve gave a Accept, expected a coroutine: is it async def?")


def test_a_handshake_that_cannot_even_be_called_has_failed():
    def serve():
        raise AssertionError

    words = str(outcome_of(serve, b"hello"))

    assert "raised TypeError" in words
    assert "takes 0 positional arguments but 1 was given" in words


@pytest.mark.parametrize(
    ("kind", "arguments", "shown"),
    [
        (Breakage, ["door is jammed"], "Breakage: door is jammed"),
        (Breakage, [], "Breakage"),
        (SystemExit, [3], "SystemExit: 3"),
        (GeneratorExit, [], "GeneratorExit"),
        (asyncio.CancelledError, [], "CancelledError"),
    ],
)
def test_a_handshake_that_raises_has_failed_and_the_line_is_named(kind, arguments, shown):
    error = kind(*arguments)

    async def serve(peer):
        peer.send(b"welcome, ")
        await peer.receive_line(16)
        raise error

    outcome = outcome_of(serve, b"hello\n")
    line = serve.__code__.co_firstlineno + 3

    assert str(outcome).endswith(f".serve raised {shown} at test_exchange.py:{line}")
    assert outcome.__cause__ is error


def test_a_handshake_that_raises_before_it_waits_has_failed():
    async def serve(peer):
        raise Breakage("no door here")

    assert "raised Breakage: no door here" in str(outcome_of(serve))


def test_an_error_that_cannot_be_shown_is_still_a_failed_handshake():
    class Speechless(Exception):
        def __str__(self):
            raise ValueError

    async def serve(peer):
        raise Speechless

    assert "raised Speechless: (an error that cannot be shown)" in str(outcome_of(serve))


def test_an_interrupt_ends_the_handshake_and_reaches_the_one_who_runs_it():
    async def serve(peer):
        await peer.receive_line(16)
        raise KeyboardInterrupt

    exchange = Exchange(serve)
    with pytest.raises(KeyboardInterrupt):
        exchange.receive_data(b"hello\n")

    assert "raised KeyboardInterrupt" in str(exchange.outcome)


def test_a_failed_handshake_may_say_so_itself():
    failed = HandshakeFailed("directory", "is down")

    async def serve(peer):
        raise failed

    assert play(serve, []).outcome is failed


# Plug-ins that wait for what nobody can give them


def test_a_handshake_that_sleeps_like_asyncio_is_told_what_can_be_awaited():
    async def serve(peer):
        await asyncio.sleep(0)
        return Accept()

    assert str(outcome_of(serve)).endswith(
        ".serve awaited builtins.NoneType, which nobody here can resume: "
        "a handshake awaits its peer's verbs and Deferreds"
    )


def test_a_handshake_that_awaits_a_future_is_told_how():
    loop = asyncio.new_event_loop()
    try:
        future = loop.create_future()

        async def serve(peer):
            await future
            return Accept()

        words = str(outcome_of(serve))
    finally:
        loop.close()

    assert re.search(
        r"awaited _asyncio\.Future, which nobody here can resume: "
        r"wrap it in Deferred\.fromFuture\(\)$",
        words,
    )


def test_a_handshake_may_answer_that_it_awaited_the_wrong_thing():
    async def serve(peer):
        try:
            await asyncio.sleep(0)
        except HandshakeFailed:
            return Reject(b"not today\n", reason="asleep")

    assert converse(serve, b"") == Reject(b"not today\n", reason="asleep")


def test_a_handshake_that_awaits_the_wrong_thing_for_ever_is_closed():
    closed = []

    async def serve(peer):
        try:
            while True:
                try:
                    await asyncio.sleep(0)
                except Exception:
                    peer.send(b".")
        finally:
            closed.append(True)

    assert "awaited builtins.NoneType" in str(outcome_of(serve))
    assert closed == [True]


# Plug-ins that do not listen


def test_a_handshake_that_catches_everything_and_reads_for_ever_is_closed():
    async def serve(peer):
        while True:
            try:
                await peer.receive_line(4)
            except Exception:
                peer.send(b"?")

    for chunks in ([b""], [b"far too long a line"], [b"ok\n", b"ok\n"]):
        assert str(outcome_of(serve, *chunks)).endswith(
            ".serve kept on reading from a peer that gave no more"
        )


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_handshake_that_cannot_even_be_closed_has_failed():
    async def serve(peer):
        for _ in range(1000):
            with suppress(BaseException):
                await peer.receive_line(16)
        return Accept()

    assert str(outcome_of(serve)).endswith(
        ".serve raised RuntimeError: coroutine ignored GeneratorExit"
    )
    gc.collect()


# Plug-ins that go too far


def test_a_reply_of_a_hundred_megabytes_is_the_handshake_s_failure():
    async def serve(peer):
        return Accept(bytes(100_000_000))

    exchange = Exchange(serve)

    assert str(exchange.outcome).endswith(
        ".serve replied with 100000000 bytes, the limit set by max_unsent is 65536"
    )
    assert exchange.data_to_send() == b""


def test_a_hundred_megabytes_cannot_be_sent_either():
    async def serve(peer):
        peer.send(bytes(100_000_000))
        return Accept()

    exchange = Exchange(serve)

    assert str(exchange.outcome) == (
        "peer was owed more than 65536 bytes, the limit set by max_unsent"
    )
    assert exchange.data_to_send() == b""


async def announces(peer):
    """Say five bytes, and reply with the next three."""
    peer.send(b"12345")
    return Reject(await peer.receive_exactly(3))


def test_a_reply_counts_together_with_what_was_sent_before():
    fits, exceeds = Exchange(announces, max_unsent=8), Exchange(announces, max_unsent=7)
    for exchange in (fits, exceeds):
        exchange.receive_data(b"678")

    assert fits.outcome == Reject(b"678")
    assert str(exceeds.outcome) == (
        "announces replied with 3 bytes, the limit set by max_unsent is 7"
    )


def test_what_has_left_counts_no_more():
    async def serve(peer):
        peer.send(b"12345")
        peer.send(await peer.receive_exactly(2))
        return Accept(await peer.receive_exactly(3))

    exchange = Exchange(serve, max_unsent=5)
    exchange.data_to_send()
    exchange.receive_data(b"67890")

    assert exchange.outcome == Accept(b"890")
    assert exchange.data_to_send() == b"67890"


@pytest.mark.parametrize(("sessions", "offered"), [((), "none"), (("echo", "chat"), "echo, chat")])
def test_a_session_that_is_not_on_offer_cannot_be_chosen(sessions, offered):
    async def serve(peer):
        return Accept(b"OK\n", session="game")

    story = play(serve, [], facts=PeerFacts(sessions=sessions))

    assert str(story.outcome).endswith(
        f".serve chose the session 'game', which is not on offer: {offered}"
    )
    assert story.sent == b""


def test_no_session_has_to_be_chosen():
    async def serve(peer):
        return Accept(b"OK\n")

    facts = PeerFacts(sessions=("echo", "chat"))

    assert play(serve, [], facts=facts) == Story(Accept(b"OK\n"), sent=b"OK\n")


@pytest.mark.parametrize("listens", [True, False])
def test_a_deferred_that_is_awaited_after_the_end_came_is_cancelled(listens):
    lookup: Deferred[None] = Deferred()

    async def ends_itself(peer):
        exchange.throw(Shutdown())
        if listens:
            await lookup
        with suppress(Shutdown):
            await peer.receive_line(16)
        await lookup

    async def begins_later(peer):
        await peer.receive_exactly(1)
        return await ends_itself(peer)

    exchange = Exchange(begins_later)
    exchange.receive_data(b"x")

    assert type(exchange.outcome) is Shutdown
    assert exchange.deferred is None
    assert lookup.called
