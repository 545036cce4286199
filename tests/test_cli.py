"""The words of the command: what it makes of a command line, without any network."""

from __future__ import annotations

import subprocess
import sys

import pytest

from sockproto import Accept, __version__
from sockproto.cli import main

HERE = __name__
CANARY = "sesame4711"


class ServerOnly:
    async def serve(self, peer):
        return Accept()


def run(capsys, *arguments):
    """Exit status, standard output and standard error."""
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    said = capsys.readouterr()
    return caught.value.code, said.out, said.err


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
        (
            ["connect", "tcp:h:1", "--timeout", "0"],
            "argument --timeout: '0' is not a time above zero; write it like 5, 500ms, 10s or 2m",
        ),
        (["connect", "tcp:h:1", "--delay", "-1"], "argument --delay: '-1' is not a time above "),
        (["connect", "tcp:h:1", "--handshake", "hello"], "unknown handshake 'hello': the known "),
        (
            ["connect", "tcp:h:1", "--handshake", f"{HERE}:ServerOnly"],
            f"handshake {HERE}:ServerOnly has no client's side",
        ),
        (
            ["connect", "tcp:h:1", "--handshake", f"{HERE}:ServerOnly", "--send", "1"],
            "--send and --delay belong to the welcome handshake",
        ),
        (
            ["connect", "tcp:h:1", "--handshake", f"{HERE}:ServerOnly", "--delay", "1"],
            "--send and --delay belong to the welcome handshake",
        ),
        (
            ["connect", "tcp:h:1", "--handshake", "passphrase:env=NO_SUCH_WORD"],
            "passphrase finds no variable NO_SUCH_WORD in the environment",
        ),
    ],
)
def test_a_mistake_is_one_line_and_status_2(capsys, arguments, said):
    status, out, err = run(capsys, *arguments)

    assert err.startswith(f"sockproto: {said}")
    assert err.count("\n") == 1
    assert (status, out) == (2, "")


@pytest.mark.parametrize(
    "arguments",
    [
        ["tcp:h:1", f"passphrase:{CANARY}"],
        ["tcp:h:1", "--handshake", "passphrase:open", CANARY],
        ["tcp:h:1", "--handshake", f"passphrse:{CANARY}"],
        ["tcp:h:1", f"--handshakes=passphrase:{CANARY}"],
    ],
)
def test_a_secret_is_not_repeated(capsys, arguments):
    status, out, err = run(capsys, "connect", *arguments)

    assert status == 2
    assert CANARY not in out + err


def test_the_version_is_told(capsys):
    assert run(capsys, "--version") == (0, f"sockproto {__version__}\n", "")


def test_the_help_tells_the_exit_statuses(capsys):
    status, out, _ = run(capsys, "connect", "--help")

    assert status == 0
    words = " ".join(out.split())
    assert "0 accepted, 1 rejected, 2 usage, 3 cannot connect, 4 timed out or cut off" in words


def test_the_package_runs_as_the_command():
    done = subprocess.run(
        [sys.executable, "-m", "sockproto", "--version"],
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert (done.returncode, done.stdout) == (0, f"sockproto {__version__}\n")
