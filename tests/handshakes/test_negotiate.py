import json
from pathlib import Path

import pytest
from docs.pages import DOCS, rows_of

from sockproto import (
    Accept,
    ConfigurationError,
    Exchange,
    LimitExceeded,
    PeerDisconnected,
    PeerFacts,
    Reject,
)
from sockproto.handshakes.negotiate import MAX_LINE, MAX_NAME, Negotiate
from sockproto.testing import Rehearsal, Story, converse, play, rehearse

VECTORS = json.loads((Path(__file__).parent / "vectors/negotiate.json").read_text())

ON_OFFER = PeerFacts(sessions=("chat/1", "chat/2", "echo"))


def serve(line, sessions=ON_OFFER.sessions):
    return converse(Negotiate().serve, line, facts=PeerFacts(sessions=sessions))


def connect(answer, wanted="chat/2,chat/1", sessions=()):
    return converse(Negotiate(wanted).connect, answer, facts=PeerFacts(sessions=sessions))


@pytest.mark.parametrize("vector", VECTORS["conversations"], ids=lambda each: each["case"])
def test_the_bytes_are_those_of_the_vectors(vector):
    facts = PeerFacts(sessions=tuple(vector["sessions"]))
    said, answered = bytes.fromhex(vector["client"]), bytes.fromhex(vector["server"])

    story = play(Negotiate().serve, [said], facts=facts)

    assert story.sent == answered
    outcome = story.outcome
    assert type(outcome) is {"accepted": Accept, "rejected": Reject}[vector["verdict"]]
    assert getattr(outcome, "session", None) == vector["session"]
    assert converse(Negotiate().serve, said, facts=facts) == outcome


def test_the_page_has_the_bytes_of_the_vectors():
    page = DOCS / "reference/handshakes/negotiate.rst"

    assert rows_of(page) == [
        [each[key] for key in ("case", "client", "server", "verdict")]
        for each in VECTORS["conversations"]
    ]


# The server's side


def test_whoever_asks_for_a_session_gets_it():
    assert serve(b"chat/1\n") == Accept(b"OK chat/1\n", session="chat/1")


def test_the_first_name_that_is_on_offer_counts():
    assert serve(b"chat/3 chat/2 chat/1\n") == Accept(b"OK chat/2\n", session="chat/2")
    assert serve(b"chat/1 chat/2\n") == Accept(b"OK chat/1\n", session="chat/1")


def test_a_line_may_end_as_netcat_ends_it_or_as_telnet_does():
    assert serve(b"echo\r\n") == serve(b"echo\n")


def test_whoever_asks_for_nothing_that_there_is_gets_the_list():
    assert serve(b"chat/3 mail\n") == Reject(
        b"NO chat/1 chat/2 echo\n", reason="b'chat/3 mail' is not on offer"
    )


@pytest.mark.parametrize(
    "line", [b"", b" ", b"chat", b"CHAT/1", b"chat/1\t", b"chat/1,chat/2", b"HELP", b"\xff", b"\0"]
)
def test_all_that_is_not_on_offer_gets_the_same_answer(line):
    assert serve(line + b"\n").reply == b"NO chat/1 chat/2 echo\n"


def test_whoever_asks_for_the_list_gets_it():
    assert serve(b"?\n") == Reject(b"NO chat/1 chat/2 echo\n", reason="it asked for the list")


def test_a_server_without_names_has_nothing_to_offer():
    assert serve(b"echo\n", sessions=()) == Reject(b"NO\n", reason="b'echo' is not on offer")


def test_what_a_client_says_is_cut_short_in_the_log():
    assert serve(b"x" * 100 + b"\n").reason == f"b'{'x' * 32}'... is not on offer"


def test_a_name_need_not_be_english():
    name = "café/1"

    assert serve(name.encode() + b"\n", [name]) == Accept(b"OK caf\xc3\xa9/1\n", session=name)


@pytest.mark.parametrize("name", ["two words", "?", "", "a\nb", "x" * (MAX_NAME + 1), "\udcff"])
def test_a_session_whose_name_cannot_be_said_is_not_on_offer(name):
    assert serve(b"x\n", (name, "echo")).reply == b"NO echo\n"


def test_the_list_has_as_many_names_as_fit_into_a_line():
    names = [f"{number:0{MAX_NAME}}" for number in range(5)]

    reply = serve(b"?\n", (*names, "echo")).reply

    assert reply == f"NO {' '.join(names[:3])} echo\n".encode()
    assert len(reply) <= MAX_LINE + 1


def test_what_follows_the_line_is_left_for_the_session():
    story = play(Negotiate().serve, [b"echo\nhello\n"], facts=ON_OFFER)

    assert story == Story(Accept(b"OK echo\n", session="echo"), b"OK echo\n", b"hello\n")


def test_a_longer_line_is_over_the_limit():
    with pytest.raises(LimitExceeded) as caught:
        serve(b"x" * (MAX_LINE + 2))

    assert str(caught.value) == "peer sent more than 1024 bytes, the limit set by max_bytes"


def test_a_client_that_leaves_in_the_middle_of_its_line_is_a_disconnect():
    with pytest.raises(PeerDisconnected) as caught:
        serve(b"echo")

    assert str(caught.value) == "peer disconnected after 4 bytes, expected a line"


# The client's side


def test_the_client_says_its_names_in_the_order_that_it_prefers():
    assert Exchange(Negotiate("chat/2,chat/1").connect).data_to_send() == b"chat/2 chat/1\n"


def test_the_client_is_told_which_of_them_was_taken():
    assert connect(b"OK chat/1\n") == Accept(result="chat/1")
    assert connect(b"OK chat/2\r\n") == Accept(result="chat/2")


def test_a_client_with_sessions_of_its_own_asks_for_them_and_begins_the_one_that_was_taken():
    side = Negotiate().connect
    facts = PeerFacts(sessions=("chat/2", "two words", "chat/1"))

    assert Exchange(side, facts).data_to_send() == b"chat/2 chat/1\n"
    assert converse(side, b"OK chat/1\n", facts=facts) == Accept(session="chat/1", result="chat/1")


def test_a_client_that_wants_nothing_asks_for_the_list():
    assert Exchange(Negotiate().connect).data_to_send() == b"?\n"
    assert connect(b"NO chat/1 echo\n", wanted=None) == Reject(reason="on offer is chat/1, echo")
    assert connect(b"NO\n", wanted=None) == Reject(reason="on offer is nothing")


def test_a_client_whose_names_are_not_on_offer_hears_what_is():
    assert connect(b"NO chat/7 echo\n") == Reject(reason="on offer is chat/7, echo")


@pytest.mark.parametrize("name", [b"mail", b"\xff", b"chat/2chat/1", b""])
def test_a_server_that_takes_what_was_not_asked_for_is_left(name):
    assert connect(b"OK " + name + b"\n") == Reject(
        reason=f"it took {name!r}, which we have not asked for"
    )


@pytest.mark.parametrize("answer", [b"OK", b"OK chat/1 chat/2", b"ok chat/1", b"HTTP/1.1 400", b""])
def test_the_client_recognises_a_stranger(answer):
    assert connect(answer + b"\n") == Reject(reason="that is not a negotiate server")


def test_a_server_that_says_no_end_is_over_the_limit():
    with pytest.raises(LimitExceeded):
        connect(b"OK " + b"x" * MAX_LINE)


def test_the_longest_name_that_can_be_asked_for_is_answered():
    name = "x" * MAX_NAME

    rehearsal = rehearse(Negotiate(name), server_facts=PeerFacts(sessions=(name,)))

    assert rehearsal.client == Accept(result=name)


# Both


def test_both_sides_agree():
    assert rehearse(Negotiate("chat/3,chat/2"), server_facts=ON_OFFER) == Rehearsal(
        server=Accept(b"OK chat/2\n", session="chat/2"),
        client=Accept(result="chat/2"),
        server_sent=b"OK chat/2\n",
        client_sent=b"chat/3 chat/2\n",
    )


def test_both_sides_agree_that_they_have_nothing_in_common():
    assert rehearse(Negotiate("mail"), server_facts=ON_OFFER) == Rehearsal(
        server=Reject(b"NO chat/1 chat/2 echo\n", reason="b'mail' is not on offer"),
        client=Reject(reason="on offer is chat/1, chat/2, echo"),
        server_sent=b"NO chat/1 chat/2 echo\n",
        client_sent=b"mail\n",
    )


# What a client may want


@pytest.mark.parametrize("name", ["", "?", "two words", "a\tb", "x" * (MAX_NAME + 1), "\udcff"])
def test_a_name_that_cannot_be_said_is_refused(name):
    with pytest.raises(ConfigurationError) as caught:
        Negotiate(f"chat/1,{name}")

    assert str(caught.value) == (
        f"negotiate cannot ask for {name!r}; write names of 1 to 255 bytes without blanks, "
        "with commas between them, like chat/2,chat/1"
    )


def test_more_names_than_a_line_has_room_for_are_refused():
    with pytest.raises(ConfigurationError) as caught:
        Negotiate(",".join(["x" * MAX_NAME] * 5))

    assert str(caught.value) == (
        "negotiate cannot ask for names of 1279 bytes together, the most that a line has is 1024; "
        "ask for fewer"
    )
