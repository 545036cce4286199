"""The service under each of Twisted's runners, as an operator would start it."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path
from sysconfig import get_path

import pytest

from .kit import BIN, PATIENCE, Starter, dial, eventually, read_to_end, talk, where

WELCOME = b"welcome to server!"
CHECKOUT = Path(__file__).parents[2]

RUNNERS = {
    "twistd": [str(BIN / "twistd"), "-n", "--pidfile="],
    "twist": [str(BIN / "twist")],
    "python -m twisted": [sys.executable, "-m", "twisted"],
}
LOCAL = ["--listen", "tcp:0:interface=127.0.0.1"]

SESSIONS = """
from twisted.internet.protocol import Factory, Protocol

from sockproto import Accept


class Choosing:
    async def serve(self, peer):
        return Accept(b"ok\\n", session=(await peer.receive_line(64)).decode())


class Shout(Protocol):
    def dataReceived(self, data):
        self.transport.write(data.upper())
        self.transport.loseConnection()


shout = Factory.forProtocol(Shout)
"""


@pytest.mark.parametrize("runner", RUNNERS)
def test_it_serves_until_it_is_told_to_stop(start, runner):
    server = start.sockserver(runner=RUNNERS[runner])

    assert talk(server.place, b"1") == WELCOME
    server.stop()

    server.wait_for(r"accepted 127\.0\.0\.1:\d+ in [\d.]+ m?s")
    assert not server.matching("Traceback|Unhandled")
    # No process id, no log, no cache: twistd writes them if it is let.
    assert list(start.cwd.iterdir()) == []


def test_it_runs_from_a_bare_checkout(start):
    """With everything that is installed except sockproto, on ``PYTHONPATH``."""
    site = start.cwd / "site"
    site.mkdir()
    for folder in {get_path("purelib"), get_path("platlib")}:
        for entry in Path(folder).iterdir():
            if "sockproto" not in entry.name and not entry.name.endswith(".pth"):
                (site / entry.name).symlink_to(entry)
    bare = start.cwd / "bare"
    shutil.copytree(CHECKOUT / "sockproto", bare / "sockproto")
    shutil.copytree(CHECKOUT / "twisted", bare / "twisted")
    # -S: no site-packages but ours.
    python = [sys.executable, "-S"]
    environment = {"PYTHONPATH": str(site)}
    elsewhere = subprocess.run(
        [*python, "-c", "import twisted, sockproto"],
        cwd=site,
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert "No module named 'sockproto'" in elsewhere.stderr

    server = start.sockserver(runner=[*python, "-m", "twisted"], cwd=bare, env=environment)

    assert talk(server.place, b"1") == WELCOME
    server.stop()


def test_it_serves_from_the_background(tmp_path):
    pidfile, log = tmp_path / "door.pid", tmp_path / "door.log"
    command = [str(BIN / "twistd"), f"--pidfile={pidfile}", f"--logfile={log}"]

    started = subprocess.run(
        [*command, "sockserver", *LOCAL],
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        timeout=PATIENCE,
    )
    assert started.returncode == 0
    eventually(lambda: pidfile.exists() and pidfile.read_text().strip())
    pid = int(pidfile.read_text())
    try:
        eventually(lambda: log.exists() and "listens on" in log.read_text())
        found = re.search(r"listens on (\S+);", log.read_text())
        assert found is not None
        assert talk(where(found[1]), b"1") == WELCOME
        os.kill(pid, signal.SIGTERM)
        eventually(lambda: not alive(pid))
    finally:
        if alive(pid):
            os.kill(pid, signal.SIGKILL)

    assert not pidfile.exists()
    assert "Server Shut Down" in log.read_text()
    assert "Traceback" not in log.read_text()


def alive(pid: int) -> bool:
    """Whether a process that is not our child is there, and not just waiting to be reaped."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


@pytest.mark.parametrize("runner", RUNNERS)
def test_a_session_is_found_in_the_working_directory(start, runner):
    (start.cwd / "loud.py").write_text(SESSIONS)
    server = start.sockserver(
        "--handshake", "passphrase:sesame", "--session", "loud:shout", runner=RUNNERS[runner]
    )

    assert talk(server.place, b"sesame\nhello") == b"OK\nHELLO"
    assert talk(server.place, b"mellon\nhello") == b"NO\n"


def test_a_handshake_chooses_a_session_by_its_name(start):
    (start.cwd / "loud.py").write_text(SESSIONS)
    options = ["--handshake", "loud:Choosing"]
    options += ["--session", "back=echo", "--session", "loud=loud:Shout"]
    server = start.sockserver(*options)

    assert talk(server.place, b"loud\nhello") == b"ok\nHELLO"
    with dial(server.place) as client:
        client.sendall(b"back\nhello")
        client.shutdown(socket.SHUT_WR)
        assert read_to_end(client) == b"ok\nhello"
    assert talk(server.place, b"none\nhello") == b""
    server.wait_for("crashed .*'none', which is not on offer: back, loud")


def test_a_unix_socket_is_private_and_is_removed_in_the_end(start):
    path = start.cwd / "door"
    old = os.umask(0)
    try:
        server = start.sockserver("--listen", "unix:door")
    finally:
        os.umask(old)

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert talk(str(path), b"1") == WELCOME
    server.stop()
    assert not path.exists()


def test_a_unix_socket_that_a_dead_server_has_left_is_taken_over(start):
    server = start.sockserver("--listen", "unix:door")
    server.send(signal.SIGKILL)
    server.wait()
    assert (start.cwd / "door").exists()

    start.sockserver("--listen", "unix:door")

    assert talk(str(start.cwd / "door"), b"1") == WELCOME


def test_a_unix_socket_of_a_living_server_is_left_alone(start):
    start.sockserver("--listen", "unix:door")

    command = [*RUNNERS["twistd"], "sockserver", "--listen", "unix:door"]
    second = subprocess.run(
        command, cwd=start.cwd, capture_output=True, text=True, timeout=PATIENCE
    )

    assert second.returncode == 1
    assert second.stderr.startswith("sockserver: cannot listen on unix:door: ")
    assert second.stderr.count("\n") == 1
    assert talk(str(start.cwd / "door"), b"1") == WELCOME


ACTIVATE = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_FDS="1", LISTEN_FDNAMES="door", LISTEN_PID=str(os.getpid()))
os.execv(sys.argv[2], sys.argv[2:])
"""


@pytest.mark.parametrize("which", ["index=0", "name=door"])
def test_a_socket_can_come_from_systemd(start, which):
    with socket.create_server(("127.0.0.1", 0)) as listening:
        place = listening.getsockname()
        with dial(place) as early:
            early.sendall(b"1")
            handle = listening.fileno()
            activate = [sys.executable, "-c", ACTIVATE, str(handle), *RUNNERS["twistd"]]
            server = start.sockserver(
                "--listen", f"systemd:domain=INET:{which}", runner=activate, pass_fds=[handle]
            )
            assert server.place == place
            assert read_to_end(early) == WELCOME
        assert talk(place, b"1") == WELCOME
        server.stop()


def test_without_systemd_its_socket_is_missed_in_one_line(tmp_path):
    command = [*RUNNERS["twistd"], "sockserver", "--listen", "systemd:domain=INET:index=0"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE)

    assert done.returncode == 1
    assert done.stderr == (
        "sockserver: cannot listen on systemd:domain=INET:index=0: no such socket was passed "
        "to us; is LISTEN_FDS set, as sd_listen_fds(3) has it?\n"
    )


@pytest.mark.parametrize("runner", RUNNERS)
def test_the_version_is_one_line(tmp_path, runner):
    command = [*RUNNERS[runner], "sockserver", "--version"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE)

    expected = r"sockproto \S+, Twisted [\d.]+\S*, Python 3\.[\d.]+\S*, \w+Reactor\n"
    assert re.fullmatch(expected, done.stdout)
    assert done.returncode == 0


@pytest.mark.parametrize(
    "runner",
    [
        "twistd",
        *(pytest.param(each, marks=pytest.mark.slow) for each in RUNNERS if each != "twistd"),
    ],
)
def test_a_stop_ends_every_connection_within_the_close_timeout(start, runner):
    limits = ["--close-timeout", "500ms", "--idle-timeout", "off", "--handshake-timeout", "off"]
    server = start.sockserver(
        *limits, "--handshake", "passphrase:sesame", "--session", "echo", runner=RUNNERS[runner]
    )
    silent, rejected, idle, stuck = clients = [dial(server.place, buffer=4096) for _ in range(4)]
    try:
        rejected.sendall(b"mellon\n")
        idle.sendall(b"sesame\n")
        stuck.sendall(b"sesame\n")
        server.wait_for("accepted", 2)
        server.wait_for("rejected")
        stuck.settimeout(0.5)
        with pytest.raises(TimeoutError):
            stuck.sendall(bytes(100_000_000))

        server.stop()

        assert read_to_end(silent) == b""
        assert read_to_end(rejected) == b"NO\n"
        assert read_to_end(idle) == b"OK\n"
        with pytest.raises(ConnectionResetError):
            read_to_end(stuck)
    finally:
        for each in clients:
            each.close()
    assert not server.matching("Traceback|Unhandled")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_waits_for_nobody(start, number):
    server = start.sockserver(
        *("--close-timeout", "1h", "--idle-timeout", "off", "--handshake-timeout", "off"),
        *("--handshake", "passphrase:sesame", "--session", "echo"),
    )
    with dial(server.place, buffer=4096) as stuck, dial(server.place) as silent:
        stuck.sendall(b"sesame\n")
        server.wait_for("accepted")
        stuck.settimeout(0.5)
        with pytest.raises(TimeoutError):
            stuck.sendall(bytes(100_000_000))

        server.send(number)
        # It stops, and would wait for the other one.
        assert read_to_end(silent) == b""
        server.send(number)

        assert server.wait() == -number
    server.wait_for("told to stop again, and waiting for nobody any longer")
    assert not server.matching("Traceback|Unhandled|critical")


def test_a_starter_leaves_no_process(tmp_path):
    starter = Starter(tmp_path)
    server = starter.sockserver()

    starter.end()

    assert not alive(server.pid)
