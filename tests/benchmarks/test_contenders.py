import sys
from pathlib import Path

import pytest

from benchmarks import contenders
from benchmarks.contenders import CONTENDERS, NAMES, SOCKPROTO, TLS, Contender
from benchmarks.job import ECHO, FORWARD, LESSON, SESSION, Job
from benchmarks.sections import SECTIONS
from benchmarks.workshop import Workshop


def contender(**more):
    return Contender("one", "One", lambda job, workshop: [], (LESSON,), **more)


@pytest.fixture
def workshop(tmp_path):
    return Workshop(tmp_path)


@pytest.fixture
def sockserver(monkeypatch, workshop):
    """The command line of a sockserver that knows so many options."""

    def command(*known, **job):
        monkeypatch.setattr(contenders, "sockserver_options", lambda: frozenset(known))
        found = next(each for each in CONTENDERS if each.name == SOCKPROTO)
        return found, found.command(Job(**{"name": LESSON, "port": 8471, **job}), workshop)

    return command


def test_a_missing_program_is_named():
    assert contender(programs=("no-such-program",)).missing([LESSON]) == (
        "not measured: no-such-program is not in the PATH"
    )


def test_a_missing_package_is_named():
    assert contender(packages=("no_such_package",)).missing([LESSON]) == (
        "not measured: the Python package no_such_package is not installed"
    )


def test_a_job_that_it_cannot_do_is_named():
    assert contender().missing([ECHO]) == "not measured: it does not echo"
    assert contender().missing([LESSON, TLS]) == "not measured: it does not speak TLS"


def test_whoever_has_everything_is_not_missing():
    assert contender(programs=("sh",), packages=("json",)).missing([LESSON]) is None


def test_names_are_unique():
    assert len(set(NAMES)) == len(CONTENDERS)


def test_the_access_log_is_off_where_there_is_an_option_for_it(sockserver):
    found, command = sockserver("--access-log")

    assert command[-2:] == ["--access-log", "off"]
    assert found.caveat() is None


def test_a_version_without_that_option_is_measured_with_a_note(sockserver):
    found, command = sockserver()

    assert "--access-log" not in command
    assert found.caveat() == "this version has no --access-log; its access log is on"


def test_a_sockserver_is_told_its_job(sockserver):
    _, command = sockserver(name=SESSION, timeout=600.0)

    options = command[command.index("sockserver") + 1 :]
    assert options == [
        "--listen",
        "tcp:8471:interface=127.0.0.1",
        "--backlog",
        "4096",
        "--idle-timeout",
        "600",
        "--handshake-timeout",
        "1200",
        "--handshake",
        "passphrase:sesame",
        "--session",
        "echo",
    ]


def test_a_sockserver_forwards_to_the_backend(sockserver):
    _, command = sockserver(name=FORWARD, backend=8472)

    assert command[-1] == "forward:tcp:127.0.0.1:8472"


def test_a_sockserver_speaks_tls(sockserver):
    _, command = sockserver(certificate=Path("identity.pem"))

    listen = command[command.index("--listen") + 1]
    assert listen == "tls:8471:interface=127.0.0.1:cert=identity.pem:key=identity.pem"


def test_a_server_in_python_is_told_its_job(workshop):
    found = next(each for each in CONTENDERS if each.name == "twisted")

    job = Job(FORWARD, 8471, 600.0, Path("/tmp/identity.pem"), 8472)
    assert found.command(job, workshop) == [
        *(sys.executable, "-m", "benchmarks.servers", "twisted", "8471"),
        *("--job", "forward", "--timeout", "600"),
        *("--certificate", "/tmp/identity.pem", "--backend", "8472"),
    ]


def test_haproxy_gets_a_file_with_both_ports(workshop):
    found = next(each for each in CONTENDERS if each.name == "haproxy")

    command = found.command(Job(FORWARD, 8471, backend=8472), workshop)

    assert command[:4] == ["haproxy", "-db", "-q", "-f"]
    written = Path(command[4]).read_text()
    assert "bind 127.0.0.1:8471\n" in written
    assert "server backend 127.0.0.1:8472\n" in written


def test_the_sections_are_those_that_the_readme_names():
    text = (Path(contenders.__file__).parent / "README.md").read_text()

    assert ", ".join(f"`{name}`" for name in SECTIONS) in text
