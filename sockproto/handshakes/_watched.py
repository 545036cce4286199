"""A file that may change while we serve: whoever is revoked in it is a stranger from then on."""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from sockproto.core.errors import ConfigurationError

T = TypeVar("T")

# Of the standard library, since this floor is free of Twisted. Without anybody who has set it up
# it writes to standard error, and that is the log of a twistd.
_log = logging.getLogger("sockproto.handshakes")


class WatchedFile(Generic[T]):
    """
    What a file says, read again when it has changed.

    A file that cannot be read any more, or that makes no sense, changes nothing: what it said last
    stays in use; ``trouble`` says so, and so does the log, once. One that is replaced as a whole
    (rename(2)) is never seen half written; an editor that writes in place may be, for a moment.

    Args:
        path: The file.
        parse: Makes sense of its content; raises ``ValueError``, in words that follow a colon, if
            there is none in it. Nothing that is secret belongs into these.

    Attributes:
        path: The file, wherever the working directory may be later.
        trouble: Why what is in use is not what the file says now; None as long as it is.

    Raises:
        ConfigurationError: If it cannot be read and understood to begin with.
    """

    def __init__(self, path: Path, parse: Callable[[bytes], T]) -> None:
        self.path = path.absolute()
        self.trouble: str | None = None
        self._parse = parse
        # Before it is read: a file that changes in between is then read once
        # too often, instead of never.
        self._seen = self._signature()
        self._content = self._read()

    def current(self) -> T:
        """What the file says, or said when it last made sense."""
        found = self._signature()
        if found != self._seen:
            self._seen = found
            try:
                self._content = self._read()
            except ConfigurationError as error:
                self._tell(f"{error}; what it said before still holds")
                if isinstance(error.__cause__, OSError):
                    # What it takes to read it next time, a descriptor or the right to, changes
                    # nothing of the signature; and what it says may be that somebody is revoked.
                    self._seen = None
            else:
                self.trouble = None
        return self._content

    def _tell(self, trouble: str) -> None:
        """Keep what is wrong, and tell the operator; of the same trouble once."""
        if trouble != self.trouble:
            _log.error("%s", trouble)
        self.trouble = trouble

    def _signature(self) -> tuple[int, int, int] | None:
        """What differs when the file does; None if there is none."""
        try:
            found = os.stat(self.path)
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino

    def _read(self) -> T:
        try:
            # Opening a pipe would wait for somebody who writes to it.
            if not stat.S_ISREG(os.stat(self.path).st_mode):
                raise ConfigurationError(f"{self.path} is no regular file")
            data = self.path.read_bytes()
        except OSError as error:
            said = (error.strerror or str(error)).lower()
            raise ConfigurationError(f"{self.path} cannot be read: {said}") from error
        try:
            return self._parse(data)
        except ValueError as error:
            raise ConfigurationError(f"{self.path}: {error}") from error
