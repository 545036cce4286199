"""A package that is begun with the command: what is in it, and what is refused."""

from __future__ import annotations

import subprocess
import sys

import pytest

FILES = {
    "README.md",
    "open_door.py",
    "pyproject.toml",
    "setup.cfg",
    "tests/test_open_door.py",
}


def files_in(folder):
    return {str(each.relative_to(folder)) for each in folder.rglob("*") if each.is_file()}


def test_a_package_is_written_and_what_comes_next_is_told(sockproto_command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    status, out, err = sockproto_command("new-handshake", "open-door")

    assert (status, err) == (0, "")
    assert out.splitlines() == [
        "wrote sockproto-open-door: the handshake is in open_door.py",
        "next: cd sockproto-open-door && pip install -e '.[test]' && python -m pytest",
    ]
    folder = tmp_path / "sockproto-open-door"
    assert files_in(folder) == FILES
    assert "open-door = open_door:OpenDoor" in (folder / "setup.cfg").read_text()
    assert not [each for each in FILES if "@" in (folder / each).read_text().replace("@pyt", "")]


@pytest.mark.slow
def test_its_tests_pass_at_once(sockproto_command, tmp_path):
    sockproto_command("new-handshake", "open-door", "--directory", str(tmp_path / "there"))

    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=tmp_path / "there",
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert "7 passed" in done.stdout, done.stdout


def test_it_is_formatted_as_ours_is(sockproto_command, tmp_path):
    sockproto_command("new-handshake", "knock", "--directory", str(tmp_path / "there"))

    for path in (tmp_path / "there").rglob("*.py"):
        compile(path.read_text(), path, "exec")
        assert max(map(len, path.read_text().splitlines())) <= 100


def test_an_empty_folder_is_as_good_as_none(sockproto_command, tmp_path):
    assert sockproto_command("new-handshake", "knock", "--directory", str(tmp_path))[0] == 0
    assert "knock.py" in files_in(tmp_path)


def test_nothing_is_written_over(sockproto_command, tmp_path):
    (tmp_path / "mine").touch()

    status, out, err = sockproto_command("new-handshake", "knock", "--directory", str(tmp_path))

    assert (status, out) == (2, "")
    assert err == f"sockproto: {tmp_path} is there already; name another --directory\n"
    assert files_in(tmp_path) == {"mine"}


def test_a_folder_that_cannot_be_written_is_told(sockproto_command, tmp_path):
    (tmp_path / "file").touch()
    where = tmp_path / "file" / "there"

    status, _, err = sockproto_command("new-handshake", "knock", "--directory", str(where))

    assert status == 2
    assert err == f"sockproto: cannot write to {where}: Not a directory\n"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Knock", "a handshake cannot be called 'Knock': take at most 40 small letters, digits "),
        ("open_door", "a handshake cannot be called 'open_door': take at most 40 small letters"),
        ("9lives", "a handshake cannot be called '9lives': take at most 40 small letters"),
        ("a--b", "a handshake cannot be called 'a--b': take at most 40 small letters"),
        ("x" * 41, f"a handshake cannot be called '{'x' * 40}': take at most 40 small letters"),
        ("class", "a handshake cannot be called 'class': Python has a module or a word of that"),
        ("twisted", "a handshake cannot be called 'twisted': Python has a module or a word of "),
        ("tests", "a handshake cannot be called 'tests': Python has a module or a word of "),
        ("socket", "a handshake cannot be called 'socket': Python has a module or a word of "),
        ("sockproto", "a handshake cannot be called 'sockproto': Python has a module or a "),
        ("welcome", "there is a handshake 'welcome' already; take another name"),
    ],
)
def test_a_name_that_cannot_be_is_told(sockproto_command, tmp_path, monkeypatch, name, said):
    monkeypatch.chdir(tmp_path)

    status, out, err = sockproto_command("new-handshake", name)

    assert (status, out) == (2, "")
    assert err.startswith(f"sockproto: {said}")
    assert err.count("\n") == 1
    assert files_in(tmp_path) == set()
