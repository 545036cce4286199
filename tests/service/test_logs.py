"""One line a connection, which nothing that a peer has sent can break out of."""

import io
import sys
from errno import EMFILE, ENFILE, ENOBUFS
from typing import get_args
from unicodedata import category

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.logger import (
    Logger,
    LogLevel,
    LogPublisher,
    formatEvent,
    textFileLogObserver,
)

from sockproto import Address, HandshakeEnded
from sockproto.core.exchange import Exchange
from sockproto.events import AcceptingPaused, CapReached, Reason, RefusalWaived, wanted_by
from sockproto.service.accesslog import LogFile, TwistedLog
from sockproto.service.logs import (
    TroubleLog,
    line_for,
    source_of,
    summaries_of,
)

CLIENT = Address("inet", "192.0.2.7", 40312)
SERVER = Address("inet", "192.0.2.1", 8001)

VERDICT = HandshakeEnded(
    number=1,
    address=CLIENT,
    local=SERVER,
    reason="accepted",
    phase="handshake",
    detail="",
    identity=None,
    session=None,
    duration=0.00034,
    received=1,
    error=None,
)


def trouble_log(clock=None):
    """A log of trouble, and what it says, as pairs of level and line."""
    lines = []

    def observe(event):
        assert event["log_namespace"] == "test"
        lines.append((event["log_level"], formatEvent(event)))

    return TroubleLog(Logger("test", observer=observe), clock), lines


def told(*events):
    """What the log is told of these events."""
    log, lines = trouble_log()
    for event in events:
        log(event)
    log.close()
    return lines


# The line.


@pytest.mark.parametrize(
    ("reason", "word"),
    [
        ("accepted", "accepted"),
        ("rejected", "rejected"),
        ("timeout", "time out"),
        ("lost", "lost"),
        ("probe", "probe"),
        ("limit", "limit"),
        ("violation", "violation"),
        ("crashed", "crashed"),
        ("refused", "refused"),
        ("shutdown", "shutdown"),
    ],
)
def test_a_line_begins_with_the_outcome(reason, word):
    assert line_for(VERDICT._replace(reason=reason)) == f"{word} 192.0.2.7:40312 in 0.3 ms"


def test_these_are_all_the_outcomes_there_are():
    assert len(get_args(Reason)) == 10


def test_a_line_ends_with_the_reason():
    event = VERDICT._replace(reason="rejected", detail="wrong word")

    assert line_for(event) == "rejected 192.0.2.7:40312 in 0.3 ms: wrong word"


def test_a_line_tells_who_the_peer_is_and_where_it_goes():
    event = VERDICT._replace(identity="ada", session="chat")

    assert line_for(event) == "accepted 192.0.2.7:40312 in 0.3 ms as ada into chat"


@pytest.mark.parametrize(
    ("duration", "shown"),
    [(0.0, "0.0 ms"), (0.0124, "12.4 ms"), (0.999, "999.0 ms"), (1.0, "1.0 s"), (12.34, "12.3 s")],
)
def test_the_duration_is_in_seconds_if_there_are_any(duration, shown):
    assert line_for(VERDICT._replace(duration=duration)).endswith(f" in {shown}")


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        (Address("inet6", "2001:db8::7", 40312), "[2001:db8::7]:40312"),
        (Address("unix"), "unix"),
        (Address("unix", path="/run/client"), "unix:/run/client"),
    ],
)
def test_every_address_is_shown(address, shown):
    assert line_for(VERDICT._replace(address=address)) == f"accepted {shown} in 0.3 ms"


# Trouble.


async def unlock(peer):
    raise ValueError("no key")


def broken():
    """A verdict on a handshake that has broken, as it comes from an exchange."""
    exchange = Exchange(unlock)
    return VERDICT._replace(reason="crashed", detail="it broke", error=exchange.outcome)


def test_it_wants_nothing_but_trouble():
    wanted = {"crashed", AcceptingPaused, CapReached, RefusalWaived}

    assert set(wanted_by(TroubleLog(Logger("test")))) == wanted


def test_a_crash_is_an_error_and_says_where_it_happened():
    line_number = unlock.__code__.co_firstlineno + 1

    [(level, line)] = told(broken())

    assert level is LogLevel.error
    assert line.startswith("crashed 192.0.2.7:40312 in 0.3 ms: it broke (")
    assert line.endswith(f" > test_logs.py:{line_number} in unlock)")
    assert line.isprintable()


def test_of_a_long_way_to_a_crash_the_end_is_told():
    def sink(depth):
        if not depth:
            raise ValueError
        sink(depth - 1)

    with pytest.raises(ValueError) as caught:
        sink(100)

    [(_, line)] = told(VERDICT._replace(reason="crashed", error=caught.value))

    assert line.count(" in sink") == 4


def test_a_crash_that_happened_nowhere_is_told_without_a_place():
    event = VERDICT._replace(reason="crashed", detail="it is no handshake")
    expected = [(LogLevel.error, "crashed 192.0.2.7:40312 in 0.3 ms: it is no handshake")]

    assert told(event) == told(event._replace(error=ValueError("no"))) == expected


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            OSError(EMFILE, "Too many open files"),
            "too many open files; clients wait meanwhile; "
            "raise the descriptor limit (ulimit -n, or LimitNOFILE= under systemd)",
        ),
        (
            OSError(ENFILE, "Too many open files in system"),
            "too many open files in system; clients wait meanwhile; "
            "raise the descriptor limit of the system (sysctl fs.file-max)",
        ),
        (
            OSError(ENOBUFS, "No buffer space available"),
            "no buffer space available; clients wait meanwhile; free some memory",
        ),
        (OSError("strange"), "strange; clients wait meanwhile; free some memory"),
    ],
)
def test_that_there_is_no_room_is_a_warning_that_says_what_to_do(error, said):
    expected = f"no room for another connection at 192.0.2.1:8001: {said}"

    assert told(AcceptingPaused(SERVER, error)) == [(LogLevel.warn, expected)]


def test_that_the_cap_is_reached_is_a_warning_that_says_what_to_do():
    assert told(CapReached(SERVER)) == [
        (
            LogLevel.warn,
            "no room for another connection at 192.0.2.1:8001: max-connections are there; "
            "clients wait meanwhile; raise it if this machine can bear more",
        )
    ]


def waived(detail):
    return RefusalWaived(1, CLIENT, SERVER, detail)


def test_a_dry_run_says_whom_it_would_have_refused_and_why():
    assert told(waived("max_pending: 1024 are pending, of 256:30:1024\n")) == [
        (
            LogLevel.info,
            r"waived 192.0.2.7:40312: max_pending: 1024 are pending, of 256:30:1024\n",
        )
    ]


def test_trouble_that_comes_in_floods_is_summed_up():
    log, lines = trouble_log(clock := Clock())
    paused = AcceptingPaused(SERVER, OSError(EMFILE, "Too many open files"))
    for event in (broken(), paused, waived("no")):
        for _ in range(35):
            log(event)
    log(CapReached(SERVER))
    assert len(lines) == 91

    clock.advance(60)

    assert sorted(line for _, line in lines[91:]) == [
        "192.0.2.1:8001: 5 more times had no room for another connection in the last minute",
        "192.0.2.7: 5 more crashed in the last minute",
        "192.0.2.7: 5 more waived in the last minute",
    ]
    log.close()
    assert clock.getDelayedCalls() == []


def test_trouble_is_summed_up_at_a_stop():
    log, lines = trouble_log(clock := Clock())
    for _ in range(31):
        log(broken())

    log.close()

    assert lines[30:] == [(LogLevel.warn, "192.0.2.7: 1 more crashed in the last minute")]
    assert clock.getDelayedCalls() == []


@pytest.mark.parametrize(
    ("outcome", "said"),
    [
        ("accepted", "192.0.2.7: 2 more accepted in the last minute"),
        ("rejected", "192.0.2.7: 2 more rejected in the last minute"),
        ("timeout", "192.0.2.7: 2 more timed out in the last minute"),
        ("lost", "192.0.2.7: 2 more lost in the last minute"),
        ("probe", "192.0.2.7: 2 more probed in the last minute"),
        ("limit", "192.0.2.7: 2 more went beyond a limit in the last minute"),
        ("violation", "192.0.2.7: 2 more broke the protocol in the last minute"),
        ("crashed", "192.0.2.7: 2 more crashed in the last minute"),
        ("refused", "192.0.2.7: 2 more refused in the last minute"),
        ("shutdown", "192.0.2.7: 2 more were shut down in the last minute"),
    ],
)
def test_what_is_summed_up_is_a_sentence(outcome, said):
    assert summaries_of([("192.0.2.7", outcome, 2)]) == [said]
    assert outcome in get_args(Reason)


def test_what_a_peer_has_chosen_is_no_source():
    addresses = [CLIENT, Address("inet6", "2001:db8::7", 9), Address("unix", path="x"), SERVER]

    assert [source_of(each) for each in addresses] == [
        "192.0.2.7",
        "2001:db8::7",
        "unix",
        "192.0.2.1",
    ]


def test_what_looks_like_a_format_is_not_one():
    event = VERDICT._replace(reason="crashed", detail="{log_level} %s")

    assert told(event)[0][1].endswith(": {log_level} %s")


# What a peer has sent.

EVERY_BYTE = bytes(range(256))
NASTY = [
    EVERY_BYTE.decode("latin-1"),
    EVERY_BYTE.decode("utf-8", "surrogateescape"),
    "\u2028\u2029\u202e\u200b\ufeff\x85",
]


@pytest.mark.parametrize("field", ["detail", "identity", "session", "address"])
@pytest.mark.parametrize("text", NASTY)
def test_no_field_can_forge_a_line_or_drive_a_terminal(field, text):
    value = Address("unix", path=text) if field == "address" else text

    line = line_for(VERDICT._replace(**{field: value}))

    assert line.isprintable()
    assert len(line.splitlines()) == 1
    line.encode("utf-8")


UNSEEN = "".join(
    each
    for each in map(chr, range(sys.maxunicode + 1))
    if category(each) in ("Cc", "Cf", "Zl", "Zp", "Cs")
)
"""Control, format and direction marks; line and paragraph separators; halves of a pair."""

FIELDS = ("detail", "identity", "session", "path", "waived", "local", "source", "error")


def lines_with(field, text):
    """Whatever the logs say with a text in a field."""
    if field == "source":
        return summaries_of([(text, "lost", 1)])
    if field == "waived":
        event = RefusalWaived(1, Address("unix", path=text), SERVER, text)
    elif field == "local":
        event = AcceptingPaused(Address("unix", path=text), OSError(text))
    elif field == "error":
        error = ValueError(text)
        event = VERDICT._replace(reason="crashed", detail=str(error), error=error)
    else:
        value = Address("unix", path=text) if field == "path" else text
        event = VERDICT._replace(**{"address" if field == "path" else field: value})
        return [line_for(event)]
    return [line for _, line in told(event)]


def written(lines, folder):
    """The same as it is written, to a file of our own and by Twisted."""
    name = folder / "access.log"
    own = LogFile(str(name))
    own.write(0, lines)
    own.close()
    log = io.BytesIO()
    TwistedLog(LogPublisher(textFileLogObserver(log))).write(0, lines)
    return name.read_bytes(), log.getvalue()


@pytest.mark.parametrize("field", FIELDS)
def test_no_byte_of_a_field_is_a_control_byte_in_a_text_log(field, tmp_path):
    # A field shows 256 characters, so that each is seen with and without its neighbours.
    texts = [EVERY_BYTE.decode("latin-1"), EVERY_BYTE.decode("utf-8", "surrogateescape")]
    texts += [chr(each) for each in EVERY_BYTE]
    lines = [line for text in texts for line in lines_with(field, text)]

    for log in written(lines, tmp_path):
        assert log.count(b"\n") == len(lines) >= len(texts)
        assert not {*range(32), 127}.intersection(log.replace(b"\n", b""))
        assert log.decode().replace("\n", "").isprintable()


@pytest.mark.parametrize("field", FIELDS)
def test_no_character_that_cannot_be_seen_comes_through(field):
    for at in range(0, len(UNSEEN), 200):
        for line in lines_with(field, UNSEEN[at : at + 200]):
            assert line.isprintable()
            assert not set(UNSEEN).intersection(line)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(FIELDS), st.text() | st.text(UNSEEN, max_size=300))
def test_whatever_stands_in_a_field_is_one_line(field, text):
    for line in lines_with(field, text):
        assert line.isprintable()
        assert len(line.splitlines()) == 1


@pytest.mark.parametrize("field", ["detail", "identity", "session", "address"])
def test_every_field_is_cut(field):
    text = "a" * 100_000
    value = Address("unix", path=text) if field == "address" else text

    assert len(line_for(VERDICT._replace(**{field: value}))) < 350
