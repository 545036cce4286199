import re
import stat

import pytest

from sockproto import Accept
from sockproto.handshakes.token import Token
from sockproto.testing import rehearse


@pytest.fixture
def file(tmp_path):
    return tmp_path / "door.tokens"


@pytest.fixture
def token(sockproto_command, file):
    """Run ``sockproto token`` on the file."""

    def run(action, *arguments):
        return sockproto_command("token", action, *arguments, "--file", str(file))

    return run


def test_a_token_is_printed_and_only_its_digest_is_kept(token, file):
    status, out, err = token("add", "ann")

    assert (status, err) == (0, "")
    assert re.fullmatch(r"[\w-]{43}\n", out)
    assert out.strip() not in file.read_text()
    assert re.fullmatch(r"#.*\nann sha256:[0-9a-f]{64}\n", file.read_text())
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_token_opens_the_door_until_it_is_revoked(token, file):
    _, ann, _ = token("add", "ann")
    _, bob, _ = token("add", "bob")
    server = Token(file=file)

    def outcome(printed):
        both = Token(printed.strip().encode(), file=file)
        both.serve = server.serve
        return rehearse(both).server

    assert outcome(ann) == Accept(b"OK\n", identity="ann")
    assert token("revoke", "ann") == (0, "", "")
    assert outcome(ann).reason == "unknown token"
    assert outcome(bob) == Accept(b"OK\n", identity="bob")


def test_no_two_tokens_are_the_same(token):
    assert len({token("add", f"name-{number}")[1] for number in range(8)}) == 8


def test_the_list_names_those_who_have_one_in_the_order_of_the_file(token):
    for name in ("bob", "ann", "j\u00fcrgen"):
        token("add", name)

    assert token("list") == (0, "bob\nann\nj\u00fcrgen\n", "")


def test_what_a_person_has_written_into_the_file_stays(token, file):
    digests = [letter * 64 for letter in "abc"]
    file.write_text(
        f"# friends\n\n ann  sha256:{digests[0]}\nann\tsha256:{digests[1]}\n"
        f"# ann is back\n#ann sha256:x\nanne sha256:{digests[2]}"
    )

    token("add", "bob")
    token("revoke", "ann")

    kept = f"# friends\n\n# ann is back\n#ann sha256:x\nanne sha256:{digests[2]}\nbob sha256:"
    assert file.read_text().startswith(kept)


def test_a_name_has_one_token(token, file):
    token("add", "ann")
    before = file.read_text()

    assert token("add", "ann") == (
        2,
        "",
        f"sockproto: {file} has a token for ann; revoke it first, or choose another name\n",
    )
    assert file.read_text() == before


@pytest.mark.parametrize("name", ["", "two words", "#ann", "x" * 65, "a\nb", "\x1b[2J"])
def test_what_is_no_name_is_refused(token, file, name):
    status, out, err = token("add", name)

    assert (status, out) == (2, "")
    assert "is no name for a token; write 1 to 64 bytes without blanks, and no # at " in err
    assert err.isprintable() or err[:-1].isprintable()
    assert not file.exists()


def test_to_revoke_what_nobody_has_is_a_mistake(token, file):
    token("add", "ann")

    assert token("revoke", "bob") == (
        2,
        "",
        f"sockproto: {file} has no token for 'bob'; see sockproto token list --file {file}\n",
    )


@pytest.mark.parametrize("action", [["add", "bob"], ["list"], ["revoke", "bob"]])
def test_a_file_that_makes_no_sense_is_left_alone(token, file, action):
    file.write_text("sesame\n")

    assert token(*action) == (
        2,
        "",
        f"sockproto: {file}: line 1 is not a name and a value; "
        "write it with: sockproto token add NAME --file FILE\n",
    )
    assert file.read_text() == "sesame\n"


@pytest.mark.parametrize("action", [["list"], ["revoke", "bob"]])
def test_a_file_has_to_be_there(token, file, action):
    status, out, err = token(*action)

    assert (status, out) == (2, "")
    assert err.startswith(f"sockproto: {file} cannot be ")
    assert err.endswith("no such file or directory\n")


def test_a_token_that_nobody_could_read_is_told_of(token, file, monkeypatch):
    def full(*arguments, **options):
        if "file" not in options:
            raise OSError(28, "No space left on device")
        said.append(arguments[0])

    said = []
    monkeypatch.setattr("builtins.print", full)

    status, out, _ = token("add", "ann")

    assert (status, out) == (1, "")
    assert said == [
        "sockproto: the token of ann could not be printed (no space left on device); "
        "revoke it, and make another"
    ]


def test_the_help_says_what_it_is_about(sockproto_command):
    status, out, _ = sockproto_command("token", "--help")

    assert status == 0
    assert "--handshake token:file=FILE" in out
