"""Programs to start and wait for, and clients that are nothing but sockets."""

from __future__ import annotations

import os
import re
import resource
import select
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Condition, Thread
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred

PATIENCE = 60.0
"""
Seconds after which a test gives up. Nothing in a healthy run takes as long, even where everything
takes ten times as long as on an ordinary machine.
"""

BIN = Path(sys.executable).parent

NOWHERE = "-nowhere-"
"""A name that no host can have (RFC 952), so that nobody is asked for it, and nobody waited for."""

Where = tuple[str, int] | str
"""Where a server is: host and port, or the path of a unix socket."""


class Program:
    """A process that was started, and everything that it prints."""

    def __init__(
        self,
        command: Sequence[str | Path],
        *,
        cwd: Path,
        env: Mapping[str, str] | None = None,
        **more: Any,
    ) -> None:
        self.process = subprocess.Popen(
            command,
            cwd=cwd,
            env={**os.environ, **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="backslashreplace",
            **more,
        )
        self.lines: list[str] = []
        self._changed = Condition()
        self._ended = False
        self._reader = Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self.process.pid

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._changed:
                self.lines.append(line.rstrip("\n"))
                self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def wait_for(self, pattern: str, count: int = 1) -> re.Match[str]:
        """Wait until that many lines match; gives the last match."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._ended or len(self.matching(pattern)) >= count, PATIENCE
            )
        found = self.matching(pattern)
        if len(found) < count:
            said = "\n".join(self.lines)
            how = "goes on" if self.process.poll() is None else f"ended: {self.process.returncode}"
            raise AssertionError(
                f"{len(found)} of {count} lines match {pattern!r}; the program {how}; in:\n{said}"
            )
        return found[count - 1]

    def matching(self, pattern: str) -> list[re.Match[str]]:
        """The matches so far, at most one a line."""
        return [found for line in list(self.lines) if (found := re.search(pattern, line))]

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait(self) -> int:
        """Wait for its end; gives the exit status."""
        status = self.process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        return status

    def stop(self) -> int:
        """Ask it to stop, and wait for its end; gives the exit status."""
        self.send(signal.SIGTERM)
        return self.wait()

    def discard(self) -> None:
        """See to it that it is gone."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
            self.process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        assert self.process.stdout is not None
        self.process.stdout.close()


class Sockserver(Program):
    """A ``sockserver`` that listens."""

    def __init__(self, command: Sequence[str | Path], **more: Any) -> None:
        super().__init__(command, **more)
        try:
            found = self.wait_for(r"sockproto \S+ listens on (.*?)(?:; try: (.*))?$")
        except BaseException:
            self.discard()
            raise
        self.places = [where(each) for each in found[1].split(" and ")]
        self.try_it: str = found[2] or ""

    @property
    def place(self) -> Where:
        return self.places[0]


def where(text: str) -> Where:
    """Read an address as the log shows it."""
    if text.startswith("unix:"):
        return text.removeprefix("unix:")
    host, _, port = text.rpartition(":")
    return host.strip("[]"), int(port)


class Starter:
    """Starts programs, and sees to it that they are gone afterwards."""

    def __init__(self, cwd: Path) -> None:
        self.cwd = cwd
        self._started: list[Program] = []

    def program(self, *command: str | Path, **more: Any) -> Program:
        """Start a program."""
        return self._keep(Program(command, **{"cwd": self.cwd, **more}))

    def sockserver(
        self, *options: str, runner: Sequence[str | Path] = (), **more: Any
    ) -> Sockserver:
        """Start a server, on a free port unless told where, and wait until it listens."""
        if not any(each.startswith("--listen") for each in options):
            options = ("--listen", "tcp:0:interface=127.0.0.1", *options)
        command = [*(runner or (BIN / "twistd", "-n", "--pidfile=")), "sockserver", *options]
        server = Sockserver(command, **{"cwd": self.cwd, **more})
        self._started.append(server)
        return server

    def _keep(self, program: Program) -> Program:
        self._started.append(program)
        return program

    def end(self) -> None:
        for program in self._started:
            program.discard()


@dataclass(frozen=True)
class Identity:
    """A certificate for loopback that has signed itself."""

    certificate: Path
    key: Path

    @property
    def trusted(self) -> Path:
        """A folder with nothing but the certificate, as Twisted's ``trustRoots=`` wants it."""
        return self.certificate.parent

    @property
    def endpoint(self) -> str:
        """A listening endpoint string on a free port."""
        files = f"privateKey={self.key}:certKey={self.certificate}"
        return f"ssl:0:interface=127.0.0.1:{files}"

    @property
    def context(self) -> ssl.SSLContext:
        """What a client checks the certificate with."""
        return ssl.create_default_context(cafile=str(self.certificate))


def identity(folder: Path) -> Identity:
    """Make a certificate for 127.0.0.1 and its key."""
    from datetime import UTC, datetime, timedelta
    from ipaddress import ip_address

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    names = [x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))]
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=2))
        .not_valid_after(now + timedelta(days=30))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "trusted").mkdir()
    made = Identity(folder / "trusted" / "certificate.pem", folder / "key.pem")
    made.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    made.key.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return made


def dial(place: Where, tls: ssl.SSLContext | None = None, *, buffer: int = 0) -> socket.socket:
    """Connect; with a small receive buffer if ``buffer`` is given."""
    if isinstance(place, str):
        family = socket.AF_UNIX
    else:
        family = socket.AF_INET6 if ":" in place[0] else socket.AF_INET
    client = socket.socket(family)
    client.settimeout(PATIENCE)
    if buffer:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    try:
        client.connect(place)
        if family != socket.AF_UNIX:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls is not None:
            assert isinstance(place, tuple)
            return tls.wrap_socket(client, server_hostname=place[0])
    except BaseException:
        client.close()
        raise
    return client


def read_to_end(client: socket.socket) -> bytes:
    """Everything until the server has finished. A reset is an error, not an end."""
    parts = []
    while part := client.recv(65536):
        parts.append(part)
    return b"".join(parts)


def talk(place: Where, data: bytes, tls: ssl.SSLContext | None = None) -> bytes:
    """Connect, send, read to the end."""
    with dial(place, tls) as client:
        if data:
            client.sendall(data)
        return read_to_end(client)


def flood(client: socket.socket, first: bytes, amount: int) -> tuple[bytes, int]:
    """
    Send ``first`` and then so many bytes more, reading to the end meanwhile.

    Returns:
        What was received, and how much could not be sent because the server was gone.
    """
    client.setblocking(False)
    unsent = memoryview(first + bytes(amount))
    left = 0
    received = b""
    ended = False
    end = time.monotonic() + PATIENCE
    while unsent or not ended:
        assert time.monotonic() < end, f"{len(unsent)} bytes unsent, received {received!r}"
        # What TLS has decrypted already, select() does not see.
        pending = isinstance(client, ssl.SSLSocket) and client.pending()
        readers, writers = [] if ended else [client], [client] if unsent else []
        readable, writable, _ = select.select(readers, writers, [], 0 if pending else 1)
        try:
            if readable or pending:
                part = client.recv(65536)
                received += part
                ended = not part
        except _NOT_NOW:
            pass
        try:
            if writable:
                unsent = unsent[client.send(unsent[:65536]) :]
        except _NOT_NOW:
            pass
        except OSError:
            left, unsent = len(unsent), unsent[:0]
    return received, left


_NOT_NOW = (ssl.SSLWantReadError, ssl.SSLWantWriteError, BlockingIOError)


def eventually(condition: Callable[[], object]) -> None:
    """Wait until something is so that nobody reports."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "it never came to be"
        time.sleep(0.01)


async def until(condition: Callable[[], object]) -> None:
    """The same, while the reactor runs."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "it never came to be"
        await turns(0.005)


async def turns(seconds: float = 0.0) -> None:
    """Let the reactor turn: once, or for so long."""
    from twisted.internet import reactor
    from twisted.internet.task import deferLater

    await deferLater(reactor, seconds, lambda: None)  # type: ignore[arg-type]


async def fill(client: socket.socket) -> None:
    """Send, until nothing more fits into the buffers on the way."""
    client.setblocking(False)
    tries = 0
    while tries < 20:
        try:
            client.send(bytes(65536))
            tries = 0
        except (BlockingIOError, ssl.SSLWantWriteError):
            tries += 1
        await turns(0.002)


def within_patience(deferred: Deferred[Any]) -> Deferred[Any]:
    """The same Deferred, which fails if it takes too long."""
    from twisted.internet import reactor

    return deferred.addTimeout(PATIENCE, reactor)  # type: ignore[arg-type]


def is_listening(port: int) -> bool:
    """Whether anybody listens on a port of 127.0.0.1; without the bother of a connection."""
    wanted = f"0100007F:{port:04X}"
    table = Path("/proc/net/tcp").read_text().splitlines()[1:]
    return any(row.split()[1] == wanted and row.split()[3] == "0A" for row in table)


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as asking:
        asking.bind(("127.0.0.1", 0))
        port: int = asking.getsockname()[1]
        return port


def room_for(sockets: int) -> None:
    """Raise the soft limit of descriptors, if need be; ours, and of what we start from now on."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < sockets:
        if hard < sockets:
            pytest.skip(f"{sockets} descriptors are needed, the hard limit is {hard}")
        resource.setrlimit(resource.RLIMIT_NOFILE, (sockets, hard))


def cpu_time(pid: int) -> float:
    """The seconds that a process has run: the first field of schedstat, sched-stats.rst."""
    tasks = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(each.read_text().split()[0]) for each in tasks) / 1e9


def resident(pid: int) -> int:
    """The bytes of memory that a process holds: ``Rss`` in smaps_rollup, proc(5)."""
    found = re.search(r"Rss:\s+(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text())
    assert found is not None
    return int(found[1]) * 1024


def descriptors(pid: int | str = "self") -> int:
    """How many descriptors a process has open."""
    return len(os.listdir(f"/proc/{pid}/fd"))


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Starter]:
    """Starts programs in the test's own folder; they are gone when the test is over."""
    starter = Starter(tmp_path)
    yield starter
    starter.end()
