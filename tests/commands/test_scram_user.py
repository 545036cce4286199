import getpass
import io
import stat
import sys
import warnings
from types import SimpleNamespace

import pytest

from sockproto import Accept
from sockproto.commands import scram_user
from sockproto.handshakes._scram_users import parse_users
from sockproto.handshakes.scram import Scram
from sockproto.testing import rehearse


@pytest.fixture
def file(tmp_path):
    return tmp_path / "users"


@pytest.fixture
def word(tmp_path):
    path = tmp_path / "word"
    path.write_text("sesame\n")
    return path


@pytest.fixture
def run(file, sockproto_command):
    """Run the command; gives its exit status, and what it says to the person."""

    def run(*arguments):
        status, out, err = sockproto_command(
            "scram-user", *map(str, arguments), "--file", str(file)
        )
        assert out == ""
        return status, err

    return run


@pytest.fixture
def typed(monkeypatch):
    """Type these words where a password is asked for."""

    def typed(*words):
        answers = list(words)
        monkeypatch.setattr(scram_user, "getpass", lambda prompt: answers.pop(0))

    return typed


def knows(file, user, password):
    class Both:
        serve = Scram(file).serve
        connect = Scram(user=user, password=password).connect

    return isinstance(rehearse(Both()).server, Accept)


def test_a_password_is_asked_for_twice(run, file, typed):
    typed("sesame", "sesame")

    assert run("ann") == (0, "")

    assert knows(file, "ann", b"sesame")
    assert not knows(file, "ann", b"simsim")
    assert not knows(file, "bob", b"sesame")


def test_the_file_is_for_its_owner_alone(run, file, word):
    run("ann", "--password-file", word)

    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert "sesame" not in file.read_text()


@pytest.mark.parametrize("ending", ["", "\n", "\r\n"])
def test_a_password_may_come_from_standard_input(run, file, monkeypatch, ending):
    data = SimpleNamespace(buffer=io.BytesIO(f"sesame{ending}".encode()))
    monkeypatch.setattr(sys, "stdin", data)

    assert run("ann", "--password-file", "-") == (0, "")

    assert knows(file, "ann", b"sesame")


def test_another_password_takes_the_place_of_the_first(run, file, word):
    run("ann", "--password-file", word)
    run("bob", "--password-file", word)
    strangers = file.read_text().splitlines()[0]
    word.write_text("simsim")

    run("ann", "--password-file", word)

    assert [line.split()[0] for line in file.read_text().splitlines()] == ["#", "ann", "bob"]
    assert file.read_text().splitlines()[0] == strangers
    assert knows(file, "ann", b"simsim")
    assert not knows(file, "ann", b"sesame")
    assert knows(file, "bob", b"sesame")


def test_a_user_can_be_taken_out(run, file, word):
    run("ann", "--password-file", word)

    assert run("ann", "--remove") == (0, "")

    assert not knows(file, "ann", b"sesame")


def test_a_name_is_written_as_the_server_will_see_it(run, file, word):
    # U+00AD is mapped to nothing, U+2168 to IX (RFC 4013 section 2).
    run("Louis\u00ad\u2168", "--password-file", word)

    assert "LouisIX" in parse_users(file.read_bytes())


def test_the_iterations_can_be_chosen(run, file, word):
    run("ann", "--password-file", word, "--iterations", 5000)
    run("bob", "--password-file", word)

    users = parse_users(file.read_bytes())
    assert users.look_up("ann").shape == (5000, 16)
    assert users.look_up("bob").shape == (15000, 16)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["ann", "--iterations", "4095"],
            "--iterations takes 4096 to 500000, got 4095",
        ),
        (
            ["a b"],
            "'a b' is no name for a user; write 1 to 64 bytes without blanks, and no # at the "
            "beginning",
        ),
        (
            [""],
            "'' is no name for a user; write 1 to 64 bytes without blanks, and no # at the "
            "beginning",
        ),
        (
            ["ann", "--remove", "--password-file", "x"],
            "--remove needs no password; leave --password-file out",
        ),
        (
            ["ann", "--password-file", "/nowhere"],
            "the password cannot be read from /nowhere: no such file or directory",
        ),
    ],
)
def test_a_mistake_is_one_sentence_and_changes_nothing(run, file, arguments, said):
    assert run(*arguments) == (2, f"sockproto: {said}\n")
    assert not file.exists()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\n", "the password is empty; choose another"),
        (b"\xff", "the password is no text in UTF-8"),
        (
            b"a\x00b",
            "the password holds what SASLprep forbids (RFC 4013), as are control characters; "
            "choose another",
        ),
    ],
)
def test_a_password_that_cannot_be_is_refused(run, file, word, content, said):
    word.write_bytes(content)

    assert run("ann", "--password-file", word) == (2, f"sockproto: {said}\n")
    assert not file.exists()


def test_two_passwords_that_differ_change_nothing(run, file, typed):
    typed("sesame", "simsim")

    assert run("ann") == (2, "sockproto: the two passwords differ; nothing was changed\n")
    assert not file.exists()


@pytest.mark.parametrize("trouble", ["echo", "end"])
def test_a_password_is_not_typed_where_it_can_be_seen(run, file, monkeypatch, trouble):
    def ask(prompt):
        if trouble == "end":
            raise EOFError
        warnings.warn("it would be shown", getpass.GetPassWarning, stacklevel=1)

    monkeypatch.setattr(scram_user, "getpass", ask)

    assert run("ann") == (
        2,
        "sockproto: there is no password; type one at a terminal, or name a file: "
        "--password-file FILE\n",
    )


def test_a_user_who_is_not_there_cannot_be_taken_out(run, file, word):
    run("ann", "--password-file", word)

    assert run("bob", "--remove") == (2, f"sockproto: {file} has no user 'bob'\n")


def test_a_file_that_is_something_else_stays_what_it_is(run, file, word):
    file.write_text("my diary\nby myself and nobody else\n")

    status, said = run("ann", "--password-file", word)

    assert status == 2
    assert said == (
        f"sockproto: {file}: line 1 has no SCRAM-SHA-256$...; write it with: "
        "sockproto scram-user NAME --file FILE\n"
    )
    assert file.read_text().startswith("my diary")
