"""One line a connection, which nothing that a peer has sent can break out of."""

from errno import EMFILE, ENFILE, ENOBUFS
from typing import get_args

import pytest
from twisted.logger import Logger, LogLevel, formatEvent

from sockproto import Address, HandshakeEnded
from sockproto.core.exchange import Exchange
from sockproto.events import AcceptingPaused, Reason, wanted_by
from sockproto.service.logs import TroubleLog, escaped, line_for, printable

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


def told(*events):
    """Give what the log is told of these events, as pairs of level and line."""
    lines = []

    def observe(event):
        assert event["log_namespace"] == "test"
        lines.append((event["log_level"], formatEvent(event)))

    log = TroubleLog(Logger("test", observer=observe))
    for event in events:
        log(event)
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
    assert set(wanted_by(TroubleLog(Logger("test")))) == {"crashed", AcceptingPaused}


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


def test_what_is_escaped_can_still_be_read():
    assert escaped("a\nb\x1b[31m\x00\xff\u2028\udcff") == r"a\nb\x1b[31m\x00ÿ\u2028\udcff"
    assert escaped("grüße, 世界") == "grüße, 世界"


def test_a_long_field_is_cut():
    assert printable("a" * 256) == "a" * 256
    assert printable("a" * 257) == "a" * 256 + "..."
    assert printable("\n" * 10_000) == r"\n" * 256 + "..."


@pytest.mark.parametrize("field", ["detail", "identity", "session", "address"])
def test_every_field_is_cut(field):
    text = "a" * 100_000
    value = Address("unix", path=text) if field == "address" else text

    assert len(line_for(VERDICT._replace(**{field: value}))) < 350
