"""``sockproto connect`` where TLS does not come to be: it says why, and what to do."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from .kit import BIN, PATIENCE, Identity, Starter, identity

HANDSHAKES = """
from sockproto import Accept


class Waits:
    async def serve(self, peer):
        return Accept(b"come in")

    async def connect(self, peer):
        await peer.receive_exactly(7)
        return Accept()


class GoesOn(Waits):
    async def connect(self, peer):
        return Accept()
"""

FILES = "certificate=FILE:privateKey=FILE"
REFUSED = "the server ended TLS with the alert"


class Door:
    """A server that asks its clients for a certificate, and vouches for its own alone."""

    def __init__(self, folder: Path, starter: Starter) -> None:
        self.folder = folder
        (folder / "doors.py").write_text(HANDSHAKES)
        self.own, self.other = (self.identity(name) for name in ("own", "other"))
        server = starter.sockserver(
            *("--handshake", "doors:Waits", "--session", "echo", "--listen"),
            f"tls:0:interface=127.0.0.1:cert={self.own.certificate}:key={self.own.key}"
            f":clientCA={self.own.certificate}",
        )
        self.endpoint = "tls:{}:{}".format(*server.place)

    def identity(self, name: str) -> Identity:
        (self.folder / name).mkdir()
        return identity(self.folder / name)

    def connect(self, trusted: Identity, shown: Identity | None, handshake: str) -> tuple[int, str]:
        """Gives the exit status, and what the command says but for where it has connected to."""
        where = f"{self.endpoint}:trustRoots={trusted.trusted}"
        if shown is not None:
            where += f":certificate={shown.certificate}:privateKey={shown.key}"
        done = subprocess.run(
            [BIN / "sockproto", "connect", where, "--handshake", f"doors:{handshake}"],
            input="hello",
            capture_output=True,
            text=True,
            cwd=self.folder,
            timeout=PATIENCE,
        )
        assert done.stdout == ("hello" if done.returncode == 0 else "")
        return done.returncode, done.stderr.replace(where, "there")


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    starter = Starter(tmp_path_factory.mktemp("door"))
    try:
        yield Door(starter.cwd, starter)
    finally:
        starter.end()


# With TLS 1.3 the client's handshake, and perhaps its session, has begun when it is refused.
@pytest.mark.parametrize("handshake", ["Waits", "GoesOn"])
def test_a_certificate_that_the_server_refuses_is_status_3_and_the_alert(door, handshake):
    assert door.connect(door.own, None, handshake) == (
        3,
        f"sockproto: cannot connect to there: {REFUSED} 'certificate required'; "
        f"show it one with {FILES}\n",
    )
    assert door.connect(door.own, door.other, handshake) == (
        3,
        f"sockproto: cannot connect to there: {REFUSED} 'unknown ca'; it does not know who "
        f"issued our certificate; show it another one with {FILES}\n",
    )


def test_a_server_that_is_not_trusted_is_status_3_and_what_openssl_says(door):
    assert door.connect(door.other, door.own, "Waits") == (
        3,
        "sockproto: cannot connect to there: TLS failed: certificate verify failed; "
        "trust its issuer with trustRoots=FOLDER\n",
    )


def test_a_server_that_does_not_speak_tls_is_status_3_and_a_guess(start):
    host, port = start.sockserver().place

    done = subprocess.run(
        [BIN / "sockproto", "connect", f"tls:{host}:{port}"],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )

    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr == (
        f"sockproto: cannot connect to tls:{host}:{port}: "
        "TLS failed: wrong version number; it may not speak TLS\n"
    )


def test_a_certificate_that_the_server_accepts_is_status_0_and_the_answer(door):
    assert door.connect(door.own, door.own, "Waits") == (0, "")
