"""What everybody on the machine can see of a server with a secret: command line and log."""

from __future__ import annotations

from pathlib import Path

import pytest

from .kit import Starter, identity, talk

CANARY = "sesame4711"


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        ["--handshake", "passphrase:file=word"],
        ["--handshake", "passphrase:env=WORD"],
        ["--config", "door.toml"],
    ],
    ids=["file", "env", "config"],
)
def test_neither_the_process_list_nor_the_log_has_the_secret(start: Starter, options):
    files = {"word": CANARY, "door.toml": f'handshake = "passphrase:{CANARY}"\n'}
    for name, text in files.items():
        (start.cwd / name).write_text(text)
    server = start.sockserver(*options, env={"WORD": CANARY})

    assert talk(server.place, f"{CANARY}\n".encode()) == b"OK\n"
    for wrong in (f"{CANARY}2\n", f"{CANARY}\r\n", f"x{CANARY * 200}"):
        talk(server.place, wrong.encode())
    command_line = Path(f"/proc/{server.pid}/cmdline").read_bytes()
    server.stop()

    assert b"sockserver" in command_line
    assert CANARY.encode() not in command_line
    assert len(server.matching("accepted|rejected|limit")) == 4
    assert not server.matching(CANARY)


@pytest.mark.slow
def test_a_key_of_tls_is_neither_in_the_process_list_nor_in_the_log(start: Starter, tmp_path):
    made = identity(tmp_path)
    door = start.cwd / "door.pem"
    door.write_bytes(made.certificate.read_bytes() + made.key.read_bytes())
    door.chmod(0o600)
    server = start.sockserver("--listen", "tls:0:cert=door.pem:interface=127.0.0.1")

    command_line = Path(f"/proc/{server.pid}/cmdline").read_text()
    server.stop()

    for line in made.key.read_text().splitlines()[1:-1]:
        assert line not in command_line
        assert not any(line in each for each in server.lines)
