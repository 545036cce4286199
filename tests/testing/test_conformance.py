"""The checks of a handshake: what they say of a right one, and of those with a mistake."""

from __future__ import annotations

import os
import signal
import xml.etree.ElementTree as ElementTree
from threading import Thread

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock, deferLater

from sockproto import Accept, ConfigurationError, Reject
from sockproto.handshakes.passphrase import Passphrase
from sockproto.handshakes.welcome import Welcome
from sockproto.testing import Verdict, assert_conforms, conform
from sockproto.testing.conformance.examine import CHECKS
from sockproto.testing.conformance.files import html, junit
from sockproto.testing.conformance.learned import script_from_hex

from .broken import CAUGHT_BY, OPEN, OTHERS, STOP, WORD, Right

QUICK = {"cases": 12}


def found_in(handshake, **arguments):
    """What is neither OK nor without a case: the check, and what it says."""
    report = conform(handshake, **{**QUICK, **arguments})
    return {
        each.check: each.verdict
        for each in report.results
        if each.verdict not in (Verdict.OK, Verdict.NOT_APPLICABLE)
    }


def without_object(report):
    return {each.check for each in report.of(Verdict.NOT_APPLICABLE)}


# What they say


def test_there_are_enough_of_them_and_each_has_a_name_and_a_promise_of_its_own():
    assert len(CHECKS) >= 60
    assert len({each.name for each in CHECKS}) == len(CHECKS)
    assert len({each.promise for each in CHECKS}) == len(CHECKS)
    assert all(each.promise.endswith(".") for each in CHECKS)


def test_a_right_handshake_is_ok():
    assert found_in(Right(), secrets=[WORD]) == {}


def test_the_passphrase_is_ok_in_all_that_applies_to_it():
    report = conform(Passphrase(b"sesame"), secrets=[b"sesame"])

    assert not report.failed
    assert not report.weak
    assert without_object(report) == {"leaves-no-deferred"}


def test_welcome_is_weak_in_exactly_one():
    assert found_in(Welcome()) == {"reads-whole-messages": Verdict.WEAK}


def test_a_token_of_several_bytes_is_not_what_the_lesson_can_hear():
    found = found_in(Welcome(b"hello"))

    assert found["cut-in-two"] is Verdict.FAILED


@pytest.mark.parametrize(
    ("broken", "check"), CAUGHT_BY.items(), ids=[each.__name__ for each in CAUGHT_BY]
)
def test_a_mistake_is_caught_by_the_check_that_is_named_for_it(broken, check):
    handshake = broken()

    report = conform(
        handshake, only=[check], secrets=[WORD], clock=getattr(handshake, "clock", None)
    )

    [result] = report.results
    assert result.verdict is Verdict.FAILED
    assert result.reason
    # And the right one passes the same check, or it would be no news.
    assert not conform(Right(), only=[check], secrets=[WORD]).failed


@pytest.mark.filterwarnings("ignore:coroutine .sleep. was never awaited")
@pytest.mark.parametrize("check", OTHERS)
def test_a_promise_that_is_broken_is_told(check, logged_failures):
    make, verdict = OTHERS[check]
    STOP.clear()
    try:
        [result] = conform(make(), only=[check], secrets=[WORD]).results
    finally:
        STOP.set()
        while OPEN:
            os.close(OPEN.pop())
        logged_failures.take()

    assert result.verdict is verdict, result.reason
    assert result.reason


def test_there_is_a_mistake_of_at_least_twelve_classes_and_each_has_its_own_check():
    assert len(set(CAUGHT_BY.values())) == len(CAUGHT_BY) >= 12


# What a finding tells


def test_a_finding_names_the_case_the_bytes_and_the_command_that_show_it_again():
    from .broken import TakesAChunkForAMessage

    report = conform(TakesAChunkForAMessage(), only=["cut-in-two"])

    [result] = report.results
    assert b"".join(result.heard) == b"sesame\n"
    assert len(result.heard) == 2
    again = f"sockproto conformance TakesAChunkForAMessage --only cut-in-two --seed {result.seed}"
    assert report.again(result) == again
    assert f"again: {again}" in report.describe(result)


def test_the_same_seed_finds_the_same_again():
    from .broken import RaisesOverBytes

    [first] = conform(RaisesOverBytes(), only=["flipped-bits"]).results
    [again] = conform(RaisesOverBytes(), only=["flipped-bits"], seed=first.seed).results
    [other] = conform(RaisesOverBytes(), only=["flipped-bits"], seed=100_000).results

    assert (again.verdict, again.reason, again.heard) == (
        Verdict.FAILED,
        first.reason,
        first.heard,
    )
    assert again.cases == 1
    assert (other.verdict, other.reason) == (Verdict.NOT_APPLICABLE, "it has no case 100000")


def test_a_check_that_there_is_not_is_told():
    with pytest.raises(ValueError) as caught:
        conform(Right(), only=["cut-in-three"])

    assert str(caught.value) == "there is no check called cut-in-three"


def test_a_test_that_asks_for_it_fails_with_all_that_was_found():
    from .broken import TellsWhy

    with pytest.raises(AssertionError) as caught:
        assert_conforms(TellsWhy(), only=["uniform-rejects", "says-what-it-does"])

    words = str(caught.value)
    assert words.startswith("TellsWhy (server and client): 2 checks, 1 OK, 1 FAILED")
    assert "FAILED uniform-rejects: All who are rejected are told the same bytes" in words


def test_a_weakness_that_is_known_has_to_be_named_and_has_to_be_there():
    only = ["reads-whole-messages"]

    assert_conforms(Welcome(), only=only, weak=only)
    with pytest.raises(AssertionError):
        assert_conforms(Welcome(), only=only)
    with pytest.raises(AssertionError, match="reads-whole-messages is not WEAK any more"):
        assert_conforms(Right(), only=only, weak=only)


# Whom they can talk to


class ServerOnly:
    """Accept the word in a line."""

    serve = Right.serve
    word = Right.word


class Nonces:
    """Say something else every time, and want it back."""

    count = 0

    async def serve(self, peer):
        Nonces.count += 1
        nonce = b"%04d" % Nonces.count
        peer.send(nonce + b"\n")
        if await peer.receive_line(16) == nonce[::-1] + b"!":
            return Accept(b"OK\n")
        return Reject(b"NO\n", reason="wrong answer")

    async def connect(self, peer):
        nonce = await peer.receive_line(16)
        peer.send(nonce[::-1] + b"!\n")
        return Accept() if await peer.expect(b"OK\n") else Reject(reason="wrong answer")


def test_a_server_alone_is_not_silently_passed_over():
    report = conform(ServerOnly(), **QUICK)

    assert report.sides == ("server",)
    assert not report.failed
    by_name = {each.check: each for each in report.results}
    assert by_name["good-conversation"].reason == (
        "it has no connect; give --client SPEC or --conversation FILE"
    )
    assert by_name["has-both-sides"].reason == "it is a server alone"
    assert by_name["random-bytes-at-each-step"].verdict is Verdict.OK


def test_a_client_of_another_object_can_be_given():
    report = conform(ServerOnly(), client=Right(), **QUICK)

    assert report.sides == ("server", "client")
    assert not report.failed
    assert "good-conversation" not in without_object(report)


def test_a_script_speaks_where_a_side_is_missing():
    script = script_from_hex("client 73 65 73 61 6d 65 0a # the word\n\nserver 4f4b0a\n")

    report = conform(ServerOnly(), conversation=script, **QUICK)

    assert script == (("client", b"sesame\n"), ("server", b"OK\n"))
    assert not report.failed
    assert {"good-conversation", "cut-in-two", "truncated-anywhere"} & without_object(
        report
    ) == set()


@pytest.mark.parametrize("line", ["client xx", "nobody 00", "client 0"])
def test_a_line_that_is_no_turn_is_told(line):
    with pytest.raises(ConfigurationError) as caught:
        script_from_hex(f"client 00\n{line}\n")

    assert str(caught.value) == (
        "line 2 is no turn of a conversation; write it like client 73 65 73 0a"
    )


def test_nothing_has_to_be_said_twice():
    report = conform(Nonces(), **QUICK)

    assert not report.failed, report.of(Verdict.FAILED)
    assert {"all-at-once", "the-same-on-both-wires"} <= without_object(report)


def test_time_passes_for_a_handshake_that_follows_the_clock():
    clock = Clock()

    class Slow(Right):
        """Accept the word after a while."""

        async def word(self, peer):
            word = await peer.receive_line(64)
            await deferLater(clock, 1.0, lambda: None)
            return word

    report = conform(Slow(), clock=clock, **QUICK)

    assert not report.failed, report.of(Verdict.FAILED)
    assert "leaves-no-deferred" not in without_object(report)


def test_a_deferred_that_nobody_fires_is_told():
    class Waits(Right):
        """Wait for ever."""

        async def word(self, peer):
            return await Deferred()

    [result] = conform(Waits(), only=["good-conversation"]).results

    assert result.verdict is Verdict.NOT_APPLICABLE
    assert "awaits a Deferred that nothing here fires" in result.reason


def test_without_a_good_conversation_it_fails_and_the_rest_says_why_it_does_not_apply():
    class Contrary(Right):
        """Send the wrong word."""

        async def connect(self, peer):
            peer.send(b"simsim\n")
            return Reject(reason="whatever")

    report = conform(Contrary(), only=["good-conversation", "cut-in-two"])

    good, cut = report.results
    assert good.verdict is Verdict.FAILED
    assert "its server ends in Reject(" in good.reason
    assert cut.reason == "there is no good conversation, see good-conversation"


def test_what_is_no_handshake_fails():
    [result] = conform(object(), only=["has-a-side"]).results

    assert (result.verdict, result.reason) == (
        Verdict.FAILED,
        "it has neither serve nor connect",
    )


class NeverReturns(Right):
    """Turn round and round over a word that is empty."""

    async def word(self, peer):
        word = await peer.receive_line(64)
        while not word:
            pass
        return word


def test_what_never_ends_is_ended(monkeypatch):
    monkeypatch.setattr("sockproto.testing.conformance.examine.STUCK", 0.05)

    [result] = conform(NeverReturns(), only=["nasty-words-at-each-step"]).results

    assert result.verdict is Verdict.FAILED
    assert result.seed == 0


def test_an_alarm_that_somebody_has_set_rings_all_the_same():
    rung = []
    before = signal.signal(signal.SIGALRM, lambda *_: rung.append(True))
    signal.setitimer(signal.ITIMER_REAL, 60.0)
    try:
        conform(Right(), only=["good-conversation"])
        left, _ = signal.getitimer(signal.ITIMER_REAL)
        assert 0 < left < 60.0
        assert signal.getsignal(signal.SIGALRM) is not signal.SIG_DFL
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_in_another_thread_there_is_no_alarm():
    found = []
    thread = Thread(target=lambda: found.append(conform(Right(), only=["good-conversation"])))
    thread.start()
    thread.join()

    assert not found[0].failed


# Files


@pytest.fixture(scope="module")
def report():
    class Angle(Right):
        """Reject with <b>different</b> bytes."""

        async def serve(self, peer):
            word = await self.word(peer)
            return Accept(b"OK\n") if word == WORD else Reject(b"<b>" + word, reason="no")

    return conform(
        Angle(), only=["uniform-rejects", "cut-in-two", "leaves-no-deferred"], spec="angle"
    )


def test_a_build_server_can_read_it(report):
    suite = ElementTree.fromstring(junit(report))

    assert suite.attrib["tests"] == "3"
    assert suite.attrib["failures"] == suite.attrib["skipped"] == "1"
    [failure] = suite.iter("failure")
    assert "again: sockproto conformance angle --only uniform-rejects" in failure.text


def test_a_weakness_is_a_failure_for_whoever_is_strict():
    weak = conform(Welcome(), only=["reads-whole-messages"])

    assert "<failure" not in junit(weak)
    assert "<failure" in junit(weak, strict=True)


def test_a_page_has_nothing_in_it_that_a_peer_could_have_put_there(report):
    page = html(report)

    assert "<script" not in page
    assert "http" not in page
    assert "<b>" not in page
    assert "&lt;b&gt;" in page
