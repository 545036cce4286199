import fcntl
import os
import stat
import threading

import pytest

from sockproto.commands import rewriting
from sockproto.commands.rewriting import rewrite
from sockproto.core.errors import ConfigurationError


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "entries"
    path.write_text("one\n")
    return path


def with_two(text):
    return f"{text}two\n"


def refused(file, change=with_two, **options):
    with pytest.raises(ConfigurationError) as caught:
        rewrite(file, change, **options)
    return str(caught.value)


def mode_of(file):
    return stat.S_IMODE(file.stat().st_mode)


def test_a_file_is_replaced_by_what_is_made_of_it(file):
    rewrite(file, with_two)

    assert file.read_text() == "one\ntwo\n"
    assert os.listdir(file.parent) == [file.name]


def test_whoever_reads_meanwhile_sees_the_old_file_whole(file):
    with open(file) as reading:
        rewrite(file, with_two)

        assert reading.read() == "one\n"


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o644])
def test_the_mode_stays_as_it_is(file, mode):
    file.chmod(mode)

    rewrite(file, with_two)

    assert mode_of(file) == mode


def test_the_owner_stays_as_it_is(file, monkeypatch):
    told = []
    monkeypatch.setattr(os, "geteuid", lambda: -1)
    monkeypatch.setattr(os, "fchown", lambda _, *owner: told.append(owner))

    rewrite(file, with_two)

    assert told == [(file.stat().st_uid, file.stat().st_gid)]


def test_a_new_file_is_for_its_owner_alone(tmp_path):
    file = tmp_path / "new"
    before = os.umask(0)
    try:
        rewrite(file, with_two, create=True)
    finally:
        os.umask(before)

    assert (file.read_text(), mode_of(file)) == ("two\n", 0o600)


def test_a_link_stays_one(file):
    link = file.with_name("link")
    link.symlink_to(file.name)

    rewrite(link, with_two)

    assert link.is_symlink()
    assert file.read_text() == "one\ntwo\n"


def test_who_changes_nothing_after_all_leaves_everything_as_it_is(file):
    before = file.stat()

    def change(text):
        raise ConfigurationError("not like this")

    assert refused(file, change) == "not like this"
    assert file.stat() == before
    assert os.listdir(file.parent) == [file.name]


def test_what_cannot_be_written_leaves_nothing_behind(file, monkeypatch):
    def no_room(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_room)

    assert refused(file) == f"{file} cannot be changed: no space left on device"
    assert file.read_text() == "one\n"
    assert os.listdir(file.parent) == [file.name]


def test_what_cannot_be_read_is_told_in_one_line(tmp_path):
    pipe, binary = tmp_path / "pipe", tmp_path / "binary"
    os.mkfifo(pipe)
    binary.write_bytes(b"\xff")

    assert refused(tmp_path / "none") == (
        f"{tmp_path}/none cannot be changed: no such file or directory"
    )
    assert refused(tmp_path / "no/where", create=True) == (
        f"{tmp_path}/no/where cannot be changed: no such file or directory"
    )
    assert refused(pipe) == f"{pipe} cannot be changed: that is no regular file"
    assert refused(binary) == f"{binary} is no text in UTF-8; name another file"


def test_two_who_change_a_file_at_once_do_so_one_after_the_other(file):
    first_has_read, waiting = threading.Event(), threading.Event()
    real = fcntl.flock

    def flock(descriptor, operation):
        if first_has_read.is_set():
            waiting.set()
        real(descriptor, operation)

    def first(text):
        first_has_read.set()
        assert waiting.wait(60)
        return f"{text}first\n"

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rewriting.fcntl, "flock", flock)
        one = threading.Thread(target=rewrite, args=(file, first))
        one.start()
        assert first_has_read.wait(60)
        rewrite(file, with_two)
        one.join()

    assert file.read_text() == "one\nfirst\ntwo\n"
