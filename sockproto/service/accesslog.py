"""
A line for every connection, for less than a handshake costs.

Through Twisted's logger a line costs more than the handshake that it tells of: a dictionary, a
format that is parsed, a time stamp, a system call. Here a verdict only waits in a list. Once a turn
of the reactor all that have come are put into words, which costs half as much in a row, and written
at once, with a time stamp that is made once a second. A flood is summed up, by a
:class:`~sockproto.service.tally.Tally`.

Where they go is a :class:`Destination`: a file of our own, or wherever Twisted's log goes.
"""

from __future__ import annotations

import os
from atexit import register, unregister
from collections.abc import Callable
from contextlib import suppress
from copy import copy
from operator import itemgetter
from time import time
from typing import Any, ClassVar, Protocol, TypeAlias

from twisted.internet.interfaces import IReactorTime
from twisted.logger import (
    FileLogObserver,
    FilteringLogObserver,
    LogEvent,
    Logger,
    LogLevel,
    LogLevelFilterPredicate,
    LogPublisher,
    formatTime,
    globalLogPublisher,
)
from twisted.logger._observer import bitbucketLogObserver

from sockproto.core.errors import ConfigurationError
from sockproto.events import Event, HandshakeEnded
from sockproto.service.escaping import escaped
from sockproto.service.logs import NAMESPACE, line_for, source_of, summaries_of
from sockproto.service.tally import Tally

_log = Logger()


class Destination(Protocol):
    """
    Where lines are written.

    Attributes:
        tells_of_crashes: Whether a crash is told there by somebody else.
    """

    tells_of_crashes: bool

    def write(self, second: int, lines: list[str]) -> None:
        """
        Write lines.

        Args:
            second: What time it is, in seconds since the epoch.
            lines: The lines, without an end.
        """
        ...

    def close(self) -> None:
        """There will be no more lines."""
        ...


class AccessLog:
    """
    An observer that leaves a line for each verdict; or, of those that come in floods, sums.

    No line is lost at a stop or when the reactor crashes. Where nothing can be written any more,
    one error says so, and lines are dropped until it can be; the connections do not notice.

    Args:
        clock: Tells when a turn of the reactor is over.
        destination: Where to.
    """

    wants: ClassVar[tuple[Any, ...]] = (HandshakeEnded,)

    def __init__(self, clock: IReactorTime, destination: Destination) -> None:
        self._clock = clock
        self._destination = destination
        self._verdicts: list[HandshakeEnded] = []
        self._lost = 0
        self._call: Any = None
        self._tally = Tally(clock, lambda summed: self._write(summaries_of(summed)))
        # Without a stop, when the reactor has crashed.
        register(self._finish)

    def __call__(self, event: Event) -> None:
        """The verdict has fallen."""
        assert isinstance(event, HandshakeEnded)
        if event.reason == "crashed" and self._destination.tells_of_crashes:
            # It comes next in the log.
            self.flush()
            return
        if not self._verdicts:
            self._call = self._clock.callLater(0, self.flush)
        self._verdicts.append(event)

    def flush(self) -> None:
        """Write what has come."""
        verdicts = self._verdicts
        if not verdicts:
            return
        self._verdicts = []
        if self._call.active():
            self._call.cancel()
        tally, lines = self._tally, []
        tally.begin()
        for each in verdicts:
            if each.reason == "accepted":
                if tally.admits_accepted():
                    lines.append(line_for(each))
                else:
                    tally.count(source_of(each.address), "accepted")
            elif tally.admits(source_of(each.address), each.reason):
                lines.append(line_for(each))
        if lines:
            self._write(lines)

    def close(self) -> None:
        """Write what has come, and let go of the file."""
        self._finish()
        unregister(self._finish)
        self._destination.close()

    def _finish(self) -> None:
        self.flush()
        self._tally.close()

    def _write(self, lines: list[str]) -> None:
        try:
            self._destination.write(int(time()), lines)
        except Exception as error:
            # Not only OSError: a file that somebody has closed raises ValueError.
            if not self._lost:
                _log.error("{line}", line=_cannot_write(error))
            self._lost += len(lines)
            return
        if self._lost:
            said = f"the access log is being written again; up to {self._lost} lines are missing"
            _log.warn("{line}", line=said)
            self._lost = 0


def _cannot_write(error: Exception) -> str:
    reason = escaped(str(getattr(error, "strerror", None) or error)).lower()
    return (
        f"cannot write the access log: {reason}; connections leave no line until that is possible "
        "(look at the disk, or at whoever reads the log)"
    )


# A file of our own


class LogFile:
    """
    A file of lines, each with its time in front.

    Lines are appended, so that a copy may be taken and the file truncated. If it is renamed or
    removed, a new one is begun within a second; no signal is needed for that. A pipe whose reader
    is too slow loses lines, and does not hold up the reactor.

    Args:
        path: Where it is, made with mode 0640 if it is not there. Resolved now: the process may
            change its directory.

    Raises:
        ConfigurationError: If it cannot be opened.
    """

    tells_of_crashes = False

    def __init__(self, path: str) -> None:
        self._path = os.path.abspath(path)
        self._second = 0
        self._stamp = ""
        self._torn = False
        try:
            self._fileno = _open(self._path)
        except (OSError, ValueError) as error:
            reason = (getattr(error, "strerror", None) or str(error)).lower()
            raise ConfigurationError(
                f"cannot write the access log {path}: {reason}; "
                "name a file that can be written, - or off"
            ) from error

    def write(self, second: int, lines: list[str]) -> None:
        """Append lines."""
        if second != self._second:
            self._second = second
            self._stamp = f"{formatTime(second)} "
            self._look_for_another()
        data = _joined(self._stamp, lines).encode("utf-8", "backslashreplace")
        if self._torn:
            # The disk was full in the middle of a line.
            data = b"\n" + data
        while data:
            data = data[os.write(self._fileno, data) :]
            self._torn = bool(data)

    def close(self) -> None:
        """Close the file."""
        if self._fileno >= 0:
            os.close(self._fileno)
            self._fileno = -1

    def _look_for_another(self) -> None:
        """Begin a new file if ours has been taken away."""
        with suppress(OSError):
            if os.path.exists(self._path):
                there, ours = os.stat(self._path), os.fstat(self._fileno)
                if os.path.samestat(there, ours):
                    return
            # Perhaps we may not, having given up our privileges: then ours stays.
            another = _open(self._path)
            self.close()
            self._fileno, self._torn = another, False


def _open(path: str) -> int:
    # Not blocking: to open a pipe that nobody reads would wait for a reader (open(2), fifo(7)).
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    return os.open(path, flags, 0o640)


# Twisted's log

_Write: TypeAlias = Callable[[LogEvent], None]


class TwistedLog:
    """
    Where Twisted's log goes, in the form that it has there.

    Log observers that write plain text into a file, as twistd and twist have them, are given all
    lines at once. If there is any other, such as syslog or JSON, every line becomes an event.

    Args:
        publisher: Whose observers.
    """

    tells_of_crashes = True

    def __init__(self, publisher: LogPublisher = globalLogPublisher) -> None:
        self._publisher = publisher
        self._log = Logger(NAMESPACE, observer=publisher)
        self._second = 0
        self._observers: list[Any] = []
        self._files: list[tuple[_Write, str]] | None = None

    def write(self, second: int, lines: list[str]) -> None:
        """Write lines to where the log goes now."""
        # Twisted has no other way to ask.
        observers = self._publisher._observers
        # Without any we are behind the end of the log, and write to where it was.
        if observers and (second != self._second or observers != self._observers):
            self._second = second
            self._observers = list(observers)
            self._files = _files_behind(self._observers, self._sample(second))
        if self._files is None:
            for line in lines:
                self._log.info("{line}", line=line)
            return
        for write, stamp in self._files:
            text = _joined(stamp, lines)
            try:
                write({"text": text})
            except UnicodeEncodeError:
                write({"text": text.encode("ascii", "backslashreplace").decode()})

    def close(self) -> None:
        """It is not ours to close."""

    def _sample(self, second: float) -> LogEvent:
        """What the log would get for a line."""
        return {
            "log_logger": self._log,
            "log_level": LogLevel.info,
            "log_namespace": NAMESPACE,
            "log_source": None,
            "log_format": "{line}",
            "log_time": float(second),
            "line": _MARK,
        }


_MARK = "accepted"


def _files_behind(observers: list[Any], sample: LogEvent) -> list[tuple[_Write, str]] | None:
    """What writes text to each file, and what stands before a line; None if there is another."""
    files = []
    for observer in observers:
        # twist has such a one in front, for --log-level.
        while type(observer) is FilteringLogObserver:
            predicates = observer._shouldLogEvent.args[0]
            if any(type(each) is not LogLevelFilterPredicate for each in predicates):
                return None
            wanted = observer._shouldLogEvent(sample)
            observer = observer._observer if wanted else observer._negativeObserver
        if observer is bitbucketLogObserver:
            continue
        stamp = _stamp_of(observer, sample) if type(observer) is FileLogObserver else None
        if stamp is None:
            return None
        # The same file, and text that is in form already.
        plain = copy(observer)
        plain.formatEvent = itemgetter("text")
        files.append((plain, stamp))
    return files


def _stamp_of(observer: FileLogObserver, sample: LogEvent) -> str | None:
    """What an observer writes before a line; None if it writes anything else, or does so finer."""
    shown = observer.formatEvent(sample)
    later = observer.formatEvent({**sample, "log_time": sample["log_time"] + 0.5})
    before, found, after = (shown or "").partition(_MARK)
    return before if found and after == "\n" and shown == later else None


def _joined(stamp: str, lines: list[str]) -> str:
    return stamp + f"\n{stamp}".join(lines) + "\n"
