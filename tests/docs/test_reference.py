"""The tables of the reference, held to the code."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import get_args

import pytest

import sockproto
import sockproto.testing
from sockproto import Accept, Limits, PeerError, Reject, cli, events, plugins
from sockproto.core import errors
from sockproto.handshakes.passphrase import Passphrase
from sockproto.handshakes.welcome import Welcome
from sockproto.service import options
from sockproto.service.logs import WORDS
from sockproto.service.units import show_seconds, show_size
from sockproto.signatures import Signature
from sockproto.testing import play
from sockproto.transport import gate

from .pages import DOCS, rows_of

REFERENCE = DOCS / "reference"


def column(page: str, table: int = 0, number: int = 0) -> list[str]:
    return [row[number] for row in rows_of(REFERENCE / f"{page}.rst", table)]


# Options


def test_the_limits_are_the_fields_of_the_dataclass():
    show = {"seconds": show_seconds, "bytes": show_size}

    assert rows_of(REFERENCE / "options.rst", 1) == [
        [
            each.name.replace("_", "-"),
            show[each.metadata["unit"]](each.default),
            each.metadata["help"],
            each.metadata["why"],
        ]
        for each in fields(Limits)
    ]


def test_every_option_is_told_of_once():
    names = {name for name, *_ in options.Options.optParameters}
    names |= {
        name.removeprefix("opt_").replace("_", "-")
        for name in vars(options.Options)
        if name.startswith("opt_")
    }
    told = column("options", 0) + column("options", 1)

    assert sorted(told) == sorted(set(told))
    assert names - set(told) == {"config", "help-handshakes", "help-sessions", "version"}
    assert set(told) <= names
    text = (REFERENCE / "options.rst").read_text()
    assert all(f"``--{name}``" in text for name in names - set(told))


def test_the_defaults_are_those_of_the_service():
    defaults = {row[0]: row[1] for row in rows_of(REFERENCE / "options.rst")}

    assert defaults == {
        "listen": options.DEFAULT_LISTEN,
        "backlog": str(options.DEFAULT_BACKLOG),
        "handshake": options.DEFAULT_HANDSHAKE,
        "session": "none",
    }


# Endings


def test_the_reasons_and_the_phases_are_those_of_the_code():
    assert column("endings", 0) == list(get_args(events.Reason))
    assert column("endings", 1) == list(get_args(events.Phase))


def test_the_log_has_a_row_for_every_reason():
    begins = [row[0] for row in rows_of(DOCS / "howto/operate.rst")]

    assert sorted(begins) == sorted(WORDS.get(each, each) for each in get_args(events.Reason))


def test_the_errors_lead_to_the_reasons_that_are_told():
    built = {
        "PeerDisconnected": errors.PeerDisconnected(0, "a line"),
        "LimitExceeded": errors.LimitExceeded(64, "max_bytes"),
        "ProtocolViolation": errors.ProtocolViolation("a line", b"x"),
        "HandshakeTimeout": errors.HandshakeTimeout(5, "idle_timeout"),
        "Rejected": errors.Rejected("no"),
        "HandshakeFailed": errors.HandshakeFailed("it", "broke"),
        "Shutdown": errors.Shutdown(),
    }
    told = {row[0]: row[2] for row in rows_of(REFERENCE / "endings.rst", 2)}

    assert told == {name: gate._reason_of(error) for name, error in built.items()}
    assert {name for name, error in built.items() if isinstance(error, PeerError)} == {
        each.__name__ for each in PeerError.__subclasses__()
    }


# The connect command


def test_the_exit_statuses_are_those_of_the_command():
    told = {row[1]: int(row[0]) for row in rows_of(REFERENCE / "connect.rst")}

    assert told == {
        name: getattr(cli, name)
        for name in ("ACCEPTED", "REJECTED", "USAGE", "UNREACHABLE", "CUT_OFF")
    }


def test_every_option_of_the_command_is_told_of(capsys):
    with pytest.raises(SystemExit):
        cli.main(["connect", "--help"])
    helped = capsys.readouterr().out
    text = (REFERENCE / "connect.rst").read_text()
    for name in ("--handshake SPEC", "--send BYTES", "--delay T", "--timeout T"):
        assert name in helped
        assert f"``{name}``" in text
    assert helped.count("\n  --") == 4


# Wire formats


@pytest.mark.parametrize(
    ("table", "handshake"), [(0, Welcome()), (1, Passphrase(b"sesame"))], ids=["welcome", "word"]
)
def test_the_bytes_are_those_on_the_wire(table, handshake):
    for case, sent, answered, verdict in rows_of(REFERENCE / "wire.rst", table):
        data = bytes.fromhex(sent)
        story = play(handshake.serve, [data] if data else [])

        assert story.sent == bytes.fromhex(answered), case
        kinds = {"accepted": Accept, "rejected": Reject, "lost": errors.PeerDisconnected}
        assert type(story.outcome) is kinds[verdict], case


# Plug-in strings


def test_the_built_in_handshakes_and_sessions_are_listed():
    for table, catalogue in enumerate((plugins._HANDSHAKES, plugins._SESSIONS)):
        described = catalogue.describe()[: len(catalogue.builtins)]

        assert rows_of(REFERENCE / "plugin-strings.rst", table) == [
            [each.usage, each.summary] for each in described
        ]


@pytest.mark.parametrize("row", rows_of(REFERENCE / "plugin-strings.rst", 2), ids=str)
def test_an_argument_is_read_as_its_annotation_says(row):
    annotation, written, read = row
    known = {
        "Path": Path,
        "Secret": sockproto.Secret,
        "Endpoint": sockproto.Endpoint,
        **{each.__name__: each for each in (str, bytes, int, float, bool)},
    }

    def target(argument):
        """Takes one argument."""

    target.__annotations__["argument"] = known[annotation]
    [value] = Signature("handshake", "own", target).read(written).args
    assert repr(value) == read


# Names


@pytest.mark.parametrize(("table", "module"), [(0, sockproto), (1, sockproto.testing)])
def test_every_public_name_has_a_line(table, module):
    assert sorted(column("names", table)) == sorted(module.__all__)
    assert all(line.endswith(".") for line in column("names", table, 1))
