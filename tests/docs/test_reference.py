"""The tables of the reference, held to the code."""

from __future__ import annotations

from dataclasses import fields
from inspect import signature
from pathlib import Path
from typing import get_args
from unittest.mock import ANY

import pytest
from twisted.internet.task import Clock

import sockproto
import sockproto.testing
from sockproto import Accept, Limits, PeerError, Reject, cli, events, plugins
from sockproto.commands import connect
from sockproto.core import errors
from sockproto.handshakes.passphrase import Passphrase
from sockproto.handshakes.welcome import Welcome
from sockproto.service import options
from sockproto.service.logs import WORDS
from sockproto.service.policy import POLICY_OPTIONS
from sockproto.service.units import show_seconds, show_size
from sockproto.sessions.forward import Forward
from sockproto.signatures import Signature
from sockproto.testing import play
from sockproto.transport import descriptions, sockets
from sockproto.transport.proxy import MAX_V1_BYTES, MAX_V2_BYTES, ProxyParser
from sockproto.transport.reasons import reason_of

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


def test_who_may_start_is_told_as_the_service_reads_it():
    assert rows_of(REFERENCE / "options.rst", 2) == [
        [name, each.default, each.help, each.why] for name, each in POLICY_OPTIONS.items()
    ]


def test_every_option_is_told_of_once():
    names = {name for name, *_ in options.Options.optParameters}
    names |= {
        name.removeprefix("opt_").replace("_", "-")
        for name in vars(options.Options)
        if name.startswith("opt_")
    }
    told = [name for table in range(3) for name in column("options", table)]

    assert sorted(told) == sorted(set(told))
    assert names - set(told) == {
        "config",
        "dry-run",
        "help-handshakes",
        "help-sessions",
        "version",
    }
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
        "proxy-protocol": options.DEFAULT_PROXY_PROTOCOL,
        "proxy-allow-from": str(options.Options().proxy or "none"),
        "access-log": options.DEFAULT_ACCESS_LOG,
        "udp-max-amplification": f"{options.DEFAULT_UDP_MAX_AMPLIFICATION:g}",
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

    assert told == {name: reason_of(error) for name, error in built.items()}
    assert {name for name, error in built.items() if isinstance(error, PeerError)} == {
        each.__name__ for each in PeerError.__subclasses__()
    }


# The connect command


def test_the_exit_statuses_are_those_of_the_command():
    told = {row[1]: int(row[0]) for row in rows_of(REFERENCE / "connect.rst")}

    assert told == {
        name: getattr(connect, name)
        for name in ("ACCEPTED", "REJECTED", "USAGE", "UNREACHABLE", "CUT_OFF")
    }


def test_every_option_of_the_command_is_told_of(capsys):
    with pytest.raises(SystemExit):
        cli.main(["connect", "--help"])
    helped = capsys.readouterr().out
    text = (REFERENCE / "connect.rst").read_text()
    for name in ("--handshake SPEC", "--send BYTES", "--delay T", "--timeout T", "--retries N"):
        assert name in helped
        assert f"``{name}``" in text
    assert helped.count("\n  --") == 5


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


@pytest.mark.parametrize("row", rows_of(REFERENCE / "wire.rst", 2), ids=lambda row: row[0])
def test_a_proxy_header_says_whose_the_connection_is(row):
    _, sent, whose, section = row
    try:
        header = ProxyParser("auto").receive_data(bytes.fromhex(sent))
    except errors.PeerError:
        told = "refused"
    else:
        assert header is not None
        told = str(header.source or "the proxy's own")

    assert told == whose
    assert section.startswith("2")


def test_the_bounds_of_a_proxy_header_are_those_of_the_parser():
    text = (REFERENCE / "wire.rst").read_text()

    assert f"at most {MAX_V1_BYTES} bytes" in text
    assert f"at most {MAX_V2_BYTES} here" in text


# Endpoints


def test_the_endpoints_are_those_that_we_open():
    assert rows_of(REFERENCE / "endpoints.rst") == [
        [kind, ANY, ", ".join(form.order), ", ".join(form.named)]
        for kind, form in descriptions._FORMS.items()
    ]


def test_the_parts_of_an_endpoint_are_those_that_are_read():
    rows = {row[0]: row for row in rows_of(REFERENCE / "endpoints.rst", 1)}

    assert list(rows) == list(descriptions._VALUES)
    for key, (_, words) in descriptions._VALUES.items():
        assert rows[key][1] == words
    required = {form.required for form in descriptions._FORMS.values()} - {None} | {"cert"}
    assert {key for key, row in rows.items() if row[2] == "required"} == required
    assert int(rows["mode"][2], 8) == sockets.DEFAULT_MODE


@pytest.mark.parametrize(
    "row", rows_of(REFERENCE / "endpoints.rst", 2), ids=lambda row: row[0].replace("/", "-")
)
def test_a_string_is_refused_in_the_words_that_are_told(row, tmp_path, monkeypatch):
    description, told = row
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LISTEN_FDS", raising=False)
    (tmp_path / "notes").touch()

    with pytest.raises(sockproto.ConfigurationError) as refused:
        sockproto.listen(None, description, sockproto.ServerFactory(Welcome(), clock=Clock()))

    assert str(refused.value) == f"cannot listen on {description}: {told}"


# Plug-in strings


def test_the_built_in_handshakes_and_sessions_are_listed():
    for table, catalogue in enumerate((plugins._HANDSHAKES, plugins._SESSIONS)):
        described = catalogue.describe()[: len(catalogue.builtins)]

        assert rows_of(REFERENCE / "plugin-strings.rst", table) == [
            [each.usage, each.summary] for each in described
        ]


def test_the_keywords_of_forward_are_its_parameters():
    parameters = signature(Forward).parameters
    told = [(row[0], row[1]) for row in rows_of(REFERENCE / "plugin-strings.rst", 2)]

    assert told == [
        (name, str(each.default))
        for name, each in parameters.items()
        if name not in ("endpoint", "reactor")
    ]


@pytest.mark.parametrize("row", rows_of(REFERENCE / "plugin-strings.rst", 3), ids=str)
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
