"""Clients that are not ours, or not Twisted's, against ``twistd sockserver``."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from threading import Timer
from typing import Any

import pytest

from sockproto import aio, blocking
from sockproto.core.errors import Rejected
from sockproto.handshakes.chain import Chain
from sockproto.handshakes.challenge import Challenge
from sockproto.handshakes.negotiate import Negotiate
from sockproto.handshakes.none import NoHandshake
from sockproto.handshakes.passphrase import Passphrase
from sockproto.handshakes.token import Token

from .kit import BIN, PATIENCE, Identity, Sockserver, Starter, Where

KINDS = ("tcp", "unix", "tls")

KEYS = "ann " + b64encode(b"0123456789abcdef0123456789abcdef").decode() + "\n"
TOKEN = b"a token that nobody would guess"

every_kind = pytest.mark.parametrize("kind", KINDS)


@dataclass
class House:
    """Servers with one handshake each, behind a door of each kind."""

    starter: Starter
    identity: Identity
    servers: dict[str, Sockserver]

    def place(self, handshake: str, kind: str) -> Where:
        """Where that server is; it is started when it is first asked for."""
        if handshake not in self.servers:
            self.servers[handshake] = self._start(handshake)
        return self.servers[handshake].places[KINDS.index(kind)]

    def tls(self, kind: str) -> dict[str, Any]:
        """What a client without Twisted is told for a door of this kind."""
        return {"tls": self.identity.context} if kind == "tls" else {}

    def _start(self, handshake: str) -> Sockserver:
        doors = (
            "tcp:0:interface=127.0.0.1",
            f"unix:{self.starter.cwd}/door-{len(self.servers)}",
            self.identity.endpoint,
        )
        options = [each for door in doors for each in ("--listen", door)]
        sessions = ("--session", "echo=echo", "--session", "discard=discard")
        return self.starter.sockserver("--handshake", handshake, *options, *sessions)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory, loopback_identity: Identity) -> Iterator[House]:
    folder = tmp_path_factory.mktemp("house")
    (folder / "keys").write_text(KEYS)
    (folder / "keys").chmod(0o600)
    (folder / "tokens").write_text(f"ann sha256:{sha256(TOKEN).hexdigest()}\n")
    starter = Starter(folder)
    try:
        yield House(starter, loopback_identity, {})
    finally:
        starter.end()


WORD_AND_NAME = r"chain:passphrase\:sesame:negotiate"
FITTING = {
    WORD_AND_NAME: Chain(Passphrase(b"sesame"), Negotiate("mail,echo")),
    "token:file=tokens": Token(TOKEN),
    "challenge:file=keys": Challenge(KEYS.encode()),
    "none": NoHandshake(),
}

every_handshake = pytest.mark.parametrize(
    "handshake",
    [
        # A server more for each of these.
        pytest.param(each, id=each.split(":")[0], marks=pytest.mark.slow if slow else ())
        for each, slow in zip(FITTING, (False, True, False, True), strict=True)
    ],
)


# In Python, without Twisted


@every_kind
@every_handshake
def test_the_blocking_client_shakes_hands_and_talks(house, handshake, kind):
    place = house.place(handshake, kind)

    with blocking.connect(place, FITTING[handshake], **house.tls(kind)) as made:
        made.sendall(b"hello")
        with made.makefile("rb") as stream:
            assert stream.read(5) == b"hello"


@every_kind
@every_handshake
def test_the_asyncio_client_shakes_hands_and_talks(house, handshake, kind):
    place = house.place(handshake, kind)

    async def talk() -> bytes:
        reader, writer = await aio.connect(place, FITTING[handshake], **house.tls(kind))
        writer.write(b"hello")
        heard = await reader.readexactly(5)
        writer.close()
        await writer.wait_closed()
        return heard

    assert asyncio.run(talk()) == b"hello"


@every_kind
def test_both_are_told_that_they_were_rejected(house, kind):
    place = house.place(WORD_AND_NAME, kind)
    stranger = Passphrase(b"simsim")

    with pytest.raises(Rejected, match="wrong word"):
        blocking.connect(place, stranger, **house.tls(kind))
    with pytest.raises(Rejected, match="wrong word"):
        asyncio.run(aio.connect(place, stranger, **house.tls(kind)))


def test_a_challenge_is_bound_to_the_certificate_that_the_server_has_shown(house):
    tls = house.identity.context
    place = house.place("challenge:file=keys", "tls")

    # A proof of somebody who sees no TLS where the server does.
    with pytest.raises(Rejected, match="does not know key ann"):
        blocking.connect(place, Challenge(KEYS.encode(), bind=False), tls=tls)


# In a shell


def program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(f"needs {name}")
    return found


@contextmanager
def bounded(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Do not wait for ever for what a program has to say."""
    timer = Timer(PATIENCE, process.kill)
    timer.start()
    try:
        with process:
            yield
    finally:
        timer.cancel()


def said_by(command: list[str], data: bytes, expected: int) -> bytes:
    """Type something, and read so many bytes before the end of the input."""
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    with bounded(process):
        process.stdin.write(data)
        process.stdin.flush()
        heard = process.stdout.read(expected)
        process.stdin.close()
    return heard


def command_of(client: str, kind: str, place: Where, identity: Identity) -> list[str]:
    """How a person would call it."""
    path = place if isinstance(place, str) else ""
    host, port = ("", 0) if isinstance(place, str) else place
    trusted = str(identity.certificate)
    return {
        ("openssl", "tls"): [
            *("s_client", "-quiet", "-no_ign_eof", "-verify_return_error", "-CAfile", trusted),
            *("-connect", f"{host}:{port}"),
        ],
        ("ncat", "tcp"): [host, str(port)],
        ("ncat", "unix"): ["-U", path],
        # Of a certificate it looks at host names alone.
        ("ncat", "tls"): ["--ssl-verify", "--ssl-trustfile", trusted, "localhost", str(port)],
        ("socat", "tcp"): ["-", f"TCP:{host}:{port}"],
        ("socat", "unix"): ["-", f"UNIX-CONNECT:{path}"],
        ("socat", "tls"): ["-", f"OPENSSL:{host}:{port},cafile={trusted}"],
    }[client, kind]


every_client = pytest.mark.parametrize(
    ("client", "kind"),
    [
        ("openssl", "tls"),
        *((client, kind) for client in ("ncat", "socat") for kind in KINDS),
    ],
)


@every_client
def test_a_client_of_the_shell_shakes_hands_and_talks(house, client, kind):
    place = house.place(WORD_AND_NAME, kind)
    command = [program(client), *command_of(client, kind, place, house.identity)]

    answer = b"OK\nOK echo\nhello\n"
    assert said_by(command, b"sesame\nmail echo\nhello\n", len(answer)) == answer


@pytest.mark.slow
@every_client
def test_a_client_of_the_shell_reads_what_there_is(house, client, kind):
    place = house.place(WORD_AND_NAME, kind)
    command = [program(client), *command_of(client, kind, place, house.identity)]

    answer = b"OK\nNO echo discard\n"
    assert said_by(command, b"sesame\n?\n", len(answer) + 1) == answer


# Our own, with several handshakes


def test_the_command_passes_one_handshake_after_the_other(house):
    host, port = house.place(WORD_AND_NAME, "tcp")

    done = subprocess.run(
        [
            *(BIN / "sockproto", "connect", f"tcp:{host}:{port}"),
            *("--handshake", "passphrase:sesame", "--handshake", "negotiate:mail,echo"),
        ],
        input=b"hello",
        capture_output=True,
        timeout=PATIENCE,
    )

    assert (done.returncode, done.stdout) == (0, b"hello")


@pytest.mark.slow
def test_the_command_shows_what_there_is(house):
    host, port = house.place(WORD_AND_NAME, "tcp")

    done = subprocess.run(
        [
            *(BIN / "sockproto", "connect", f"tcp:{host}:{port}"),
            *("--handshake", r"chain:passphrase\:sesame:negotiate"),
        ],
        capture_output=True,
        timeout=PATIENCE,
    )

    assert done.returncode == 1
    assert done.stderr.decode().endswith(
        "sockproto: peer rejected the handshake: on offer is echo, discard\n"
    )
