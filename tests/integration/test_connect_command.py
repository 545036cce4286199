"""``sockproto connect``: its exit statuses, and standard input and output joined to a session."""

from __future__ import annotations

import os
import random
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Thread

import pytest

from .kit import BIN, PATIENCE, Identity, Sockserver, Starter, eventually

COMMAND = str(BIN / "sockproto")
KINDS = ("tcp", "unix", "tls")
SIZE = 10_000_000

SESSIONS = """
from twisted.internet.protocol import Protocol

from sockproto import Accept


class Choose:
    async def serve(self, peer):
        return Accept(session=(await peer.receive_line(64)).decode())

    async def connect(self, peer):
        import os
        peer.send(os.environb[b"SESSION"] + b"\\n")
        return Accept()


class First(Protocol):
    def connectionMade(self):
        self.transport.write(b"I was here first")
        self.transport.loseConnection()


class Break(Protocol):
    def connectionMade(self):
        self.transport.write(b"all is w")

    def dataReceived(self, data):
        self.transport.abortConnection()


class Pour(Protocol):
    def connectionMade(self):
        self.transport.registerProducer(self, False)

    def resumeProducing(self):
        self.transport.write(bytes(65536))

    def stopProducing(self):
        pass
"""


@dataclass(frozen=True)
class House:
    """A server with a socket of each kind, behind whose handshake are several sessions."""

    server: Sockserver
    identity: Identity

    def endpoint(self, kind: str) -> str:
        place = self.server.places[KINDS.index(kind)]
        if kind == "unix":
            return f"unix:{place}"
        trust = f":trustRoots={self.identity.trusted}" if kind == "tls" else ""
        return f"{kind}:{place[0]}:{place[1]}{trust}"

    def command(self, kind: str) -> list[str]:
        return [COMMAND, "connect", self.endpoint(kind), "--handshake", "house:Choose"]

    def run(
        self, session: str, *, kind: str = "tcp", stdin: bytes | None = b"", shell: str = "{}"
    ) -> subprocess.CompletedProcess[bytes]:
        """
        Run the command, perhaps as a part of a shell's command.

        Without ``stdin`` its input stays open, and nobody types.
        """
        line = shell.format(shlex.join(self.command(kind)))
        reading, writing = os.pipe()
        try:
            return subprocess.run(
                ["bash", "-c", f"set -o pipefail; {line}"],
                **{"stdin": reading} if stdin is None else {"input": stdin},
                capture_output=True,
                cwd=self.server.cwd,
                env={**os.environ, "SESSION": session},
                timeout=PATIENCE,
            )
        finally:
            os.close(reading)
            os.close(writing)

    def open(self, session: str, *, kind: str = "tcp") -> subprocess.Popen[bytes]:
        """Run the command between pipes, for a talk."""
        return subprocess.Popen(
            self.command(kind),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=self.server.cwd,
            env={**os.environ, "SESSION": session},
        )


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory, loopback_identity: Identity) -> Iterator[House]:
    folder = tmp_path_factory.mktemp("house")
    (folder / "house.py").write_text(SESSIONS)
    starter = Starter(folder)
    options = ["--handshake", "house:Choose", "--session", "echo=echo"]
    for name in ("First", "Break", "Pour"):
        options += ["--session", f"{name}=house:{name}"]
    for each in ("tcp:0:interface=127.0.0.1", f"unix:{folder}/door", loopback_identity.endpoint):
        options += ["--listen", each]
    try:
        server = starter.sockserver(*options)
        server.cwd = folder
        yield House(server, loopback_identity)
    finally:
        starter.end()


def connect(*arguments: str, **more: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [COMMAND, "connect", *arguments],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        **more,
    )


@contextmanager
def server_that(*does: object) -> Iterator[str]:
    """Serve one client with functions of its socket, in a thread; gives the endpoint."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(PATIENCE)

        def serve() -> None:
            client, _ = listening.accept()
            with client:
                client.settimeout(PATIENCE)
                for each in does:
                    each(client)

        thread = Thread(target=serve)
        thread.start()
        yield f"tcp:127.0.0.1:{listening.getsockname()[1]}"
        thread.join(PATIENCE)


def says(data: bytes):
    return lambda client: client.sendall(data)


def hears(client: socket.socket) -> None:
    assert client.recv(1024)


def hears_to_the_end(client: socket.socket) -> None:
    # A reset is an end, too.
    with suppress(ConnectionResetError):
        while client.recv(65536):
            pass


def resets(client: socket.socket) -> None:
    # struct linger of socket(7): on, after no time at all.
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


# What the exit status says. 0 and 1 for the lesson, and 3, are in test_lesson.py.


def test_a_word_that_is_refused_is_status_1(start):
    server = start.sockserver("--handshake", "passphrase:sesame")
    endpoint = "tcp:{}:{}".format(*server.place)

    done = connect(
        endpoint, "--handshake", "passphrase:env=WORD", env={**os.environ, "WORD": "mellon"}
    )

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "sockproto: peer rejected the handshake: wrong word\n"


def test_a_secret_on_the_command_line_is_warned_of_in_one_line(start):
    server = start.sockserver("--handshake", "passphrase:sesame")

    done = connect("tcp:{}:{}".format(*server.place), "--handshake", "passphrase:sesame")

    assert done.returncode == 0
    assert done.stderr == (
        "sockproto: the secret stands on the command line; put it into a file or the environment\n"
    )


@pytest.mark.parametrize("endpoint", ["nonsense", "tcp:127.0.0.1", "tcp:127.0.0.1:high", ""])
def test_what_is_no_endpoint_is_status_2(endpoint):
    done = connect(endpoint)

    assert done.returncode == 2
    assert done.stderr.startswith(f"sockproto: {endpoint!r} is no endpoint (")
    assert done.stderr.endswith("); write it like tcp:127.0.0.1:8001 or unix:/run/door\n")
    assert done.stderr.count("\n") == 1


def test_a_server_that_does_not_accept_in_time_is_status_3():
    # Its queue is full, and it never looks.
    with socket.create_server(("127.0.0.1", 0), backlog=0) as busy:
        place = busy.getsockname()
        queued = []
        try:
            for _ in range(3):
                queued.append(socket.socket())
                queued[-1].setblocking(False)
                queued[-1].connect_ex(place)
            endpoint = "tcp:{}:{}".format(*place)
            done = connect(endpoint, "--timeout", "300ms")
        finally:
            for each in queued:
                each.close()

    assert done.returncode == 3
    assert done.stderr == f"sockproto: cannot connect to {endpoint}: no answer within 0.3 s\n"


def test_a_server_that_does_not_answer_in_time_is_status_4():
    with server_that(hears, hears_to_the_end) as endpoint:
        done = connect(endpoint, "--timeout", "800ms")

    assert (done.returncode, done.stdout) == (4, "")
    assert done.stderr.startswith(
        f"sockproto: {endpoint}: not finished after 0.8 s in receive_to_end"
    )
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("leaves", [[hears], [hears, resets]], ids=["closes", "resets"])
def test_a_server_that_leaves_without_an_answer_is_status_4(leaves):
    with server_that(*leaves) as endpoint:
        done = connect(endpoint)

    assert (done.returncode, done.stdout) == (4, "")
    assert done.stderr.startswith(f"sockproto: {endpoint}: peer ")
    assert done.stderr.count("\n") == 1


def test_what_a_server_says_cannot_drive_the_terminal_by_way_of_our_own_words():
    with server_that(hears, says(b"\x1b[2J\nsockproto: fine")) as endpoint:
        done = connect(endpoint)

    assert done.returncode == 1
    assert done.stdout == "\x1b[2J\nsockproto: fine\n"
    assert done.stderr == ("sockproto: peer rejected the handshake: \\x1b[2J\\nsockproto: fine\n")


@pytest.mark.parametrize("into", ["> /dev/full", "| (exec <&-; sleep 1)"])
def test_a_reply_that_nobody_takes_is_status_4_and_one_line(start, into):
    server = start.sockserver()
    endpoint = "tcp:{}:{}".format(*server.place)

    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {COMMAND} connect {endpoint} --delay 500ms {into}"],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )

    assert done.returncode == 4
    assert done.stderr.startswith("sockproto: cannot write the reply to standard output: ")
    assert done.stderr.count("\n") == 1


def test_with_standard_output_closed_it_still_tells_by_its_status(start):
    server = start.sockserver()
    endpoint = "tcp:{}:{}".format(*server.place)

    for word, status in (("1", 0), ("2", 1)):
        line = f"{COMMAND} connect {endpoint} --send {word} >&-"
        assert subprocess.run(["bash", "-c", line], timeout=PATIENCE).returncode == status


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_the_end_of_it_and_status_4(start, number):
    server = start.sockserver("--idle-timeout", "off")
    endpoint = "tcp:{}:{}".format(*server.place)
    program = start.program(COMMAND, "connect", endpoint, "--delay", "1m")
    eventually(lambda: connected(program.pid))

    program.send(number)

    assert program.wait() == 4
    assert program.lines == ["sockproto: interrupted"]


def connected(pid: int) -> bool:
    """Whether a process has a TCP connection: a socket that is listed as established."""
    established = {
        row.split()[9]
        for row in Path("/proc/net/tcp").read_text().splitlines()[1:]
        if row.split()[3] == "01"
    }
    links = []
    for each in Path(f"/proc/{pid}/fd").iterdir():
        try:
            links.append(os.readlink(each))
        except FileNotFoundError:
            continue
    return any(f"socket:[{inode}]" in links for inode in established)


# The relay.


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_typed_comes_back_and_the_end_of_it_ends_the_session(house, kind):
    done = house.run("echo", kind=kind, stdin=b"hello\nworld\n")

    assert done.stdout == b"hello\nworld\n"
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("kind", ["tcp", "unix"])
@pytest.mark.parametrize("how", ["{}", "cat | {}", "{} | cat", "{} < data", "{} > out; cat out"])
def test_much_goes_both_ways_and_arrives_whole(house, kind, how):
    data = random.Random(1).randbytes(SIZE)
    (house.server.cwd / "data").write_bytes(data)

    done = house.run("echo", kind=kind, stdin=data, shell=how)

    assert done.stdout == data
    assert (done.returncode, done.stderr) == (0, b"")


def test_much_goes_both_ways_over_tls_and_arrives_whole(house):
    data = random.Random(1).randbytes(SIZE)

    done = house.run("echo", kind="tls", stdin=data)

    assert done.stdout == data
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("kind", KINDS)
def test_a_peer_that_goes_first_is_the_end_though_the_input_is_open(house, kind):
    done = house.run("First", kind=kind, stdin=None)

    assert done.stdout == b"I was here first"
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("closed", ["<&-", "< /dev/null"])
def test_without_any_input_the_session_ends_at_once(house, closed):
    done = house.run("echo", shell=f"{{}} {closed}")

    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


# Over a unix socket it cannot be told from an end.
@pytest.mark.parametrize("kind", ["tcp", "tls"])
def test_a_session_that_breaks_is_status_4_after_what_it_has_said(house, kind):
    with house.open("Break", kind=kind) as program:
        assert program.stdout.read(8) == b"all is w"

        rest, said = program.communicate(b"go", timeout=PATIENCE)

    assert (rest, program.returncode) == (b"", 4)
    assert said.decode() == f"sockproto: {house.endpoint(kind)}: the session was cut off\n"


@pytest.mark.parametrize("kind", KINDS)
def test_where_nobody_reads_the_output_any_more_it_stops(house, kind):
    done = house.run("Pour", kind=kind, stdin=None, shell="{} | head -c 100000")

    assert done.stdout == bytes(100_000)
    assert done.returncode == 4
    assert done.stderr.count(b"\n") == 1


def test_a_last_word_that_finds_the_disk_full_is_status_4(house):
    done = house.run("echo", stdin=b"hello", shell="{} > /dev/full")

    assert done.returncode == 4
    assert done.stderr.count(b"\n") == 1


def test_the_input_is_given_back_as_it_was(house):
    """It is shared with the shell, and with whatever the shell starts next."""
    blocking = f"{sys.executable} -c 'import os; print(os.get_blocking(0))'"

    done = house.run("First", stdin=None, shell=f"{{}}; {blocking}")

    assert done.stdout == b"I was here firstTrue\n"


@pytest.mark.parametrize(
    ("endpoint", "said"),
    [
        ("unix:" + "a" * 120, "its path has 120 bytes"),
        ("tls:localhost:1:trustRoots=/nowhere", "No such file or directory: '/nowhere'"),
    ],
)
def test_an_endpoint_that_nobody_can_reach_is_status_2_and_says_why(endpoint, said):
    done = connect(endpoint)

    assert done.returncode == 2
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
