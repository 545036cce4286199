"""
The lesson's promises, L1 to L10, against a server that an operator would start.

The clients are sockets without any framework, and the tutorial's own two programs.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from .kit import (
    BIN,
    NOWHERE,
    PATIENCE,
    Identity,
    Sockserver,
    Starter,
    Where,
    dial,
    eventually,
    flood,
    free_port,
    is_listening,
    read_to_end,
    talk,
)

WELCOME = b"welcome to server!"
GOODBYE = b"please go out!"
HERE = Path(__file__).parent
KINDS = ("tcp", "tcp6", "unix", "tls")
every_kind = pytest.mark.parametrize(
    "kind",
    [pytest.param(each, marks=pytest.mark.ipv6) if each == "tcp6" else each for each in KINDS],
)
# What the kernel does by itself; what it does of a TLS handshake is another matter.
every_plain_kind = pytest.mark.parametrize(
    "kind", ["tcp", pytest.param("tcp6", marks=pytest.mark.ipv6), "unix"]
)


@dataclass(frozen=True)
class Lesson:
    """
    The lesson's server, on a socket of each kind.

    Attributes:
        server: It.
        kinds: Of which kinds it has a socket; without IPv6 there is one less.
        contexts: What a client checks certificates with, by kind.
    """

    server: Sockserver
    kinds: Sequence[str]
    contexts: dict[str, ssl.SSLContext]

    def place(self, kind: str) -> Where:
        return self.server.places[self.kinds.index(kind)]

    def dial(self, kind: str) -> socket.socket:
        return dial(self.place(kind), self.contexts.get(kind))

    def talk(self, kind: str, data: bytes) -> bytes:
        return talk(self.place(kind), data, self.contexts.get(kind))


def lesson_of(starter: Starter, identity: Identity, has_ipv6: bool, *options: str) -> Lesson:
    """Start a server with a socket of each kind."""
    listen = {
        "tcp": "tcp:0:interface=127.0.0.1",
        "tcp6": "tcp6:0:interface=\\:\\:1",
        "unix": f"unix:{starter.cwd}/door",
        "tls": identity.endpoint,
    }
    if not has_ipv6:
        del listen["tcp6"]
    everywhere = [word for each in listen.values() for word in ("--listen", each)]
    server = starter.sockserver(*everywhere, *options)
    return Lesson(server, list(listen), {"tls": identity.context})


@pytest.fixture(scope="module")
def lesson(
    tmp_path_factory: pytest.TempPathFactory, loopback_identity: Identity, has_ipv6: bool
) -> Iterator[Lesson]:
    starter = Starter(tmp_path_factory.mktemp("lesson"))
    try:
        yield lesson_of(starter, loopback_identity, has_ipv6)
    finally:
        starter.end()


@pytest.fixture(scope="module")
def impatient(
    tmp_path_factory: pytest.TempPathFactory, loopback_identity: Identity, has_ipv6: bool
) -> Iterator[Lesson]:
    """The same with an idle timeout of half a second."""
    starter = Starter(tmp_path_factory.mktemp("impatient"))
    try:
        yield lesson_of(starter, loopback_identity, has_ipv6, "--idle-timeout", "500ms")
    finally:
        starter.end()


def run(*command: str | Path, **more: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, **more)


def connect(*arguments: str) -> subprocess.CompletedProcess[str]:
    return run(BIN / "sockproto", "connect", *arguments)


# L1, L2


@every_kind
def test_the_token_is_welcomed_and_then_the_server_closes(lesson, kind):
    assert lesson.talk(kind, b"1") == WELCOME


# The tutorial's own client does so over tcp in the ordinary run.
@pytest.mark.slow
def test_a_client_may_think_for_two_seconds(lesson):
    clients = [lesson.dial(kind) for kind in lesson.kinds]
    # Not an event that is waited for: the silence itself is what is tried.
    time.sleep(2)
    for each in clients:
        with each:
            each.sendall(b"1")
            assert read_to_end(each) == WELCOME


@every_kind
@pytest.mark.parametrize("word", [b"2", b"11", b"1\n", b"GET / HTTP/1.0\r\n\r\n", bytes(1)])
def test_anything_else_is_asked_out(lesson, kind, word):
    assert lesson.talk(kind, word) == GOODBYE


def test_the_tutorials_own_client_gets_what_it_came_for(lesson):
    _, port = lesson.place("tcp")
    program = HERE / "lesson_client.py"

    with ThreadPoolExecutor() as pool:
        right = pool.submit(run, sys.executable, program, str(port))
        wrong = pool.submit(run, sys.executable, program, str(port), "2")

    assert right.result().stdout == "welcome to server!\n"
    assert wrong.result().stdout == "please go out!\n"


def test_our_client_gets_the_same_from_the_tutorials_own_server(start):
    port = free_port()
    start.program(sys.executable, HERE / "lesson_server.py", str(port))
    eventually(lambda: is_listening(port))
    endpoint = f"tcp:127.0.0.1:{port}"

    right = connect(endpoint, "--send", "1")
    wrong = connect(endpoint, "--send", "hello")

    assert (right.stdout, right.returncode) == ("welcome to server!\n", 0)
    assert (wrong.stdout, wrong.returncode) == ("please go out!\n", 1)
    assert wrong.stderr == "sockproto: peer rejected the handshake: please go out!\n"


@pytest.mark.slow
def test_our_client_that_thinks_too_long_is_cut_off_by_the_tutorials_own_server(start):
    port = free_port()
    server = start.program(sys.executable, HERE / "lesson_server.py", str(port))
    eventually(lambda: is_listening(port))

    late = connect(f"tcp:127.0.0.1:{port}", "--delay", "8")

    assert (late.stdout, late.returncode) == ("", 4)
    assert late.stderr.count("\n") == 1
    server.wait_for("^time out$")


def test_our_client_prints_what_our_server_says(lesson, loopback_identity):
    written = {
        "tcp": "tcp:{}:{}",
        "tcp6": "tcp:\\:\\:1:{1}",
        "unix": "unix:{}",
        "tls": f"tls:{{}}:{{}}:trustRoots={loopback_identity.trusted}",
    }
    places = {kind: lesson.place(kind) for kind in lesson.kinds}
    endpoints = [
        written[kind].format(*([place] if isinstance(place, str) else place))
        for kind, place in places.items()
    ]

    with ThreadPoolExecutor(3) as pool:
        wrong = pool.submit(connect, endpoints[0], "--send", "2")
        right = list(pool.map(lambda at: connect(at, "--send", "1", "--delay", "50ms"), endpoints))

    assert [(each.stdout, each.returncode) for each in right] == [
        ("welcome to server!\n", 0)
    ] * len(endpoints)
    assert (wrong.result().stdout, wrong.result().returncode) == ("please go out!\n", 1)


def test_the_first_log_line_says_what_to_type(lesson):
    assert lesson.server.try_it.startswith("sockproto connect tcp:127.0.0.1:")

    words = lesson.server.try_it.split()
    done = run(BIN / words[0], *words[1:])

    assert (done.stdout, done.returncode) == ("welcome to server!\n", 0)


# L3, L5


@every_kind
def test_a_silent_client_is_closed_without_a_byte_and_the_log_says_time_out(impatient, kind):
    server = impatient.server
    before = len(server.matching("time out"))

    began = time.monotonic()
    with impatient.dial(kind) as client:
        assert read_to_end(client) == b""
        assert time.monotonic() - began > 0.4

    found = server.wait_for(r"time out (\S+) in [\d.]+ m?s: nothing heard for 0\.5 s", before + 1)
    assert ("unix" in found[1]) == (kind == "unix")


def test_silent_clients_hold_nobody_up(lesson):
    kinds = lesson.kinds
    # Not more than can be let in, on a slow machine, before the first of them is shown out.
    silent = [lesson.dial(kind) for kind in kinds * 10]
    try:
        with ThreadPoolExecutor(40) as pool:
            replies = list(pool.map(lambda kind: lesson.talk(kind, b"1"), kinds * 10))
        assert replies == [WELCOME] * len(silent)
        # Nobody was shown out to make room.
        for each in silent:
            each.setblocking(False)
            with pytest.raises((BlockingIOError, ssl.SSLWantReadError)):
                each.recv(1)
    finally:
        for each in silent:
            each.close()


@pytest.mark.slow
def test_five_seconds_of_silence_are_the_default(lesson):
    times = len(lesson.server.matching("time out .*: nothing heard for 5 s"))
    clients = [lesson.dial(kind) for kind in lesson.kinds]

    lesson.server.wait_for("time out .*: nothing heard for 5 s", times + len(clients))

    for each in clients:
        each.close()


# L4


@every_kind
def test_a_client_that_sends_more_than_is_read_receives_the_whole_reply(lesson, kind):
    for size in (1024, 1025, 5000, 1_000_000):
        with lesson.dial(kind) as client:
            assert flood(client, b"1", size - 1) == (GOODBYE, 0)


def test_the_first_1024_bytes_decide(start, loopback_identity, has_ipv6):
    word = "a" * 1024
    options = ["--handshake", f"welcome:token={word}"]
    served = lesson_of(start, loopback_identity, has_ipv6, *options)

    for kind in served.kinds:
        assert served.talk(kind, word.encode() + b"and more") == WELCOME
        assert served.talk(kind, word.encode()[:-1] + b"band more") == GOODBYE


# L6

TWISTD = (BIN / "twistd", "-n", "--pidfile=")
DAEMON = (BIN / "twistd", "--pidfile=daemon.pid", "--logfile=daemon.log")
TWIST = (BIN / "twist",)
RUNNERS = {"twistd": TWISTD, "daemon": DAEMON, "twist": TWIST}


@pytest.mark.parametrize("runner", RUNNERS)
def test_a_mistake_in_where_to_listen_is_one_line(tmp_path, runner):
    taken = socket.create_server(("127.0.0.1", 0))
    port = taken.getsockname()[1]
    (tmp_path / "file").write_text("mine")
    expected = {
        f"tcp:{port}:interface=127.0.0.1": "address already in use; stop whoever listens there",
        f"tcp:0:interface={NOWHERE}": "name or service not known",
        "tcp:0:interface=192.0.2.1": "no interface of this machine has that address",
        "nonsense": "an endpoint is written like",
        "tcp:high": "an endpoint is written like",
        "unix:file": "a file that is no socket is in the way",
        "unix:no/such/folder": "no such file or directory",
    }
    if runner != "twistd":
        expected = dict(list(expected.items())[:2])

    def attempt(listen: str) -> subprocess.CompletedProcess[str]:
        return run(*RUNNERS[runner], "sockserver", "--listen", listen, cwd=tmp_path)

    with taken, ThreadPoolExecutor(3) as pool:
        done = dict(zip(expected, pool.map(attempt, expected), strict=True))

    for listen, reason in expected.items():
        said = done[listen].stdout + done[listen].stderr
        assert said.startswith(f"sockserver: cannot listen on {listen}: "), said
        assert reason in said
        assert said.count("\n") == 1
        assert done[listen].returncode == 1
    assert (tmp_path / "file").read_text() == "mine"
    assert not (tmp_path / "daemon.pid").exists()


@pytest.mark.parametrize("runner", RUNNERS)
def test_a_privileged_port_is_refused_to_a_plain_user_in_one_line(tmp_path, runner):
    first_free = int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text())
    if first_free < 2:
        pytest.skip("net.ipv4.ip_unprivileged_port_start lets everybody have every port")
    tmp_path.chmod(0o777)

    listen = f"tcp:{first_free - 1}:interface=127.0.0.1"
    done = run(*plain_user(), *RUNNERS[runner], "sockserver", "--listen", listen, cwd=tmp_path)

    assert done.stdout + done.stderr == (
        f"sockserver: cannot listen on {listen}: permission denied; "
        "ports below 1024 need root or CAP_NET_BIND_SERVICE\n"
    )
    assert done.returncode == 1


def plain_user() -> list[str]:
    """How to run a command as nobody, who may read what is root's, since Python may lie there."""
    if os.getuid():
        return []
    setpriv = shutil.which("setpriv")
    assert setpriv is not None, "setpriv of util-linux is needed to become a plain user"
    who = [setpriv, "--reuid=65534", "--regid=65534", "--clear-groups"]
    return [*who, "--inh-caps=-all,+dac_read_search", "--ambient-caps=+dac_read_search"]


# L7


@pytest.mark.parametrize(
    ("endpoint", "reason"),
    [
        ("tcp:127.0.0.1:{port}", "onnection was refused"),
        ("unix:{folder}/nobody", "o such file or directory"),
        (f"tcp:{NOWHERE}:1", NOWHERE),
    ],
)
def test_a_client_that_cannot_connect_says_so_in_one_line(tmp_path, endpoint, reason):
    endpoint = endpoint.format(port=free_port(), folder=tmp_path)

    done = connect(endpoint, "--send", "1")

    assert done.returncode == 3
    assert done.stdout == ""
    assert done.stderr.startswith(f"sockproto: cannot connect to {endpoint}: ")
    assert reason in done.stderr
    assert done.stderr.count("\n") == 1


# L9, L10


@pytest.fixture
def stopped(lesson: Lesson) -> Iterator[Lesson]:
    """The server, while it can do nothing: all that happens is the kernel's doing."""
    lesson.server.send(signal.SIGSTOP)
    try:
        yield lesson
    finally:
        lesson.server.send(signal.SIGCONT)


@every_plain_kind
def test_300_clients_connect_while_the_server_is_busy(stopped, kind):
    clients = []
    try:
        for _ in range(300):
            clients.append(stopped.dial(kind))
        for each in clients:
            each.sendall(b"1")
        stopped.server.send(signal.SIGCONT)
        assert [read_to_end(each) for each in clients] == [WELCOME] * 300
    finally:
        for each in clients:
            each.close()


@every_plain_kind
def test_what_a_client_sends_before_it_is_accepted_is_not_lost(stopped, kind):
    with stopped.dial(kind) as patient, stopped.dial(kind) as hasty:
        patient.sendall(b"1")
        hasty.sendall(b"1")
        hasty.shutdown(socket.SHUT_WR)
        stopped.server.send(signal.SIGCONT)
        assert read_to_end(patient) == WELCOME
        assert read_to_end(hasty) == WELCOME


def test_what_a_tls_client_sends_before_it_is_accepted_is_not_lost(stopped):
    with ThreadPoolExecutor() as pool:
        answer = pool.submit(stopped.talk, "tls", b"1")
        assert not answer.done()
        stopped.server.send(signal.SIGCONT)
        assert answer.result(PATIENCE) == WELCOME


@pytest.mark.parametrize("backlog", ["0", "-1", "many"])
def test_a_backlog_is_at_least_one(tmp_path, backlog):
    done = run(*TWISTD, "sockserver", "--backlog", backlog, cwd=tmp_path)

    assert done.returncode == 1
    said = f"--backlog: {backlog!r} is not a whole number from 1 to 2147483647"
    assert done.stdout + done.stderr == f"sockserver: {said}\n"
