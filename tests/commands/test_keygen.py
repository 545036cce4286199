import re
import stat

import pytest

from sockproto.handshakes.challenge import Challenge
from sockproto.testing import rehearse

BASE64 = r"[A-Za-z0-9+/]{43}="


@pytest.fixture
def file(tmp_path):
    return tmp_path / "door.keys"


@pytest.fixture
def keygen(sockproto_command):
    def run(*arguments):
        return sockproto_command("keygen", *map(str, arguments))

    return run


def ids(file):
    lines = file.read_text().splitlines()
    return [line.split()[0] for line in lines if line and not line.startswith("#")]


def test_a_key_is_printed_as_a_line(keygen):
    status, out, err = keygen("--id", "2026-11")

    assert (status, err) == (0, "")
    assert re.fullmatch(rf"2026-11 {BASE64}\n", out)
    assert rehearse(Challenge(out.encode())).server.identity == "2026-11"


def test_without_an_id_it_is_the_day(keygen):
    _, out, _ = keygen()

    assert re.fullmatch(rf"20\d\d-\d\d-\d\d {BASE64}\n", out)


def test_no_two_keys_are_the_same(keygen):
    assert len({keygen("--id", "x")[1] for _ in range(8)}) == 8


def test_a_new_file_is_for_its_owner_alone_and_holds_the_key(keygen, file):
    status, out, err = keygen("--id", "a", "--file", file)

    said = f"sockproto: {file} begins with key a; servers need it before clients use it\n"
    assert (status, out, err) == (0, "", said)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert rehearse(Challenge(file=file)).server.identity == "a"


def test_the_newest_key_is_the_first(keygen, file):
    for each in ("a", "b", "c"):
        keygen("--id", each, "--file", file)

    assert ids(file) == ["c", "b", "a"]
    assert file.read_text().count("#") == 1
    assert rehearse(Challenge(file=file)).server.identity == "c"


def test_what_a_person_has_written_into_the_file_stays(keygen, file):
    _, old, _ = keygen("--id", "old")
    file.write_text(f"# ours\n\n  # and theirs\n{old}# the end")

    keygen("--id", "new", "--file", file)

    pattern = rf"# ours\n\n  # and theirs\nnew {BASE64}\n{re.escape(old)}# the end"
    assert re.fullmatch(pattern, file.read_text())


def test_an_id_has_one_key(keygen, file):
    keygen("--id", "a.b", "--file", file)
    keygen("--id", "a", "--file", file)

    assert keygen("--id", "a.b", "--file", file) == (
        2,
        "",
        f"sockproto: {file} has a key a.b; give this one another name with --id\n",
    )
    assert ids(file) == ["a", "a.b"]


@pytest.mark.parametrize("id", ["", "two words", "#a", "x" * 65, "a\nb"])
def test_what_is_no_id_is_refused(keygen, file, id):
    status, out, err = keygen("--id", id, "--file", file)

    assert (status, out) == (2, "")
    assert "is no id for a key; write 1 to 64 bytes without blanks, and no # at the " in err
    assert not file.exists()


def test_a_file_that_makes_no_sense_is_left_alone(keygen, file):
    file.write_text("sesame\n")

    assert keygen("--id", "a", "--file", file) == (
        2,
        "",
        f"sockproto: {file}: line 1 is not a name and a value; "
        "write it with: sockproto keygen --file FILE\n",
    )
    assert file.read_text() == "sesame\n"


def test_a_key_that_nobody_could_read_is_told_of(keygen, monkeypatch):
    def full(*arguments, **options):
        if "file" not in options:
            raise OSError(28, "No space left on device")
        said.append(arguments[0])

    said = []
    monkeypatch.setattr("builtins.print", full)

    status, out, _ = keygen()

    assert (status, out) == (2, "")
    assert said == ["sockproto: the key cannot be printed: no space left on device"]
