"""
Change a file that a server may read at any moment, and that somebody else may change as well.

What is changed is a copy, which then takes the place of the file in one move (rename(2)): whoever
reads sees the old file or the new one, whole, and a machine that stops in between leaves the old
one. Two who change it at once do so one after the other; they wait for each other at the folder,
since the file itself is another one after each move (flock(2)).
"""

from __future__ import annotations

import fcntl
import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sockproto.core.errors import ConfigurationError

PRIVATE = 0o600
"""The mode of a new file: what is in it is nobody else's business."""


def rewrite(file: Path, change: Callable[[str], str], *, create: bool = False) -> None:
    """
    Put what ``change`` makes of a file in its place; mode and owner stay as they are.

    Args:
        file: The file, or a link to it.
        change: Makes the new content of the old one; may raise to leave everything as it is.
        create: Whether a file that does not exist is an empty one.

    Raises:
        ConfigurationError: If the file cannot be read or written.
    """
    # A link stays one.
    path = Path(os.path.realpath(file))
    try:
        with _alone_in(path.parent):
            old = _read(path, create)
            _replace(path, change(old[0]).encode("utf-8"), old[1])
    except OSError as error:
        said = (error.strerror or str(error)).lower()
        raise ConfigurationError(f"{file} cannot be changed: {said}") from error
    except UnicodeDecodeError:
        raise ConfigurationError(f"{file} is no text in UTF-8; name another file") from None


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
        # The new name is on the disk as well.
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read(path: Path, create: bool) -> tuple[str, os.stat_result | None]:
    try:
        found = os.stat(path)
    except FileNotFoundError:
        if create:
            return "", None
        raise
    # Opening a pipe would wait for somebody who writes to it.
    if not stat.S_ISREG(found.st_mode):
        raise OSError(0, "that is no regular file")
    return path.read_bytes().decode("utf-8"), found


def _replace(path: Path, content: bytes, old: os.stat_result | None) -> None:
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with open(descriptor, "wb") as fresh:
            fresh.write(content)
            fresh.flush()
            if old is not None and (old.st_uid, old.st_gid) != (os.geteuid(), os.getegid()):
                os.fchown(descriptor, old.st_uid, old.st_gid)
            # After chown(2), which takes set-user-ID away; and never wider than it was.
            os.fchmod(descriptor, PRIVATE if old is None else stat.S_IMODE(old.st_mode))
            os.fsync(descriptor)
        os.replace(name, path)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(name)
        raise
