"""One line a connection, which nothing that a peer has sent can break out of."""

from dataclasses import replace
from typing import get_args

import pytest
from twisted.logger import Logger, LogLevel, formatEvent

from sockproto import Address, ConnectionEnded, ConnectionOpened, Ending, HandshakeEnded
from sockproto.events import Reason
from sockproto.service.logs import ConnectionLog, escaped, line_for, printable

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


def logged(*events):
    """Give what is logged for these events, as pairs of level and line."""
    lines = []

    def observe(event):
        assert event["log_namespace"] == "test"
        lines.append((event["log_level"], formatEvent(event)))

    log = ConnectionLog(Logger("test", observer=observe))
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
    assert line_for(replace(VERDICT, reason=reason)) == f"{word} 192.0.2.7:40312 in 0.3 ms"


def test_these_are_all_the_outcomes_there_are():
    assert len(get_args(Reason)) == 10


def test_a_line_ends_with_the_reason():
    event = replace(VERDICT, reason="rejected", detail="wrong word")

    assert line_for(event) == "rejected 192.0.2.7:40312 in 0.3 ms: wrong word"


def test_a_line_tells_who_the_peer_is_and_where_it_goes():
    event = replace(VERDICT, identity="ada", session="chat")

    assert line_for(event) == "accepted 192.0.2.7:40312 in 0.3 ms as ada into chat"


@pytest.mark.parametrize(
    ("duration", "shown"),
    [(0.0, "0.0 ms"), (0.0124, "12.4 ms"), (0.999, "999.0 ms"), (1.0, "1.0 s"), (12.34, "12.3 s")],
)
def test_the_duration_is_in_seconds_if_there_are_any(duration, shown):
    assert line_for(replace(VERDICT, duration=duration)).endswith(f" in {shown}")


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        (Address("inet6", "2001:db8::7", 40312), "[2001:db8::7]:40312"),
        (Address("unix"), "unix"),
        (Address("unix", path="/run/client"), "unix:/run/client"),
    ],
)
def test_every_address_is_shown(address, shown):
    assert line_for(replace(VERDICT, address=address)) == f"accepted {shown} in 0.3 ms"


# The observer.


def test_there_is_one_line_for_a_connection_and_it_is_written_at_the_verdict():
    opened = ConnectionOpened(1, CLIENT, SERVER)
    ended = ConnectionEnded(1, CLIENT, SERVER, Ending("accepted", "session"), None, 9.0)

    assert logged(opened, VERDICT, ended) == [(LogLevel.info, "accepted 192.0.2.7:40312 in 0.3 ms")]


def test_a_crash_is_an_error():
    event = replace(VERDICT, reason="crashed", detail="Knock raised ValueError")

    assert logged(event) == [
        (LogLevel.error, "crashed 192.0.2.7:40312 in 0.3 ms: Knock raised ValueError")
    ]


def test_what_looks_like_a_format_is_not_one():
    assert logged(replace(VERDICT, detail="{log_level} %s"))[0][1].endswith(": {log_level} %s")


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

    line = line_for(replace(VERDICT, **{field: value}))

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

    assert len(line_for(replace(VERDICT, **{field: value}))) < 350
