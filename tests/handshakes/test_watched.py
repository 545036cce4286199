import errno
import os
from pathlib import Path

import pytest

from sockproto import ConfigurationError
from sockproto.handshakes._watched import WatchedFile


def parse(data: bytes) -> list[str]:
    words = data.decode("ascii", "strict").split()
    if not words:
        raise ValueError("there is no word in it; write one")
    return words


@pytest.fixture
def file(tmp_path) -> Path:
    path = tmp_path / "words"
    path.write_text("one")
    return path


def replace(path: Path, text: str) -> None:
    fresh = path.with_suffix(".new")
    fresh.write_text(text)
    fresh.replace(path)


def test_a_file_says_what_is_in_it(file):
    assert WatchedFile(file, parse).current() == ["one"]


def test_a_file_that_has_not_changed_is_not_read_again(file):
    times = []
    watched = WatchedFile(file, lambda data: times.append(data))

    watched.current()
    watched.current()

    assert times == [b"one"]


@pytest.mark.parametrize("change", [replace, Path.write_text], ids=["replaced", "written"])
def test_a_change_is_noticed(file, change):
    watched = WatchedFile(file, parse)

    change(file, "one two")

    assert watched.current() == ["one", "two"]
    assert watched.trouble is None


def test_another_time_alone_is_a_change(file):
    watched = WatchedFile(file, parse)
    file.write_text("two")
    os.utime(file, ns=(1, 1))

    assert watched.current() == ["two"]


def test_a_file_that_is_gone_still_holds_and_its_return_is_noticed(file):
    watched = WatchedFile(file, parse)

    file.unlink()

    assert watched.current() == ["one"]
    assert watched.trouble == (
        f"{file} cannot be read: no such file or directory; what it said before still holds"
    )

    file.write_text("two")

    assert watched.current() == ["two"]
    assert watched.trouble is None


def test_a_file_that_makes_no_sense_any_more_changes_nothing(file):
    watched = WatchedFile(file, parse)

    replace(file, "")

    assert watched.current() == ["one"]
    assert watched.trouble == (
        f"{file}: there is no word in it; write one; what it said before still holds"
    )


def test_a_file_that_could_not_be_read_is_tried_again(file, monkeypatch):
    watched = WatchedFile(file, parse)
    replace(file, "two")

    def none_left(path):
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "read_bytes", none_left)
        assert watched.current() == ["one"]
        assert "too many open files" in watched.trouble

    assert watched.current() == ["two"]
    assert watched.trouble is None


def test_the_working_directory_may_change(file, monkeypatch):
    monkeypatch.chdir(file.parent)
    watched = WatchedFile(Path("words"), parse)
    monkeypatch.chdir("/")
    replace(file, "two")

    assert watched.current() == ["two"]
    assert watched.path == file


def test_a_file_has_to_be_there_to_begin_with(tmp_path):
    with pytest.raises(ConfigurationError) as refused:
        WatchedFile(tmp_path / "words", parse)

    assert str(refused.value) == f"{tmp_path}/words cannot be read: no such file or directory"


def test_a_file_has_to_make_sense_to_begin_with(file):
    file.write_text("")

    with pytest.raises(ConfigurationError) as refused:
        WatchedFile(file, parse)

    assert str(refused.value) == f"{file}: there is no word in it; write one"


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "words")

    with pytest.raises(ConfigurationError) as refused:
        WatchedFile(tmp_path / "words", parse)

    assert str(refused.value) == f"{tmp_path}/words is no regular file"
