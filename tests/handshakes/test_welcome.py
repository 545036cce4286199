import pytest
from twisted.internet.defer import Deferred, succeed

from sockproto import Accept, Exchange, LimitExceeded, PeerDisconnected, Reject
from sockproto.handshakes.welcome import MAX_READ, Welcome
from sockproto.testing import Rehearsal, Story, converse, play, rehearse

WELCOME = b"welcome to server!"
GOODBYE = b"please go out!"

# The server's side: the lesson, to the byte


def test_a_one_is_welcome():
    assert play(Welcome().serve, [b"1"]) == Story(Accept(WELCOME), sent=WELCOME)


@pytest.mark.parametrize("token", [b"2", b"11", b"1\n", b"\0", b"welcome"])
def test_anything_else_is_asked_out(token):
    reason = f"expected b'1', got {token!r}"

    assert play(Welcome().serve, [token]) == Story(Reject(GOODBYE, reason=reason), sent=GOODBYE)


def test_a_long_token_is_cut_short_in_the_log():
    outcome = play(Welcome().serve, [b"x" * 99]).outcome

    assert outcome == Reject(GOODBYE, reason=f"expected b'1', got {b'x' * 32!r}...")


def test_the_first_read_decides_and_it_is_no_longer_than_the_tutorial_s():
    story = play(Welcome(token=b"x" * MAX_READ).serve, [b"x" * MAX_READ + b"and more"])

    assert story == Story(Accept(WELCOME), sent=WELCOME, unread=b"and more")


def test_the_cut_of_the_stream_shows_and_that_is_the_lesson_s_point():
    with pytest.raises(AssertionError, match="tells two stories about the same 2 bytes"):
        converse(Welcome(token=b"12").serve, b"12")


def test_a_client_that_says_nothing_and_leaves_is_a_disconnect():
    with pytest.raises(PeerDisconnected) as caught:
        converse(Welcome().serve, b"")

    assert str(caught.value) == "peer disconnected after 0 bytes, expected at least 1 byte"


def test_token_and_answers_can_be_chosen():
    welcome = Welcome(token=b"?", welcome=b"!", goodbye=b".")

    assert play(welcome.serve, [b"?"]).outcome == Accept(b"!")
    assert play(welcome.serve, [b"1"]).outcome == Reject(b".", reason="expected b'?', got b'1'")


# The client's side


def test_the_client_says_the_token_first_and_gives_the_whole_answer():
    assert play(Welcome().connect, [b"welcome ", b"to server!"]) == Story(
        Accept(result=WELCOME), sent=b"1"
    )
    assert converse(Welcome().connect, WELCOME) == Accept(result=WELCOME)


def test_the_client_gives_any_other_answer_as_the_reason():
    assert converse(Welcome().connect, GOODBYE) == Reject(reason="please go out!")
    assert converse(Welcome().connect, b"\xffno") == Reject(reason="\\xffno")


def test_the_client_waits_for_the_whole_answer():
    exchange = Exchange(Welcome().connect)

    exchange.receive_data(WELCOME)

    assert exchange.outcome is None


def test_no_answer_is_a_disconnect():
    with pytest.raises(PeerDisconnected) as caught:
        converse(Welcome().connect, b"")

    assert str(caught.value) == "peer disconnected after 0 bytes, expected an answer"


def test_an_answer_that_does_not_end_is_over_the_limit():
    with pytest.raises(LimitExceeded) as caught:
        converse(Welcome().connect, b"x" * (MAX_READ + 1))

    assert str(caught.value) == "peer sent more than 1024 bytes, the limit set by max_bytes"


def saying(word, delay=None):
    """A client that says what it is told, after a while."""

    async def connect(peer):
        return await Welcome().connect(peer, send=word, delay=delay)

    return connect


def test_the_client_can_say_something_else():
    assert play(saying(b"2"), [GOODBYE]) == Story(Reject(reason="please go out!"), sent=b"2")


def test_the_client_can_say_nothing_at_all():
    assert play(saying(b""), [GOODBYE]).sent == b""


def test_the_client_can_think_first():
    thought = Deferred()
    exchange = Exchange(saying(b"1", delay=lambda: thought))
    assert exchange.data_to_send() == b""

    thought.callback(None)
    exchange.receive_result()

    assert exchange.data_to_send() == b"1"


def test_thinking_need_not_take_time():
    side = saying(b"1", delay=lambda: succeed(None))

    assert converse(side, WELCOME) == Accept(result=WELCOME)


# Both


def test_both_sides_agree():
    assert rehearse(Welcome()) == Rehearsal(
        server=Accept(WELCOME),
        client=Accept(result=WELCOME),
        server_sent=WELCOME,
        client_sent=b"1",
    )


def test_both_sides_agree_on_a_wrong_token():
    class Stranger:
        serve = Welcome().serve
        connect = staticmethod(saying(b"2"))

    assert rehearse(Stranger()) == Rehearsal(
        server=Reject(GOODBYE, reason="expected b'1', got b'2'"),
        client=Reject(reason="please go out!"),
        server_sent=GOODBYE,
        client_sent=b"2",
    )
