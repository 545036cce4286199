"""The words of the command: what it makes of a command line before any of its commands runs."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import import_module

import pytest

from sockproto import __version__
from sockproto.cli import COMMANDS

CANARY = "sesame4711"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "the following arguments are required: COMMAND; see sockproto --help"),
        (["connect"], "the following arguments are required: endpoint; see sockproto connect "),
        (["connect", "tcp:h:1", "--nope=1"], "--nope is no option; see sockproto --help"),
        (["connect", "tcp:h:1", "--two\nlines"], r"--two\nlines is no option; see sockproto "),
        (["connect", "tcp:h:1", "--tim", "1"], "--tim is no option; see sockproto --help"),
        (
            ["connect", "tcp:h:1", "go", "away"],
            "something is left over; quote an argument with blanks; see sockproto --help",
        ),
    ],
)
def test_a_mistake_is_one_line_and_status_2(sockproto_command, arguments, said):
    status, out, err = sockproto_command(*arguments)

    assert err.startswith(f"sockproto: {said}")
    assert err.count("\n") == 1
    assert (status, out) == (2, "")


def test_what_is_left_over_is_not_repeated(sockproto_command):
    status, out, err = sockproto_command("connect", "tcp:h:1", f"passphrase:{CANARY}")

    assert status == 2
    assert CANARY not in out + err


def test_the_version_is_told(sockproto_command):
    assert sockproto_command("--version") == (0, f"sockproto {__version__}\n", "")


def test_the_help_lists_every_command_with_what_it_does(sockproto_command):
    status, out, _ = sockproto_command("--help")

    assert status == 0
    words = " ".join(out.split())
    assert [f"{name} {does}" in words for name, does in COMMANDS.items()] == [True] * len(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_helps(sockproto_command, name):
    module = import_module(f"sockproto.commands.{name.replace('-', '_')}")
    status, out, _ = sockproto_command(name, "--help")

    assert status == 0
    assert out.startswith(f"usage: sockproto {name} ")
    assert module.__doc__ is not None
    assert f"``sockproto {name}" in module.__doc__


def test_the_package_runs_as_the_command():
    done = subprocess.run(
        [sys.executable, "-m", "sockproto", "--version"],
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert (done.returncode, done.stdout) == (0, f"sockproto {__version__}\n")


def told_to(stdout):
    """What a command says whose standard output goes there, and its exit status."""
    command = [sys.executable, "-m", "sockproto", "conformance", "--list"]
    ran = subprocess.run(command, stdout=stdout, stderr=subprocess.PIPE, text=True, timeout=60)
    return ran.returncode, ran.stderr


def test_whoever_has_read_enough_is_no_mistake():
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "wb") as closed:
        assert told_to(closed) == (1, "")


def test_a_full_disk_is_one_line():
    with open("/dev/full", "wb") as full:
        said = "sockproto: cannot write to standard output: no space left on device\n"
        assert told_to(full) == (1, said)


def test_what_a_mistake_tells_of_does_not_drive_the_terminal(sockproto_command):
    status, _, err = sockproto_command("token", "list", "--file", "\x1b[31m\nred")

    assert status == 2
    assert err.endswith("\\x1b[31m\\nred cannot be read: no such file or directory\n")
