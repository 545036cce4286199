import json
import logging
import os
from hashlib import sha256
from pathlib import Path

import pytest
from docs.pages import DOCS, rows_of

from sockproto import (
    Accept,
    ConfigurationError,
    Exchange,
    LimitExceeded,
    PeerDisconnected,
    Reject,
)
from sockproto.handshakes.token import MAX_TOKEN, Token, entry_for, parse_tokens
from sockproto.plugins import handshake_blueprint
from sockproto.testing import Rehearsal, Story, converse, play, rehearse

VECTORS = json.loads((Path(__file__).parent / "vectors/token.json").read_text())

ANN = b"vmmRG8Er1KvLcd7nI4xiqSgBB4ZzqXfbOa01xGrO2eU"
BOB = b"7XYcZTvE3tqhlRYDTAPl9Gr1PUhxfXo3hHVm2d2vf5o"

STRANGER = Reject(b"NO\n", reason="unknown token")


@pytest.fixture
def file(tmp_path):
    """A server's file, which knows ann."""
    path = tmp_path / "door.tokens"
    path.write_text(f"{entry_for('ann', ANN)}\n")
    return path


def replace(file, text):
    fresh = file.with_suffix(".new")
    fresh.write_text(text)
    fresh.replace(file)


# The bytes


@pytest.mark.parametrize("vector", VECTORS["conversations"], ids=lambda each: each["case"])
def test_the_bytes_are_those_of_the_vectors(vector, tmp_path):
    file = tmp_path / "tokens"
    file.write_text("\n".join(VECTORS["file"]))
    server = Token(file=file, size=vector["size"])
    said, answered = bytes.fromhex(vector["client"]), bytes.fromhex(vector["server"])

    story = play(server.serve, [said])

    assert story.sent == answered
    assert type(story.outcome) is {"accepted": Accept, "rejected": Reject}[vector["verdict"]]
    assert getattr(story.outcome, "identity", None) == vector["identity"]
    assert converse(server.serve, said) == story.outcome


def test_the_page_has_the_bytes_of_the_vectors():
    assert rows_of(DOCS / "reference/handshakes/token.rst") == [
        [each[key] for key in ("case", "client", "server", "verdict")]
        for each in VECTORS["conversations"]
    ]


# The server's side


def test_whoever_has_a_token_is_known_by_its_name(file):
    assert converse(Token(file=file).serve, ANN + b"\n") == Accept(b"OK\n", identity="ann")


@pytest.mark.parametrize(
    "token", [BOB, ANN[:-1], ANN + b"=", ANN.upper(), ANN + b"\r", b"", b"\xff"]
)
def test_all_others_get_the_same_answer(file, token):
    assert converse(Token(file=file).serve, token + b"\n") == STRANGER


def test_the_digest_is_no_token(file):
    digest = sha256(ANN)

    for each in (digest.digest(), digest.hexdigest().encode()):
        assert play(Token(file=file).serve, [each + b"\n"]).outcome == STRANGER


def test_what_follows_a_token_is_left_for_the_session(file):
    story = play(Token(file=file).serve, [ANN + b"\nhello"])

    assert story == Story(Accept(b"OK\n", identity="ann"), sent=b"OK\n", unread=b"hello")


def test_a_token_of_a_fixed_size_has_no_line_feed(tmp_path):
    file, token = tmp_path / "tokens", b"\n\0\xff\r"
    file.write_text(entry_for("sensor", token))

    story = play(Token(file=file, size=4).serve, [token + b"hello"])

    assert story == Story(Accept(b"OK\n", identity="sensor"), sent=b"OK\n", unread=b"hello")


def test_a_client_that_leaves_in_the_middle_of_its_token_is_a_disconnect(file):
    with pytest.raises(PeerDisconnected) as caught:
        converse(Token(file=file).serve, ANN)

    assert str(caught.value) == "peer disconnected after 43 bytes, expected b'\\n'"


def test_a_token_that_is_too_long_is_over_the_limit(file):
    with pytest.raises(LimitExceeded) as caught:
        converse(Token(file=file).serve, b"x" * (MAX_TOKEN + 1))

    assert str(caught.value) == "peer sent more than 1024 bytes, the limit set by max_bytes"


def test_the_longest_token_is_a_token(tmp_path):
    file, token = tmp_path / "tokens", b"x" * MAX_TOKEN
    file.write_text(entry_for("ann", token))

    assert converse(Token(file=file).serve, token + b"\n") == Accept(b"OK\n", identity="ann")


# The file changes


def test_a_change_of_the_file_counts_from_the_next_client_on(file):
    server = Token(file=file)

    replace(file, entry_for("bob", BOB))

    assert play(server.serve, [ANN + b"\n"]).outcome == STRANGER
    assert play(server.serve, [BOB + b"\n"]).outcome == Accept(b"OK\n", identity="bob")


def test_who_has_begun_before_a_change_is_judged_after_it(file):
    exchange = Exchange(Token(file=file).serve)
    exchange.receive_data(ANN)

    replace(file, "# nobody\n")
    exchange.receive_data(b"\n")

    assert exchange.outcome == STRANGER


def test_a_file_that_is_broken_changes_nothing_and_the_log_says_so_once(file, caplog):
    server = Token(file=file)

    replace(file, "ann is welcome\n")
    outcomes = [play(server.serve, [each + b"\n"]).outcome for each in (ANN, ANN, BOB)]

    trouble = (
        f"{file}: line 1 is not a name and a value; "
        "write it with: sockproto token add NAME --file FILE; what it said before still holds"
    )
    assert [each.message for each in caplog.records] == [trouble]
    assert caplog.records[0].levelno == logging.ERROR
    known = Accept(b"OK\n", identity="ann")
    assert outcomes == [known, known, Reject(b"NO\n", reason=f"unknown token ({trouble})")]

    replace(file, f"{entry_for('bob', BOB)}\n")

    assert play(server.serve, [ANN + b"\n"]).outcome == STRANGER
    assert len(caplog.records) == 1


def test_another_kind_of_trouble_is_told_as_well(file, caplog):
    server = Token(file=file)

    for text in ("broken\n", "ann sha256:beef\n"):
        replace(file, text)
        play(server.serve, [ANN + b"\n"])

    assert [each.message.split(": ")[1].split(";")[0] for each in caplog.records] == [
        "line 1 is not a name and a value",
        "line 1 has no sha256",
    ]


# What stands in the file


def test_comments_blank_lines_and_line_endings_do_not_matter():
    text = f"# these may come in\r\n\r\n  ann \t sha256:{sha256(ANN).hexdigest().upper()}\r\n"

    assert parse_tokens(text.encode()) == {sha256(ANN).digest(): "ann"}


def test_a_file_may_let_in_nobody():
    assert parse_tokens(b"") == parse_tokens(b"# nobody yet\n") == {}


def test_a_name_may_have_a_token_more_while_one_replaces_the_other():
    text = f"{entry_for('ann', ANN)}\n{entry_for('ann', BOB)}"

    assert set(parse_tokens(text.encode()).values()) == {"ann"}
    assert len(parse_tokens(text.encode())) == 2


WRITE = "write it with: sockproto token add NAME --file FILE"


@pytest.mark.parametrize(
    ("text", "trouble"),
    [
        (ANN, f"line 1 is not a name and a value; {WRITE}"),
        (b"#\n\nann " + ANN, f"line 3 has no sha256: and 64 hexadecimal digits; {WRITE}"),
        (b"ann sha256:" + b"0" * 63, f"line 1 has no sha256: and 64 hexadecimal digits; {WRITE}"),
        (b"ann sha256:" + b"0" * 65, f"line 1 has no sha256: and 64 hexadecimal digits; {WRITE}"),
        (b"ann sha256:" + b"0" * 64 + b" x", f"line 1 is not a name and a value; {WRITE}"),
        (b"\x1bann sha256:" + b"0" * 64, f"line 1 is not a name and a value; {WRITE}"),
        (b"a" * 65 + b" sha256:" + b"0" * 64, f"line 1 is not a name and a value; {WRITE}"),
        (b"\xff", f"that is no text in UTF-8; {WRITE}"),
        (
            b"ann sha256:" + b"0" * 64 + b"\nbob sha256:" + b"0" * 64,
            "line 2 has the token of a line above; keep one of the two",
        ),
    ],
)
def test_what_makes_no_sense_is_told_without_what_stands_there(text, trouble):
    with pytest.raises(ValueError) as caught:
        parse_tokens(text)

    assert str(caught.value) == trouble
    assert caught.value.__cause__ is None


def test_a_server_starts_only_with_a_file_that_makes_sense(file):
    file.write_text("open sesame\n")

    with pytest.raises(ConfigurationError) as caught:
        Token(file=file)

    assert str(caught.value) == (
        f"{file}: line 1 has no sha256: and 64 hexadecimal digits; {WRITE}"
    )


# The client's side


def test_the_client_says_its_token_first():
    assert Exchange(Token(ANN).connect).data_to_send() == ANN + b"\n"
    assert Exchange(Token(ANN, size=43).connect).data_to_send() == ANN


def test_the_client_is_accepted_and_leaves_what_follows_for_the_session():
    story = play(Token(ANN).connect, [b"OK\nhello"])

    assert story == Story(Accept(), sent=ANN + b"\n", unread=b"hello")


def test_the_client_hears_what_it_can_do():
    assert converse(Token(ANN).connect, b"NO\n") == Reject(
        reason="the server does not know this token, or it was revoked; "
        "have one made with: sockproto token add"
    )


@pytest.mark.parametrize("answer", [b"SSH-2.0-x\r\n", b"OKAY\n", b"NOPE\n", b"\n"])
def test_the_client_recognises_a_stranger(answer):
    assert converse(Token(ANN).connect, answer) == Reject(reason="that is not a token server")


@pytest.mark.parametrize("answer", [b"", b"O", b"OK", b"N", b"NO"])
def test_a_server_that_leaves_without_an_answer_is_a_disconnect(answer):
    with pytest.raises(PeerDisconnected):
        converse(Token(ANN).connect, answer)


# Both


def test_both_sides_agree(file):
    assert rehearse(Token(ANN, file=file)) == Rehearsal(
        server=Accept(b"OK\n", identity="ann"),
        client=Accept(),
        server_sent=b"OK\n",
        client_sent=ANN + b"\n",
    )


def test_both_sides_agree_on_a_stranger(file):
    met = rehearse(Token(BOB, file=file))

    assert met.server == STRANGER
    assert isinstance(met.client, Reject)


# Where the token comes from


@pytest.mark.parametrize("ending", [b"", b"\n", b"\r\n"])
def test_a_token_may_come_from_a_file_with_or_without_a_line_ending(tmp_path, ending):
    file = tmp_path / "token"
    file.write_bytes(ANN + ending)

    assert Exchange(Token(token_file=file).connect).data_to_send() == ANN + b"\n"
    assert Exchange(Token(token_file=file, size=43).connect).data_to_send() == ANN


def test_a_token_of_a_fixed_size_may_end_like_a_line(tmp_path):
    file = tmp_path / "token"
    file.write_bytes(b"abc\n")

    assert Exchange(Token(token_file=file, size=4).connect).data_to_send() == b"abc\n"


def test_a_token_may_come_from_the_environment(monkeypatch):
    monkeypatch.setitem(os.environb, b"SOCKPROTO_TEST_TOKEN", ANN)

    token = Token(env="SOCKPROTO_TEST_TOKEN")

    assert Exchange(token.connect).data_to_send() == ANN + b"\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"env": "SOCKPROTO_NO_TOKEN"}, "token finds no variable SOCKPROTO_NO_TOKEN in the "),
        ({"token_file": Path("/nope")}, "token cannot read /nope: no such file or directory"),
        ({"file": Path("/nope")}, "/nope cannot be read: no such file or directory"),
        ({}, "token needs file=PATH to serve, or to connect one of a token, token_file=PATH or "),
        ({"token": ANN, "env": "HOME"}, "token needs file=PATH to serve, or to connect one of "),
        ({"token": b"", "env": "HOME"}, "token needs file=PATH to serve, or to connect one of "),
        ({"token": b""}, "token needs one of 1 to 1024 bytes without a line feed, got 0 bytes"),
        ({"token": b"x\ny"}, "token needs one of 1 to 1024 bytes without a line feed, got 3 by"),
        ({"token": b"x" * 1025}, "token needs one of 1 to 1024 bytes without a line feed, got "),
        ({"token": ANN, "size": 32}, "token needs one of 32 bytes, as size= says, got 43 bytes"),
        ({"token": b"", "size": 0}, "token takes a size of 1 to 1024 bytes, got 0"),
        ({"token": b"", "size": 1025}, "token takes a size of 1 to 1024 bytes, got 1025"),
    ],
)
def test_a_mistake_is_one_line(arguments, said):
    with pytest.raises(ConfigurationError) as caught:
        Token(**arguments)

    assert str(caught.value).startswith(said)
    assert "\n" not in str(caught.value)


def test_who_has_no_file_has_no_server_and_who_has_no_token_no_client(file):
    assert Token(ANN).serve is None
    assert Token(file=file).connect is None


# Nobody sees it


def test_a_token_is_never_shown(file):
    token = Token(ANN, file=file)
    exchange = Exchange(token.connect)
    met = rehearse(token)

    shown = repr(token) + repr(exchange) + str(exchange.waiting_on) + repr(vars(token)["_names"])
    assert ANN.decode() not in shown + repr(met.server) + repr(met.client)


def test_a_token_on_the_command_line_is_one_that_others_see():
    assert handshake_blueprint(f"token:{ANN.decode()}").exposed == ("token",)
    assert handshake_blueprint("token:token_file=ann.token").exposed == ()
