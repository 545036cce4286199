"""The command line of the attack kit: a mistake is one line, and nothing has been started."""

from __future__ import annotations

import pytest

from sockproto.testing.attack.line import main


def told(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """Run the command; gives the one line that it says."""
    with pytest.raises(SystemExit) as caught:
        main(words)
    said = capsys.readouterr()
    assert caught.value.code == 2
    assert said.out == ""
    assert said.err.count("\n") == 1
    return said.err.removeprefix("attack: ").rstrip("\n")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            ["hold", "192.0.2.1:80"],
            "192.0.2.1 is not loopback; attacks stay on this machine: 127.0.0.0/8 and ::1",
        ),
        (
            ["hold", "127.0.0.1:80", "--from", "10.0.0.0/8"],
            "10.0.0.0/8 is not loopback; attacks stay on this machine: 127.0.0.0/8 and ::1",
        ),
        (
            ["hold", "127.0.0.1:80", "--prober-from", "192.0.2.1"],
            "192.0.2.1 is not loopback; attacks stay on this machine: 127.0.0.0/8 and ::1",
        ),
        (
            ["hold", "127.0.0.1:80", "--connections", "30000"],
            "connections must be from 1 to 20,000, got 30,000",
        ),
        (
            ["hold", "127.0.0.1:80", "--duration", "1h"],
            "duration must be from 0.1 to 600, got 3,600",
        ),
        (
            ["hold", "127.0.0.1:80", "--duration", "off"],
            "duration must be from 0.1 to 600, got inf",
        ),
        (
            ["compare", "smash"],
            "no attack 'smash'; there are hold, hold-many, hold-one, drip, flood, oversize, reset",
        ),
        (
            ["compare", "--servers", "apache"],
            "no server 'apache'; there are sockproto, twisted, twisted-1024, haproxy, nginx, sshd",
        ),
    ],
)
def test_a_mistake_is_told_in_one_line(capsys, words, sentence):
    assert told(capsys, *words) == sentence


@pytest.mark.parametrize(
    ("words", "begins"),
    [
        ([], "the following arguments are required: KIND, TARGET"),
        (["hold", "127.0.0.1:80", "--rate", "x"], "argument --rate: 'x' is not a number"),
        (["hold", "127.0.0.1:80", "--connections", "1.5"], "argument --connections: '1.5' is not"),
        (["hold", "127.0.0.1:80", "--amount", "9x"], "argument --amount: '9x' is not a size"),
        (["hold", "127.0.0.1:80", "--quiet", "soon"], "argument --quiet: 'soon' is not a time"),
        (
            ["hold", "127.0.0.1:80", "--send", "\\x0"],
            "argument --send: '\\\\x0' has an escape that",
        ),
        (["hold", "127.0.0.1:80", "--loud"], "unrecognized arguments: --loud"),
    ],
)
def test_an_argument_that_cannot_be_read_is_named(capsys, words, begins):
    sentence = told(capsys, *words)

    assert sentence.startswith(begins)
    assert sentence.endswith("; see python -m sockproto.testing.attack --help")


def test_the_help_names_every_kind(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["--help"])

    said = capsys.readouterr().out
    assert caught.value.code == 0
    assert "tls-stall: send half a ClientHello" in " ".join(said.split())
