import pytest

from sockproto import (
    Accept,
    ConfigurationError,
    Exchange,
    LimitExceeded,
    PeerDisconnected,
    Reject,
)
from sockproto.handshakes.passphrase import MAX_WORD, Passphrase
from sockproto.testing import Rehearsal, Story, converse, play, rehearse

# The server's side


def test_the_word_opens_the_door():
    assert converse(Passphrase(b"sesame").serve, b"sesame\n") == Accept(b"OK\n")


@pytest.mark.parametrize("word", [b"sesam", b"sesames", b"SESAME", b"sesame\r", b"", b"\xff"])
def test_any_other_word_does_not(word):
    assert converse(Passphrase(b"sesame").serve, word + b"\n") == Reject(
        b"NO\n", reason="wrong word"
    )


def test_what_follows_the_word_is_left_for_the_session():
    story = play(Passphrase(b"sesame").serve, [b"sesame\nhello"])

    assert story == Story(Accept(b"OK\n"), sent=b"OK\n", unread=b"hello")


def test_a_client_that_leaves_in_the_middle_of_its_word_is_a_disconnect():
    with pytest.raises(PeerDisconnected) as caught:
        converse(Passphrase(b"sesame").serve, b"sesame")

    assert str(caught.value) == "peer disconnected after 6 bytes, expected b'\\n'"


def test_the_longest_word_opens_the_door():
    word = b"x" * MAX_WORD

    assert converse(Passphrase(word).serve, word + b"\n") == Accept(b"OK\n")


def test_a_longer_word_is_over_the_limit():
    with pytest.raises(LimitExceeded) as caught:
        converse(Passphrase(b"sesame").serve, b"x" * (MAX_WORD + 1))

    assert str(caught.value) == "peer sent more than 1024 bytes, the limit set by max_bytes"


# The client's side


def test_the_client_says_the_word_first():
    assert Exchange(Passphrase(b"sesame").connect).data_to_send() == b"sesame\n"


def test_the_client_is_accepted_and_leaves_what_follows_for_the_session():
    story = play(Passphrase(b"sesame").connect, [b"OK\nhello"])

    assert story == Story(Accept(), sent=b"sesame\n", unread=b"hello")


def test_the_client_hears_that_its_word_is_wrong():
    assert converse(Passphrase(b"sesame").connect, b"NO\n") == Reject(reason="wrong word")


@pytest.mark.parametrize("answer", [b"SSH-2.0-x\r\n", b"OKAY\n", b"NOPE\n", b"\n"])
def test_the_client_recognises_a_stranger(answer):
    assert converse(Passphrase(b"sesame").connect, answer) == Reject(
        reason="that is not a passphrase server"
    )


@pytest.mark.parametrize("answer", [b"", b"O", b"OK", b"N", b"NO"])
def test_a_server_that_leaves_without_an_answer_is_a_disconnect(answer):
    with pytest.raises(PeerDisconnected) as caught:
        converse(Passphrase(b"sesame").connect, answer)

    assert str(caught.value) == f"peer disconnected after {len(answer)} bytes, expected 3 bytes"


# Both


def test_both_sides_agree():
    assert rehearse(Passphrase(b"sesame")) == Rehearsal(
        server=Accept(b"OK\n"), client=Accept(), server_sent=b"OK\n", client_sent=b"sesame\n"
    )


def test_both_sides_agree_on_a_wrong_word():
    class Impostor:
        serve = Passphrase(b"sesame").serve
        connect = Passphrase(b"simsim").connect

    assert rehearse(Impostor()) == Rehearsal(
        server=Reject(b"NO\n", reason="wrong word"),
        client=Reject(reason="wrong word"),
        server_sent=b"NO\n",
        client_sent=b"simsim\n",
    )


# Where the word comes from


@pytest.mark.parametrize("content", [b"sesame", b"sesame\n", b"sesame\r\n"])
def test_a_word_may_come_from_a_file_with_or_without_a_line_ending(tmp_path, content):
    file = tmp_path / "word"
    file.write_bytes(content)

    assert converse(Passphrase(file=file).serve, b"sesame\n") == Accept(b"OK\n")


def test_spaces_in_a_file_are_part_of_the_word(tmp_path):
    file = tmp_path / "word"
    file.write_bytes(b" open sesame \n")

    assert converse(Passphrase(file=file).serve, b" open sesame \n") == Accept(b"OK\n")


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    file = tmp_path / "word"

    with pytest.raises(ConfigurationError) as caught:
        Passphrase(file=file)

    assert str(caught.value) == f"passphrase cannot read {file}: No such file or directory"


def test_a_word_may_come_from_the_environment(monkeypatch):
    monkeypatch.setenv("SOCKPROTO_TEST_WORD", "sesam\u00e9")

    passphrase = Passphrase(env="SOCKPROTO_TEST_WORD")

    assert converse(passphrase.serve, "sesam\u00e9\n".encode()) == Accept(b"OK\n")


def test_a_variable_that_is_not_set_is_named(monkeypatch):
    monkeypatch.delenv("SOCKPROTO_TEST_WORD", raising=False)

    with pytest.raises(ConfigurationError) as caught:
        Passphrase(env="SOCKPROTO_TEST_WORD")

    assert str(caught.value) == (
        "passphrase finds no variable SOCKPROTO_TEST_WORD in the environment"
    )


@pytest.mark.parametrize(
    "sources", [{}, {"word": b"sesame", "env": "HOME"}, {"word": b"", "env": "HOME"}]
)
def test_the_word_comes_from_one_place(sources):
    with pytest.raises(ConfigurationError) as caught:
        Passphrase(**sources)

    assert str(caught.value) == "passphrase needs one of a word, file=PATH or env=NAME"


@pytest.mark.parametrize("word", [b"", b"open\nsesame", b"x" * (MAX_WORD + 1)])
def test_a_word_that_cannot_be_said_is_refused_without_showing_it(word):
    with pytest.raises(ConfigurationError) as caught:
        Passphrase(word)

    assert str(caught.value) == (
        f"passphrase needs a word of 1 to 1024 bytes without a line feed, got {len(word)} bytes"
    )


def test_a_passphrase_never_shows_its_word():
    passphrase = Passphrase(b"sesame")
    exchange = Exchange(passphrase.connect)

    assert "sesame" not in repr(passphrase) + repr(exchange) + str(exchange.waiting_on)
