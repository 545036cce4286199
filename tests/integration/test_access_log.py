"""The access log of a real server: wherever it goes, no line is missing and none is alone."""

from __future__ import annotations

import json
import os
import shlex

import pytest

from .kit import BIN, dial, eventually, read_to_end, talk

WELCOME = b"welcome to server!"
STAMP = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{4}"
LINE = r"accepted 127\.0\.0\.1:\d+ in [\d.]+ m?s$"

RUNNERS = {
    "twistd": (BIN / "twistd", "-n", "--pidfile="),
    # Where no terminal is, it would write JSON.
    "twist": (BIN / "twist", "--log-format=text"),
}


def crowd(place, size=60):
    """Clients that are served in a few turns; gives the ports that they come from."""
    clients = [dial(place) for _ in range(size)]
    ports = [client.getsockname()[1] for client in clients]
    for client in clients:
        client.sendall(b"1")
    for client in clients:
        with client:
            assert read_to_end(client) == WELCOME
    return sorted(ports)


def ports_in(lines):
    found = [each.split("accepted 127.0.0.1:")[1] for each in lines if "accepted " in each]
    return sorted(int(each.split()[0]) for each in found)


@pytest.mark.parametrize("runner", RUNNERS)
def test_in_the_log_each_connection_has_a_line_with_a_time_as_twisted_writes_it(start, runner):
    server = start.sockserver(runner=RUNNERS[runner])

    ports = crowd(server.place)
    server.stop()

    assert len(server.matching(rf"^{STAMP} \[sockproto#info\] {LINE}")) == len(ports)
    assert ports_in(server.lines) == ports


def test_the_lines_stand_among_those_that_twisted_writes(start):
    server = start.sockserver()

    crowd(server.place, 3)
    server.wait_for(LINE, count=3)
    server.stop()

    order = [
        next(number for number, line in enumerate(server.lines) if words in line)
        for words in ("listens on", "accepted ", "Received SIGTERM", "Server Shut Down")
    ]
    assert order == sorted(order)


def test_they_go_into_the_file_of_the_log_and_into_the_next_when_it_is_full(start):
    program = "from twisted.logger import textFileLogObserver as text\n"
    program += "from twisted.python.logfile import LogFile\n"
    program += "def small(): return text(LogFile('door.log', '.', rotateLength=2000))\n"
    (start.cwd / "logs.py").write_text(program)
    server = start.program(
        *(*RUNNERS["twistd"], "--logger=logs.small"),
        *("sockserver", "--listen=unix:door"),
        env={"PYTHONPATH": str(start.cwd)},
    )
    eventually((start.cwd / "door").exists)

    for _ in range(60):
        assert talk(str(start.cwd / "door"), b"1") == WELCOME
    server.stop()

    files = list(start.cwd.glob("door.log*"))
    assert len(files) > 1
    assert sum(each.read_text().count("#info] accepted unix in ") for each in files) == 60


def test_as_json_each_connection_is_an_object(start):
    server = start.program(
        *(BIN / "twist", "--log-format=json", "--log-file=log.json"),
        *("sockserver", "--listen=unix:door"),
    )
    eventually((start.cwd / "door").exists)

    for _ in range(20):
        assert talk(str(start.cwd / "door"), b"1") == WELCOME
    server.stop()

    records = (start.cwd / "log.json").read_text().split("\x1e")[1:]
    lines = [each.get("line", "") for each in map(json.loads, records)]
    assert sum(each.startswith("accepted unix in ") for each in lines) == 20


@pytest.mark.parametrize("runner", RUNNERS)
def test_in_a_file_of_its_own_each_connection_has_a_line_and_in_the_log_none(start, runner):
    server = start.sockserver("--access-log", "access.log", runner=RUNNERS[runner])

    ports = crowd(server.place)
    server.stop()

    lines = (start.cwd / "access.log").read_text().splitlines()
    assert ports_in(lines) == ports
    assert ports_in(server.lines) == []


def test_a_file_that_is_renamed_is_followed_by_a_new_one(start):
    server = start.sockserver("--access-log=access.log", "--listen=unix:door")
    place, file = str(start.cwd / "door"), start.cwd / "access.log"
    talk(place, b"1")
    eventually(file.read_text)

    file.rename(start.cwd / "access.log.1")
    served = 1

    def is_there_for_another() -> bool:
        nonlocal served
        talk(place, b"1")
        served += 1
        return file.exists()

    # Not as fast as can be: of very many in a minute the last are counted, and not told of.
    eventually(is_there_for_another)
    server.stop()

    both = file.read_text() + (start.cwd / "access.log.1").read_text()
    assert both.count(" accepted unix in ") == served


def test_off_is_silence(start):
    server = start.sockserver("--access-log", "off")

    crowd(server.place, 3)
    server.stop()

    assert ports_in(server.lines) == []


def test_an_open_handshake_has_its_line_at_a_stop(start):
    server = start.sockserver("--access-log=access.log", "--listen=unix:door")
    with dial(str(start.cwd / "door")) as client:
        talk(str(start.cwd / "door"), b"1")
        server.stop()
        assert read_to_end(client) == b""

    assert " shutdown unix in " in (start.cwd / "access.log").read_text()


def test_on_a_full_disk_everybody_is_served_and_one_line_says_that_it_is_full(start):
    server = start.sockserver("--access-log", "/dev/full")

    for _ in range(3):
        crowd(server.place, 5)
    server.stop()

    [said] = server.matching("cannot write the access log: (.*)")
    assert said[1].startswith("no space left on device; ")
    assert not server.matching("Traceback|Unhandled")


def test_if_nobody_reads_the_log_any_more_everybody_is_served(start):
    os.mkfifo(start.cwd / "log")
    reader = os.open(start.cwd / "log", os.O_RDONLY | os.O_NONBLOCK)
    command = shlex.join(map(str, [*RUNNERS["twistd"], "sockserver", "--listen=unix:door"]))
    server = start.program("sh", "-c", f"exec {command} >log")
    place = str(start.cwd / "door")
    eventually((start.cwd / "door").exists)
    assert talk(place, b"1") == WELCOME

    os.close(reader)

    for _ in range(20):
        assert talk(place, b"1") == WELCOME
    server.stop()
    assert not (start.cwd / "door").exists()
