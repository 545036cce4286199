"""A folder for what has to be made before anything can be measured."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from contextlib import suppress
from functools import cache
from pathlib import Path

HERE = Path(__file__).parent


class Unavailable(Exception):
    """Something cannot be measured on this machine; the words say why."""


class Workshop:
    """
    Compiles, writes and signs; each thing once.

    Args:
        folder: Where it may write.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.c = cache(self._c)
        self.go = cache(self._go)
        self.certificate = cache(self._certificate)

    def write(self, name: str, text: str) -> Path:
        """Write a file."""
        file = self._folder / name
        file.write_text(text)
        return file

    def _c(self, source: str) -> Path:
        made = self._folder / Path(source).stem
        _run("gcc", "-O2", "-Wall", "-Wextra", "-o", str(made), str(HERE / source))
        return made

    def _go(self, source: str) -> Path:
        made = self._folder / (Path(source).stem + "-go")
        _run("go", "build", "-o", str(made), str(HERE / source))
        return made

    def _certificate(self) -> Path:
        """A key and a certificate for 127.0.0.1 that has signed itself, in one PEM file."""
        key, certificate = self._folder / "key.pem", self._folder / "certificate.pem"
        _run(
            "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
            "-nodes", "-days", "2", "-subj", "/CN=localhost",
            "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate),
        )  # fmt: skip
        return self.write("identity.pem", key.read_text() + certificate.read_text())


def _run(*command: str) -> None:
    if shutil.which(command[0]) is None:
        raise Unavailable(f"{command[0]} is not in the PATH")
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines() or ["no reason given"]
        raise Unavailable(f"{command[0]} failed: {lines[-1]}")


def half_client_hello() -> bytes:
    """The first half of what a TLS client says first."""
    context = ssl.create_default_context()
    sent = ssl.MemoryBIO()
    client = context.wrap_bio(ssl.MemoryBIO(), sent, server_hostname="localhost")
    with suppress(ssl.SSLWantReadError):
        client.do_handshake()
    hello = sent.read()
    return hello[: len(hello) // 2]
