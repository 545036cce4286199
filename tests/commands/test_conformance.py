"""The command that proves a handshake: its table, its files, its exit status."""

from __future__ import annotations

import io
import xml.etree.ElementTree as ElementTree

import pytest

from sockproto import Accept, Reject
from sockproto.testing.conformance.terminal import wants_colour

HERE = __name__
QUICK = ("--cases", "8")
CANARY = "sesame4711"


class Chatty:
    """Reject in words that depend on what was wrong."""

    async def serve(self, peer):
        word = await peer.receive_line(64)
        return Accept(b"OK\n") if word == b"yes" else Reject(word + b"?\n", reason="wrong")

    async def connect(self, peer):
        peer.send(b"yes\n")
        return Accept() if await peer.expect(b"OK\n") else Reject(reason="wrong")


class ServerOnly:
    """Accept a line."""

    serve = Chatty.serve


def test_a_handshake_that_conforms_is_status_0(sockproto_command):
    status, out, err = sockproto_command("conformance", f"passphrase:{CANARY}", *QUICK)

    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == "face:"
    assert "  OK              cut-in-two                         12 cases" in lines
    assert "  OK              repr-hides-secrets                 4 cases" in lines
    assert lines[-1].startswith("passphrase (server and client): ")
    assert "\x1b" not in out


def test_one_that_fails_is_status_1_and_says_how_to_see_it_again(sockproto_command):
    status, out, _ = sockproto_command("conformance", f"{HERE}:Chatty", *QUICK)

    assert status == 1
    assert "\nFAILED uniform-rejects: All who are rejected are told the same bytes" in out
    assert "  when it hears " in out
    again = f"again: sockproto conformance {HERE}:Chatty --cases 8 --only uniform-rejects --seed 0"
    assert again in out


def test_what_is_weak_fails_only_whoever_is_strict(sockproto_command):
    only = ("--only", "reads-whole-messages")

    assert sockproto_command("conformance", "welcome", *only)[0] == 0
    assert sockproto_command("conformance", "welcome", "--strict", *only)[0] == 1


def test_a_secret_is_not_in_the_command_that_shows_it_again(sockproto_command):
    _, out, _ = sockproto_command(
        "conformance", f"{HERE}:ServerOnly", "--client", f"passphrase:{CANARY}", *QUICK
    )

    again = [line for line in out.splitlines() if "again:" in line]
    assert again
    assert all("--client passphrase:..." in line and CANARY not in line for line in again)


def test_a_script_speaks_where_a_side_is_missing(sockproto_command, tmp_path):
    script = tmp_path / "good"
    script.write_text("client 79 65 73 0a\nserver 4f 4b 0a\n")

    status, out, _ = sockproto_command(
        *("conformance", f"{HERE}:ServerOnly", "--conversation", str(script)),
        *("--only", "good-conversation", "--only", "cut-in-two"),
    )

    assert status == 0
    assert "2 checks, 2 OK" in out


def test_facts_are_told_to_both_sides(sockproto_command):
    status, out, _ = sockproto_command(
        "conformance", "passphrase:sesame", "--tls=one,two", "--sessions", "chat,echo", *QUICK
    )

    assert status == 0, out


def test_the_report_can_be_had_as_files(sockproto_command, tmp_path):
    xml, page = tmp_path / "report.xml", tmp_path / "report.html"

    status, _, err = sockproto_command(
        *("conformance", f"{HERE}:Chatty", "--only", "uniform-rejects"),
        *("--junit", str(xml), "--html", str(page)),
    )

    assert status == 1
    assert err == f"sockproto: wrote {xml}\nsockproto: wrote {page}\n"
    assert ElementTree.parse(xml).getroot().attrib["failures"] == "1"
    assert page.read_text().startswith("<!DOCTYPE html>")


def test_the_checks_can_be_listed(sockproto_command):
    status, out, _ = sockproto_command("conformance", "--list")

    assert status == 0
    assert "cuts: cut-in-two\n    It hears the same wherever the stream is cut.\n" in out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "conformance needs a handshake; write sockproto conformance SPEC"),
        (("nobody",), "unknown handshake 'nobody': the known ones are "),
        (("welcome", "--only", "cut"), "there is no check 'cut'; list them with --list"),
        (("welcome", "--seed", "x"), "argument --seed: 'x' is no whole number; see "),
        (("welcome", "--conversation", "/nowhere"), "cannot read /nowhere: No such file or "),
        (
            ("welcome", "--only", "has-a-side", "--junit", "/nowhere/x"),
            "cannot write /nowhere/x: No such file or directory",
        ),
    ],
)
def test_a_mistake_is_one_line_and_status_2(sockproto_command, arguments, said):
    status, _, err = sockproto_command("conformance", *arguments)

    assert status == 2
    assert err.startswith(f"sockproto: {said}")
    assert err.count("\n") == 1


def test_a_script_that_is_no_text_is_told(sockproto_command, tmp_path):
    (tmp_path / "script").write_bytes(b"\xff\xfe")

    _, _, err = sockproto_command(
        "conformance", "welcome", "--conversation", str(tmp_path / "script")
    )

    assert err == f"sockproto: {tmp_path / 'script'} is no text\n"


class _Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(
    ("out", "environment", "colour"),
    [
        (_Terminal(), {}, True),
        (_Terminal(), {"NO_COLOR": ""}, True),
        (_Terminal(), {"NO_COLOR": "1"}, False),
        (io.StringIO(), {}, False),
    ],
)
def test_colour_is_for_terminals_whose_user_has_not_said_no(out, environment, colour):
    assert wants_colour(out, environment) is colour


def test_in_colour_only_the_verdict_is(sockproto_command, monkeypatch):
    monkeypatch.setattr("sockproto.testing.conformance.terminal.wants_colour", lambda out: True)

    _, out, _ = sockproto_command("conformance", "welcome", "--only", "has-a-side")

    assert "  \x1b[32mOK            \x1b[0m  has-a-side " in out
