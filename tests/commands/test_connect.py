"""What the command makes of a command line, without any network."""

from __future__ import annotations

import pytest

from sockproto import Accept

HERE = __name__
CANARY = "sesame4711"


class ServerOnly:
    async def serve(self, peer):
        return Accept()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
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
def test_a_mistake_is_one_line_and_status_2(sockproto_command, arguments, said):
    status, out, err = sockproto_command(*arguments)

    assert err.startswith(f"sockproto: {said}")
    assert err.count("\n") == 1
    assert (status, out) == (2, "")


@pytest.mark.parametrize(
    "arguments",
    [
        ["tcp:h:1", "--handshake", "passphrase:open", CANARY],
        ["tcp:h:1", "--handshake", f"passphrse:{CANARY}"],
        ["tcp:h:1", f"--handshakes=passphrase:{CANARY}"],
    ],
)
def test_a_secret_is_not_repeated(sockproto_command, arguments):
    status, out, err = sockproto_command("connect", *arguments)

    assert status == 2
    assert CANARY not in out + err


def test_the_help_tells_the_exit_statuses(sockproto_command):
    status, out, _ = sockproto_command("connect", "--help")

    assert status == 0
    words = " ".join(out.split())
    assert "0 accepted, 1 rejected, 2 usage, 3 cannot connect, 4 timed out or cut off" in words
