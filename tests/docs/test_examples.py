"""The examples that no terminal plays, and what a terminal does not show of the others."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterator
from configparser import ConfigParser
from importlib import import_module
from types import ModuleType

import pytest
import pytest_twisted
from integration.kit import eventually, free_port, is_listening, talk
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.protocol import Factory

from sockproto import Accept, Ending, PeerFacts, Reject
from sockproto.handshakes.passphrase import Passphrase
from sockproto.handshakes.welcome import Welcome
from sockproto.service.options import Options
from sockproto.testing import converse, rehearse

from .pages import EXAMPLES


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
    unit = ConfigParser(delimiters=("=",), interpolation=None)
    unit.optionxform = str
    unit.read_string((EXAMPLES / "sockserver.service").read_text())
    program, *rest = shlex.split(unit["Service"]["ExecStart"])
    options = rest[rest.index("sockserver") + 1 :]
    variable, value = unit["Service"]["Environment"].split("=", 1)
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
    assert unit["Service"]["LoadCredential"].startswith("word:")


def test_the_lessons_server_welcomes_the_token(start):
    port = free_port()
    program = (EXAMPLES / "lesson_server.py").read_text().replace("8001", str(port))
    start.program(sys.executable, "-c", program)
    eventually(lambda: is_listening(port))

    assert talk(("127.0.0.1", port), b"1") == b"welcome to server!"
    assert talk(("127.0.0.1", port), b"2") == b"please go out!"
