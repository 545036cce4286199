"""The examples that no terminal plays, and what a terminal does not show of the others."""

from __future__ import annotations

import os
import shlex
import shutil
import socket
import sys
from collections.abc import Callable, Iterator
from configparser import ConfigParser
from importlib import import_module
from types import ModuleType

import pytest
import pytest_twisted
from integration.kit import (
    BIN,
    dial,
    eventually,
    free_port,
    is_listening,
    read_to_end,
    talk,
)
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.protocol import Factory

from sockproto import Accept, Address, Ending, PeerFacts, ProtocolViolation, Reject, TlsFacts
from sockproto.handshakes.passphrase import Passphrase
from sockproto.handshakes.welcome import Welcome
from sockproto.service.options import Options
from sockproto.testing import converse, rehearse

from .pages import EXAMPLES

HAPROXY = shutil.which("haproxy") or shutil.which("haproxy", path="/usr/sbin")


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], ModuleType]]:
    """Imports an example by the name of its file."""
    known = set(sys.modules)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def load(name: str) -> ModuleType:
        folder, _, file = name.rpartition("/")
        monkeypatch.syspath_prepend(EXAMPLES / folder)
        return import_module(file.removesuffix(".py"))

    yield load
    for name in set(sys.modules) - known:
        if str(EXAMPLES) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def unit(name: str) -> ConfigParser:
    """Read a unit of systemd's."""
    read = ConfigParser(delimiters=("=",), interpolation=None)
    read.optionxform = str  # type: ignore[method-assign,assignment]
    read.read_string((EXAMPLES / name).read_text())
    return read


def test_the_door_lets_in_whoever_knows_the_word(example):
    door = example("door.py")

    assert converse(door.Passphrase(b"sesame").serve, b"sesame\n") == Accept(b"OK\n")
    assert rehearse(door.Passphrase(b"sesame")).client == Accept()


def test_a_room_is_chosen_by_its_name(example):
    side = example("rooms.py").Rooms().serve
    facts = PeerFacts(sessions=("echo", "quiet"))

    assert converse(side, b"quiet\n", facts=facts) == Accept(b"this way\n", session="quiet")
    assert converse(side, b"attic\n", facts=facts) == Reject(
        b"no such room\n", reason="no room is called attic"
    )


def test_a_member_is_whoever_the_directory_knows(example):
    class Found:
        def find(self, number: bytes) -> Deferred[str | None]:
            return succeed({b"7": "ann"}.get(number))

    side = example("members.py").Members(Found()).serve

    assert converse(side, b"7\n") == Accept(b"OK\n", identity="ann")
    assert converse(side, b"8\n") == Reject(b"NO\n", reason="not a member")


@pytest_twisted.ensureDeferred
async def test_nobody_is_a_member_while_the_directory_is_broken(
    example, sockproto_server, logged_failures
):
    class Broken:
        def find(self, number: bytes) -> Deferred[str | None]:
            return fail(OSError("the directory is gone"))

    server = await sockproto_server(example("members.py").Members(Broken()))

    assert await server.say(b"7\n") == b""
    assert [each.reason for each in server.verdicts] == ["crashed"]


@pytest_twisted.ensureDeferred
async def test_the_greeter_knows_whom_it_greets(example, sockproto_server):
    guests, greeter = example("guests.py"), example("greeter.py")
    session = Factory.forProtocol(greeter.Greeter)
    server = await sockproto_server(guests.GuestList("ann,bob"), session)

    assert await server.say(b"bob\n") == b"who is there?\ncome in\nhello bob\n"


@pytest_twisted.ensureDeferred
async def test_endings_are_counted(example, sockproto_server):
    tally = example("tally.py").Tally()
    server = await sockproto_server(Welcome(), observers=[tally])

    for word in (b"1", b"2", b"2"):
        await server.say(word)
    await server.stop()

    assert tally.endings == {Ending("accepted", "closing"): 1, Ending("rejected", "closing"): 2}


def test_whoever_knocks_three_times_comes_in(example):
    knock = example("knock/knock.py").Knock()

    assert converse(knock.serve, b"knockknockknock\n") == Accept(b"come in\n")
    assert converse(knock.serve, b"knock\n") == Reject(b"nobody is at home\n", reason="wrong knock")
    assert rehearse(knock).client == Accept()


def test_the_entry_points_of_the_package_name_what_is_there(example):
    config = ConfigParser()
    config.read(EXAMPLES / "knock/setup.cfg")
    knock = example("knock/knock.py")

    assert config["options"]["py_modules"] == "knock"
    found = "".join(config["options.entry_points"].values()).strip().splitlines()
    assert found == ["knock = knock:Knock", "time = knock:Time"]
    assert callable(knock.Knock)
    assert callable(knock.Time)


@pytest_twisted.ensureDeferred
async def test_the_time_is_told_and_then_the_server_closes(example, sockproto_server):
    session = Factory.forProtocol(example("knock/knock.py").Time)
    server = await sockproto_server(Welcome(), session)

    assert (await server.say(b"1")).endswith(b" UTC\n")


def test_the_command_of_the_unit_is_one_that_sockserver_takes(monkeypatch, tmp_path):
    service = unit("sockserver.service")["Service"]
    program, *rest = shlex.split(service["ExecStart"])
    options = rest[rest.index("sockserver") + 1 :]
    variable, value = service["Environment"].split("=", 1)
    # What systemd calls %d is the folder with the credentials.
    monkeypatch.setenv(variable, value.replace("%d", str(tmp_path)))
    (tmp_path / "word").write_text("sesame\n")
    settings = (EXAMPLES / "sockserver.toml").read_text()
    (tmp_path / "sockserver.toml").write_text(settings)

    read = Options()
    read.parseOptions([each.replace("/etc", str(tmp_path)) for each in options])

    assert program.endswith("/bin/twistd")
    assert rest[:2] == ["-n", "--pidfile="]
    assert isinstance(read.handshake, Passphrase)
    assert (read.limits.idle_timeout, read.limits.handshake_timeout) == (30.0, 60.0)
    assert variable == "SOCKSERVER_HANDSHAKE"
    assert service["LoadCredential"].startswith("word:")


def test_whoever_comes_while_the_service_of_a_socket_is_down_is_served_when_it_is_up(
    start, tmp_path
):
    held, service = unit("door.socket"), unit("door.service")
    program, *rest = shlex.split(service["Service"]["ExecStart"])
    options = rest[rest.index("sockserver") + 1 :]
    variable, value = service["Service"]["Environment"].split("=", 1)
    (tmp_path / "word").write_text("sesame\n")
    host, _, port = held["Socket"]["ListenStream"].partition(":")
    with socket.create_server((host, 0), backlog=int(held["Socket"]["Backlog"])) as door:
        # Only the shell that becomes it knows which process it is (sd_listen_fds(3)).
        becomes = f'export LISTEN_PID=$$; exec "$0" "$@" 3<&{door.fileno()}'
        environment = {
            "LISTEN_FDS": "1",
            "LISTEN_FDNAMES": held["Socket"]["FileDescriptorName"],
            variable: value.replace("%d", str(tmp_path)),
        }
        for _ in range(2):
            with dial(door.getsockname()) as client:
                client.sendall(b"sesame\nhello")
                client.shutdown(socket.SHUT_WR)
                server = start.sockserver(
                    *options,
                    runner=("bash", "-c", becomes, BIN / "twistd", *rest[:2]),
                    env=environment,
                    pass_fds=[door.fileno()],
                )

                assert server.place == door.getsockname()
                assert read_to_end(client) == b"OK\nhello"
            # As options.rst has it, which counts as the shell does.
            assert 128 - server.stop() == 143

    assert program.endswith("/bin/twistd")
    assert rest[:2] == ["-n", "--pidfile="]
    assert port == "8471"
    assert service["Unit"]["Requires"] == "door.socket"


def test_sessions_are_bounded_as_the_settings_say():
    read = Options()
    read.parseOptions(["--config", str(EXAMPLES / "bounded.toml")])

    assert read.limits.session_idle_timeout == 600.0
    assert read.limits.session_lifetime == 8 * 3600.0


def test_the_limits_of_the_how_to_are_those_that_it_tells_of():
    read = Options()
    read.parseOptions(["--config", str(EXAMPLES / "limits.toml")])

    policy = read.policy_for(20_000)
    assert (policy.max_connections, str(policy.max_pending)) == (5000, "512:30:2048")
    assert str(policy.max_rate_per_source) == "50/10s"
    assert str(policy.exempt) == "127.0.0.0/8,198.51.100.0/24,::1/128"
    assert policy.exempt_unix
    assert policy.goodbye == b"421 too many connections, try again later\r\n"


@pytest.mark.skipif(
    not HAPROXY and os.environ.get("CI") != "true",
    reason="haproxy is not installed: apt-get install haproxy",
)
def test_behind_haproxy_the_log_shows_the_real_client(start, tmp_path):
    ours, theirs = free_port(), free_port()
    server = start.sockserver(
        *("--listen", f"tcp:{ours}:interface=127.0.0.1"),
        *("--proxy-protocol", "auto", "--proxy-allow-from", "127.0.0.1"),
    )
    config = (EXAMPLES / "haproxy.cfg").read_text()
    (tmp_path / "haproxy.cfg").write_text(
        config.replace("8001", str(ours)).replace("8471", str(theirs))
    )
    start.program(HAPROXY, "-db", "-f", tmp_path / "haproxy.cfg")
    eventually(lambda: is_listening(theirs))

    with dial(("127.0.0.1", theirs)) as client:
        port = client.getsockname()[1]
        client.sendall(b"1")

        assert read_to_end(client) == b"welcome to server!"
    server.wait_for(rf"accepted 127\.0\.0\.1:{port} in ")


def test_a_certificate_is_enough_if_there_is_a_name_in_it(example):
    handshake = example("by_certificate.py").ByCertificate()
    ann = PeerFacts(tls=TlsFacts(names=("ann.example.org", "ann")))

    assert converse(handshake.serve, b"", facts=ann) == Accept(
        b"hello ann.example.org\n", identity="ann.example.org"
    )
    assert converse(handshake.serve, b"") == Reject(
        b"who are you?\n", reason="no certificate with a name in it"
    )
    assert rehearse(handshake, server_facts=ann).client == Accept()
    assert rehearse(handshake).client == Reject(reason="who are you?")


def test_the_word_is_said_over_tls_alone(example):
    handshake = example("upgrade.py").Upgrade(b"sesame")
    rehearsal = rehearse(handshake)

    assert (rehearsal.server, rehearsal.client) == (Accept(b"OK\n"), Accept())
    assert converse(handshake.serve, b"sesame\n") == Reject(b"NO\n", reason="no wish for TLS")
    with pytest.raises(ProtocolViolation) as refused:
        converse(handshake.serve, b"TLS\nsesame\n")
    assert "in the clear" in str(refused.value)


def test_a_stranger_from_a_network_that_is_denied_does_not_begin(example):
    admission = example("guarded.py").factory._admission

    assert "deny" in admission.admit(Address.ip("203.0.113.9", 4711))
    tickets = [admission.admit(Address.ip("192.0.2.1", port)) for port in range(5)]
    assert [isinstance(each, str) for each in tickets] == [False] * 4 + [True]


def test_the_lessons_server_welcomes_the_token(start):
    port = free_port()
    program = (EXAMPLES / "lesson_server.py").read_text().replace("8001", str(port))
    start.program(sys.executable, "-c", program)
    eventually(lambda: is_listening(port))

    assert talk(("127.0.0.1", port), b"1") == b"welcome to server!"
    assert talk(("127.0.0.1", port), b"2") == b"please go out!"


@pytest.mark.parametrize(
    "name", ["before_socketserver.py", "before_asyncio.py", "before_timeoutmixin.py"]
)
def test_what_people_move_from_works_too(start, name):
    port = free_port()
    program = (EXAMPLES / name).read_text().replace("8471", str(port))
    (start.cwd / name).write_text(program)

    start.program(sys.executable, "-u", name).wait_for("listens on")

    for said, answered in ((b"sesame\nhello\n", b"OK\nhello\n"), (b"simsim\n", b"NO\n")):
        with dial(("127.0.0.1", port)) as client:
            client.sendall(said)
            heard = b""
            while len(heard) < len(answered):
                heard += client.recv(100)
            assert heard == answered
