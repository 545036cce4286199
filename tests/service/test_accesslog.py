"""The access log: a line for every verdict, in the file or the log that was asked for, and soon."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from errno import ENOSPC

import pytest
from twisted.internet.task import Clock
from twisted.logger import (
    FileLogObserver,
    FilteringLogObserver,
    Logger,
    LogLevel,
    LogLevelFilterPredicate,
    LogPublisher,
    PredicateResult,
    capturedLogs,
    formatEvent,
    formatEventAsClassicLogText,
    formatTime,
    jsonFileLogObserver,
    textFileLogObserver,
)

from sockproto import Address, ConfigurationError, HandshakeEnded
from sockproto.events import wanted_by
from sockproto.service import accesslog
from sockproto.service.accesslog import AccessLog, LogFile, TwistedLog
from sockproto.service.tally import MAX_ACCEPTED

NOW = 1_767_323_045
STAMP = formatTime(NOW)

CLIENT = Address("inet", "192.0.2.7", 40312)
SERVER = Address("inet", "192.0.2.1", 8001)

ACCEPTED = HandshakeEnded(
    1, CLIENT, SERVER, "accepted", "handshake", "", None, None, 0.0003, 1, None
)
PROBE = ACCEPTED._replace(reason="probe")
CRASHED = ACCEPTED._replace(reason="crashed", detail="it broke")

LINES = ["accepted 192.0.2.7:40312 in 0.3 ms", "probe 192.0.2.7:40312 in 0.3 ms"]
CRASH = "crashed 192.0.2.7:40312 in 0.3 ms: it broke"


class Sheet:
    """A destination that keeps what is written, until it is full."""

    def __init__(self, tells_of_crashes=False):
        self.tells_of_crashes = tells_of_crashes
        self.written = []
        self.trouble = None
        self.closed = False

    def write(self, second, lines):
        if self.trouble is not None:
            raise self.trouble
        self.written.append((second, lines))

    def close(self):
        self.closed = True


@pytest.fixture
def now(monkeypatch):
    """A time of day that passes when a test says so."""
    times = [NOW]
    monkeypatch.setattr(accesslog, "time", lambda: times[-1] + 0.7)
    return times


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "access.log"


@pytest.fixture
def sheet():
    return Sheet()


@pytest.fixture
def log(clock, sheet, now):
    log = AccessLog(clock, sheet)
    yield log
    log.close()
    assert clock.getDelayedCalls() == []


def said(logged):
    return [(each["log_level"], formatEvent(each)) for each in logged]


# The observer.


def test_it_wants_every_verdict_and_nothing_else(log):
    assert len(wanted_by(log)) == 10
    assert all(isinstance(each, str) for each in wanted_by(log))


def test_the_lines_of_a_turn_are_written_at_once_when_it_is_over(log, clock, sheet):
    log(ACCEPTED)
    log(PROBE)
    assert sheet.written == []
    assert len(clock.getDelayedCalls()) == 1

    clock.advance(0)

    assert sheet.written == [(NOW, LINES)]


def test_the_next_turn_begins_anew(log, clock, sheet, now):
    log(ACCEPTED)
    clock.advance(0)
    now.append(NOW + 1)
    log(PROBE)
    clock.advance(0)

    assert sheet.written == [(NOW, LINES[:1]), (NOW + 1, LINES[1:])]


def test_what_is_written_early_is_not_written_again(log, clock, sheet):
    log(ACCEPTED)
    log.flush()
    log.flush()

    assert sheet.written == [(NOW, LINES[:1])]
    assert clock.getDelayedCalls() == []


def test_a_crash_has_a_line_in_a_file_as_everything_has(log, clock, sheet):
    log(CRASHED)
    clock.advance(0)

    assert sheet.written == [(NOW, [CRASH])]


def test_where_somebody_else_tells_of_a_crash_what_was_before_it_comes_first(clock, now):
    sheet = Sheet(tells_of_crashes=True)
    log = AccessLog(clock, sheet)

    log(ACCEPTED)
    log(CRASHED)

    assert sheet.written == [(NOW, LINES[:1])]
    log.close()


def test_a_stop_loses_nothing(log, sheet):
    log(ACCEPTED)

    log.close()

    assert sheet.written == [(NOW, LINES[:1])]
    assert sheet.closed


def from_host(number, reason="rejected"):
    return ACCEPTED._replace(address=Address("inet", f"192.0.2.{number}", 9), reason=reason)


def test_of_a_flood_there_are_a_few_lines_and_a_sum_when_the_minute_is_over(log, clock, sheet):
    for _ in range(10):
        for event in [from_host(7, "timeout")] * 50 + [from_host(8)]:
            log(event)
        clock.advance(0)
    lines = [line for _, lines in sheet.written for line in lines]
    assert [sum(f"192.0.2.{each}:" in line for line in lines) for each in (7, 8)] == [30, 10]

    clock.advance(60)

    assert sheet.written[-1] == (NOW, ["192.0.2.7: 470 more timed out in the last minute"])


def test_a_stop_tells_what_was_summed_up_after_the_last_line(log, clock, sheet):
    for event in [from_host(7, "probe")] * 31 + [ACCEPTED] * (MAX_ACCEPTED // 2 + 1):
        log(event)

    log.close()

    assert [len(lines) for _, lines in sheet.written] == [30 + MAX_ACCEPTED // 2, 2]
    assert sorted(sheet.written[-1][1]) == [
        "192.0.2.7: 1 more accepted in the last minute",
        "192.0.2.7: 1 more probed in the last minute",
    ]


def test_a_turn_of_which_there_is_nothing_to_write_writes_nothing(log, clock, sheet):
    for _ in range(31):
        log(PROBE)
        clock.advance(0)

    assert len(sheet.written) == 30


def test_a_sum_that_cannot_be_written_is_an_error_like_any_other(log, clock, sheet):
    for _ in range(31):
        log(PROBE)
    clock.advance(0)
    sheet.trouble = OSError(ENOSPC, "No space left on device")

    with capturedLogs() as logged:
        clock.advance(60)

    assert [level for level, _ in said(logged)] == [LogLevel.error]


def test_a_flood_does_not_fill_the_disk(path, clock, now):
    log = AccessLog(clock, LogFile(str(path)))
    for second in range(180):
        now.append(NOW + second)
        for number in range(500):
            log(from_host(number, "lost"))
        clock.advance(1)
    log.close()

    lines = path.read_text().splitlines()
    summed = [int(line.split()[2]) for line in lines if " more lost in the last minute" in line]
    assert len(lines) - len(summed) == 900
    assert len(summed) == 3 * 101
    assert len(lines) - len(summed) + sum(summed) == 180 * 500


def test_the_end_of_the_process_loses_nothing(tmp_path):
    program = (
        "from twisted.internet.task import Clock\n"
        "from sockproto import Address, HandshakeEnded\n"
        "from sockproto.service.accesslog import AccessLog, LogFile\n"
        "one = Address('unix')\n"
        "event = HandshakeEnded(1, one, one, 'probe', 'tls', '', None, None, 0.0, 0, None)\n"
        "log = AccessLog(Clock(), LogFile('access.log'))\n"
        "for _ in range(40): log(event)\n"
        "raise SystemExit('nobody has stopped it')\n"
    )

    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True)

    *lines, last = (tmp_path / "access.log").read_text().splitlines()
    assert [line.endswith(" probe unix in 0.0 ms") for line in lines] == [True] * 30
    assert last.endswith(" unix: 10 more probed in the last minute")


def test_what_cannot_be_written_is_one_error_and_then_silence(log, clock, sheet):
    sheet.trouble = OSError(ENOSPC, "No space left on device")

    with capturedLogs() as logged:
        for _ in range(3):
            log(ACCEPTED)
            log(PROBE)
            clock.advance(0)

    assert said(logged) == [
        (
            LogLevel.error,
            "cannot write the access log: no space left on device; connections leave no line until "
            "that is possible (look at the disk, or at whoever reads the log)",
        )
    ]


def test_when_it_can_be_written_again_the_log_says_what_is_missing(log, clock, sheet):
    sheet.trouble = ValueError("I/O operation on\nclosed file.")

    with capturedLogs() as logged:
        log(ACCEPTED)
        log(PROBE)
        clock.advance(0)
        sheet.trouble = None
        log(PROBE)
        clock.advance(0)
        log(ACCEPTED)
        clock.advance(0)

    assert sheet.written == [(NOW, LINES[1:]), (NOW, LINES[:1])]
    assert len(logged) == 2
    assert r"i/o operation on\nclosed file" in said(logged)[0][1]
    assert said(logged)[1] == (
        LogLevel.warn,
        "the access log is being written again; up to 2 lines are missing",
    )


# A file of our own.


@pytest.fixture
def file(path):
    file = LogFile(str(path))
    yield file
    file.close()


def test_a_line_in_a_file_has_its_time_in_front(file, path):
    file.write(NOW, LINES)
    file.write(NOW + 1, LINES[:1])

    later = formatTime(NOW + 1)
    assert path.read_text() == f"{STAMP} {LINES[0]}\n{STAMP} {LINES[1]}\n{later} {LINES[0]}\n"


def test_a_file_that_is_there_is_continued_and_a_new_one_is_not_for_everybody(file, path):
    file.write(NOW, LINES[:1])
    another = LogFile(str(path))
    another.write(NOW, LINES[1:])
    another.close()

    assert len(path.read_text().splitlines()) == 2
    assert path.stat().st_mode & 0o007 == 0


def test_a_file_that_is_truncated_begins_anew(file, path):
    file.write(NOW, LINES)
    os.truncate(path, 0)
    file.write(NOW, LINES[:1])

    assert path.read_text() == f"{STAMP} {LINES[0]}\n"


@pytest.mark.parametrize("take", [os.unlink, lambda path: os.rename(path, f"{path}.1")])
def test_a_file_that_is_taken_away_is_followed_by_another_within_a_second(file, path, take):
    file.write(NOW, LINES[:1])
    take(path)
    file.write(NOW, LINES[1:])
    file.write(NOW + 1, LINES[:1])

    assert path.read_text() == f"{formatTime(NOW + 1)} {LINES[0]}\n"


def test_a_file_that_another_one_has_replaced_is_given_up(file, path, tmp_path):
    file.write(NOW, LINES[:1])
    (tmp_path / "new").write_text("new\n")
    os.rename(tmp_path / "new", path)
    file.write(NOW + 1, LINES[1:])

    assert path.read_text() == f"new\n{formatTime(NOW + 1)} {LINES[1]}\n"


def test_if_no_other_file_can_be_had_the_old_one_serves_on(tmp_path):
    folder = tmp_path / "logs"
    folder.mkdir()
    file = LogFile(str(folder / "access.log"))
    (folder / "access.log").rename(tmp_path / "moved")
    folder.rmdir()

    file.write(NOW, LINES)

    assert len((tmp_path / "moved").read_text().splitlines()) == 2
    file.close()


def test_a_file_stays_where_it_is_when_the_process_goes_elsewhere(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = LogFile("access.log")
    monkeypatch.chdir("/")

    file.write(NOW, LINES)

    assert len(path.read_text().splitlines()) == 2
    file.close()


def test_what_no_encoding_knows_is_escaped(file, path):
    file.write(NOW, ["half a pair: \ud800"])

    assert path.read_text() == f"{STAMP} half a pair: \\ud800\n"


def test_a_line_that_a_full_disk_has_torn_is_ended_before_the_next_one(file, path, monkeypatch):
    def full(fileno, data, write=os.write):
        if len(data) < 30:
            raise OSError(ENOSPC, "No space left on device")
        return write(fileno, data[:-20])

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(OSError, match="No space"):
            file.write(NOW, LINES[:1])
    file.write(NOW, LINES[1:])
    file.write(NOW, LINES[1:])

    whole = f"{STAMP} {LINES[1]}"
    torn, *rest = path.read_text().splitlines()
    assert f"{STAMP} {LINES[0]}".startswith(torn)
    assert rest == [whole, whole]


def test_a_pipe_that_nobody_empties_does_not_hold_us_up(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    file = LogFile(str(tmp_path / "pipe"))

    with pytest.raises(BlockingIOError):
        file.write(NOW, LINES * 10_000)
    file.close()
    os.close(reader)


def test_a_file_may_be_closed_twice(file):
    file.close()
    file.close()

    with pytest.raises(OSError, match="Bad file descriptor"):
        file.write(NOW, LINES)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        (".", "is a directory"),
        ("no/such/folder/access.log", "no such file or directory"),
        ("pipe", "no such device or address"),
        ("nul\0", "embedded null byte"),
    ],
)
def test_a_file_that_cannot_be_opened_is_a_mistake(tmp_path, monkeypatch, name, reason):
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")

    with pytest.raises(ConfigurationError) as caught:
        LogFile(name)

    assert str(caught.value) == (
        f"cannot write the access log {name}: {reason}; name a file that can be written, - or off"
    )


# Twisted's log.


@pytest.fixture
def out():
    return io.StringIO()


def as_twisted_does(out):
    """What Twisted itself would write for these lines."""
    shown = textFileLogObserver(out)
    log = Logger("sockproto", observer=lambda event: shown({**event, "log_time": float(NOW)}))
    for line in LINES:
        log.info("{line}", line=line)
    return out.getvalue()


def test_in_the_log_a_line_looks_like_any_other(out):
    TwistedLog(LogPublisher(textFileLogObserver(out))).write(NOW, LINES)

    assert out.getvalue() == as_twisted_does(io.StringIO())
    assert out.getvalue().startswith(f"{STAMP} [sockproto#info] accepted 192.0.2.7:40312 in ")


def test_the_lines_of_a_turn_are_one_piece_for_the_file(out):
    class Counted(io.StringIO):
        writes = 0

        def write(self, text):
            self.writes += 1
            return super().write(text)

    counted = Counted()
    TwistedLog(LogPublisher(textFileLogObserver(counted))).write(NOW, LINES * 10)

    assert counted.writes == 1
    assert len(counted.getvalue().splitlines()) == 20


def test_the_observer_of_the_log_is_left_as_it_was(out):
    observer = textFileLogObserver(out)
    publisher = LogPublisher(observer)
    TwistedLog(publisher).write(NOW, LINES)

    Logger("other", observer=publisher).info("still here")

    assert out.getvalue().splitlines()[2].endswith(" [other#info] still here")


def test_a_file_of_bytes_gets_bytes():
    raw = io.BytesIO()

    TwistedLog(LogPublisher(textFileLogObserver(raw))).write(NOW, ["grüße"])

    assert raw.getvalue().decode().endswith("] grüße\n")


def test_what_the_encoding_of_the_log_lacks_is_escaped():
    raw = io.BytesIO()
    observer = textFileLogObserver(io.TextIOWrapper(raw, encoding="ascii"))

    TwistedLog(LogPublisher(observer)).write(NOW, ["grüße", LINES[0]])

    first, second = raw.getvalue().decode("ascii").splitlines()
    assert first.endswith(r"] gr\xfc\xdfe")
    assert second.endswith(f"] {LINES[0]}")


def test_every_file_that_the_log_goes_to_gets_the_lines_in_its_own_form(out):
    dated = io.StringIO()
    publisher = LogPublisher(textFileLogObserver(out), textFileLogObserver(dated, "%Y"))

    TwistedLog(publisher).write(NOW, LINES)

    assert len(out.getvalue().splitlines()) == 2
    assert dated.getvalue() == "".join(f"2026 [sockproto#info] {line}\n" for line in LINES)


def test_the_time_is_that_of_the_second(out):
    log = TwistedLog(LogPublisher(textFileLogObserver(out)))

    log.write(NOW, LINES[:1])
    log.write(NOW, LINES[:1])
    log.write(NOW + 1, LINES[:1])

    stamps = [line.split()[0] for line in out.getvalue().splitlines()]
    assert stamps == [STAMP, STAMP, formatTime(NOW + 1)]


def filtered(observer, level, refused=None):
    predicates = [LogLevelFilterPredicate(level)]
    if refused is None:
        return FilteringLogObserver(observer, predicates)
    return FilteringLogObserver(observer, predicates, refused)


def test_twist_shows_them_at_the_level_that_they_have(out):
    TwistedLog(LogPublisher(filtered(textFileLogObserver(out), LogLevel.info))).write(NOW, LINES)

    assert len(out.getvalue().splitlines()) == 2


def test_twist_does_not_show_them_if_it_is_to_show_warnings_only(out):
    TwistedLog(LogPublisher(filtered(textFileLogObserver(out), LogLevel.warn))).write(NOW, LINES)

    assert out.getvalue() == ""


def test_what_a_filter_refuses_goes_where_it_says(out):
    loud, quiet = textFileLogObserver(io.StringIO()), textFileLogObserver(out)

    TwistedLog(LogPublisher(filtered(loud, LogLevel.warn, quiet))).write(NOW, LINES)

    assert len(out.getvalue().splitlines()) == 2


class Anything:
    """A filter's rule of somebody's own."""

    def __call__(self, event):
        return PredicateResult.yes


@pytest.mark.parametrize(
    "other",
    [
        lambda events: events.append,
        lambda events: FilteringLogObserver(events.append, [Anything()]),
        lambda events: filtered(events.append, LogLevel.info),
        lambda events: FileLogObserver(io.StringIO(), events.append),
        # With fractions of a second, each line has a time of its own.
        lambda events: FileLogObserver(
            io.StringIO(),
            lambda event: (
                events.append(event)
                or formatEventAsClassicLogText(event, lambda when: f"{when:.1f}")
            ),
        ),
    ],
)
def test_if_the_log_goes_anywhere_else_every_line_is_an_event(out, other):
    events = []
    publisher = LogPublisher(textFileLogObserver(out), other(events))

    TwistedLog(publisher).write(NOW, LINES)

    assert [formatEvent(each) for each in events if each["line"] != "accepted"] == LINES
    assert {each["log_namespace"] for each in events} == {"sockproto"}
    assert {each["log_level"] for each in events} == {LogLevel.info}
    assert [line.partition("] ")[2] for line in out.getvalue().splitlines()] == LINES


def test_json_has_an_object_for_each(out):
    TwistedLog(LogPublisher(jsonFileLogObserver(out))).write(NOW, LINES)

    assert [LINES[0] in out.getvalue(), LINES[1] in out.getvalue()] == [True, True]
    assert out.getvalue().count("\x1e") == 2


def test_an_observer_that_comes_later_is_heard_at_once(out):
    publisher = LogPublisher(textFileLogObserver(out))
    log = TwistedLog(publisher)
    log.write(NOW, LINES[:1])
    events = []
    publisher.addObserver(events.append)

    log.write(NOW, LINES[1:])
    assert [formatEvent(each) for each in events] == LINES[1:]
    publisher.removeObserver(events.append)
    log.write(NOW, LINES)

    assert len(events) == 1
    assert len(out.getvalue().splitlines()) == 4


def test_behind_the_end_of_the_log_they_go_to_where_it_was(out):
    observer = textFileLogObserver(out)
    publisher = LogPublisher(observer)
    log = TwistedLog(publisher)
    log.write(NOW, LINES[:1])
    publisher.removeObserver(observer)

    log.write(NOW + 1, LINES[1:])

    assert len(out.getvalue().splitlines()) == 2
    log.close()
