import errno
import fcntl
import os
import select
import socket
import stat
import subprocess
import sys
from collections import Counter
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from threading import Event, Thread

import pytest

from sockproto.core.errors import ConfigurationError
from sockproto.core.facts import Address
from sockproto.transport import sockets
from sockproto.transport.sockets import (
    inherited,
    is_datagram_socket,
    systemd,
    tcp,
    udp,
    unix,
    unixgram,
)

PATIENCE = 60
IN_USE = "address already in use; stop whoever listens there, or choose another address"


@contextmanager
def refused():
    """What is said when a door cannot open, in a list."""
    said = []
    with pytest.raises(ConfigurationError) as caught:
        yield said
    said.append(str(caught.value))


def dial(place, family=socket.AF_INET):
    client = socket.socket(family)
    client.settimeout(PATIENCE)
    try:
        client.connect(place)
    except OSError:
        client.close()
        raise
    return client


def backlog_of(listening):
    """How many clients the kernel lets wait: tcpi_sacked of a listening socket, tcp(7)."""
    return int.from_bytes(
        listening.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 32)[28:], "little"
    )


def may_read(listening):
    return bool(select.select([listening], [], [], PATIENCE)[0])


def serve(door):
    """Accept until that would block, and say a word to each."""
    served = 0
    while True:
        try:
            client, _ = door.socket.accept()
        except BlockingIOError:
            return served
        # It may have gone already.
        with client, suppress(BrokenPipeError):
            client.sendall(b".")
        served += 1


def open_file_descriptors():
    return sorted(os.listdir("/proc/self/fd"))


# TCP


def test_a_tcp_door_listens_does_not_block_and_is_closed_on_exec():
    with closing(tcp(0, "127.0.0.1", backlog=5)) as door:
        assert door.address == Address("inet", "127.0.0.1", door.socket.getsockname()[1])
        assert door.local == door.address
        assert not door.inherited
        assert not door.socket.getblocking()
        assert not door.socket.get_inheritable()
        with dial(door.socket.getsockname()) as client:
            assert may_read(door.socket)
            assert serve(door) == 1
            assert client.recv(2) == b"."


every_host = pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", ""),
        *(pytest.param(each, marks=pytest.mark.ipv6) for each in ("::1", "::")),
    ],
)


def test_a_door_to_every_address_leaves_the_local_one_open():
    with closing(tcp(0, backlog=5)) as door:
        assert door.address.host == "0.0.0.0"
        assert door.local is None
    with closing(tcp(0, v6=True, backlog=5)) as door:
        assert door.address.host == "::"
        assert door.local is None


def test_a_name_stands_for_its_address():
    with closing(tcp(0, "localhost", backlog=5)) as door:
        assert door.address.host == "127.0.0.1"


@pytest.mark.ipv6
def test_an_ipv6_address_needs_nothing_else():
    with closing(tcp(0, "::1", backlog=5)) as door:
        assert door.address == Address("inet6", "::1", door.address.port)
        dial(("::1", door.address.port), socket.AF_INET6).close()


def test_an_ipv6_door_is_for_ipv6_alone_unless_it_is_dual():
    with closing(tcp(0, v6=True, backlog=5)) as door, pytest.raises(ConnectionRefusedError):
        dial(("127.0.0.1", door.address.port))
    for host in ("", "::"):
        with closing(tcp(0, host, dual=True, backlog=5)) as door:
            assert door.local is None
            dial(("127.0.0.1", door.address.port)).close()


@pytest.mark.ipv6
@pytest.mark.parametrize("host", ["", "::"])
def test_a_dual_door_is_for_ipv6_too(host):
    with closing(tcp(0, host, dual=True, backlog=5)) as door:
        dial(("::1", door.address.port), socket.AF_INET6).close()


def test_as_many_wait_as_were_asked_for():
    with closing(tcp(0, "127.0.0.1", backlog=7)) as door:
        assert backlog_of(door.socket) == 7


def test_a_port_can_be_had_again_while_old_connections_linger():
    door = tcp(0, "127.0.0.1", backlog=5)
    client = dial(door.socket.getsockname())
    may_read(door.socket)
    serve(door)
    door.close()
    # We have closed first, so our end waits for its time, tcp(7).
    with client, closing(tcp(door.address.port, "127.0.0.1", backlog=5)) as again:
        assert again.address == door.address


def test_a_port_that_cannot_be_had_is_refused_with_the_reason():
    said = {}
    with closing(tcp(0, "127.0.0.1", backlog=5)) as door:
        for host, port, more in [
            ("127.0.0.1", door.address.port, {}),
            ("192.0.2.1", 0, {}),
            ("-nowhere-", 0, {}),
            ("a..b", 0, {}),
            ("127.0.0.1", 0, {"dual": True}),
        ]:
            before = open_file_descriptors()
            with refused() as why:
                tcp(port, host, backlog=5, **more)
            assert open_file_descriptors() == before
            said[host, bool(more)] = why[0]

    unresolved = said.pop(("-nowhere-", False))
    assert unresolved.endswith(
        "; give a numeric address of this machine, or a name that resolves to one"
    )
    assert said == {
        ("127.0.0.1", False): IN_USE,
        ("192.0.2.1", False): "cannot assign requested address; no interface of this machine has "
        "that address",
        ("a..b", False): "'a..b' cannot be the name of a host; give a name or a numeric address",
        ("127.0.0.1", True): "a dual-stack socket listens on every address, not on 127.0.0.1 "
        "alone; leave the interface out, or dual=1",
    }


# The end of a door


@every_host
def test_a_door_that_is_shut_lets_in_who_is_in_the_queue_and_nobody_else(host):
    door = tcp(0, host, dual=host == "::", backlog=5)
    place = ("::1" if ":" in host else "127.0.0.1", door.address.port)
    family = door.socket.family
    with dial(place, family) as early:
        door.shut()

        with pytest.raises(ConnectionRefusedError):
            dial(place, family)
        assert may_read(door.socket)
        assert serve(door) == 1
        door.close()
        assert early.recv(2) == b"."
        assert early.recv(2) == b""


def test_what_comes_in_through_a_door_outlives_it():
    door = tcp(0, "127.0.0.1", backlog=5)
    with dial(door.socket.getsockname()) as client:
        door.shut()
        assert may_read(door.socket)
        accepted, _ = door.socket.accept()
        door.close()
        with accepted:
            accepted.settimeout(PATIENCE)
            client.sendall(b"to")
            assert accepted.recv(9) == b"to"
            accepted.sendall(b"fro")
            assert client.recv(9) == b"fro"


def crowd(connect, stop, seen):
    """Connect again and again, and note what comes of it."""
    while not stop.is_set():
        seen.append(connect())


def word_from(client):
    try:
        return client.recv(9).decode()
    except OSError as error:
        return errno.errorcode[error.errno]


def test_nobody_whose_connect_has_returned_is_reset_by_a_close():
    places, seen, stop = [], [], Event()

    def connect():
        with socket.socket() as client:
            code = client.connect_ex(places[-1])
            return word_from(client) if code == 0 else errno.errorcode[code]

    doors = [tcp(0, "127.0.0.1", backlog=64)]
    places.append(doors[0].socket.getsockname())
    clients = [Thread(target=crowd, args=(connect, stop, seen)) for _ in range(3)]
    for each in clients:
        each.start()
    try:
        for _ in range(50):
            door = doors[-1]
            for _ in range(5):
                assert may_read(door.socket)
                serve(door)
            doors.append(tcp(0, "127.0.0.1", backlog=64))
            door.shut()
            serve(door)
            door.close()
            places.append(doors[-1].socket.getsockname())
    finally:
        stop.set()
        while any(each.is_alive() for each in clients):
            serve(doors[-1])
        doors[-1].close()

    assert set(seen) <= {".", "ECONNREFUSED"}
    assert Counter(seen)["."] >= 250


def test_a_door_can_be_closed_twice(tmp_path):
    for door in (tcp(0, "127.0.0.1", backlog=5), unix(str(tmp_path / "door"), backlog=5)):
        door.close()
        before = open_file_descriptors()
        door.close()
        assert open_file_descriptors() == before


# Unix


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "door")


def leave_dead(path):
    """What a process leaves behind that was killed."""
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(path)
        dead.listen()


def test_a_unix_door_shows_its_own_path_and_only_we_may_use_it(path):
    with closing(unix(path, backlog=5)) as door:
        assert door.address == door.local == Address("unix", path=path)
        assert not door.inherited
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
        assert os.listdir(os.path.dirname(path)) == ["door"]
        with dial(path, socket.AF_UNIX) as client:
            assert serve(door) == 1
            assert client.recv(2) == b"."
    assert os.listdir(os.path.dirname(path)) == []


def test_a_mode_is_what_was_asked_for_whatever_the_umask_is(path):
    umask = os.umask(0o027)
    try:
        with closing(unix(path, backlog=5, mode=0o666)):
            assert stat.S_IMODE(os.stat(path).st_mode) == 0o666
    finally:
        assert os.umask(umask) == 0o027


def test_a_relative_path_is_the_same_file_wherever_we_go(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    door = unix("door", backlog=5)
    assert door.address == Address("unix", path="door")
    monkeypatch.chdir("/")

    door.close()

    assert os.listdir(tmp_path) == []


def longest(start):
    """A path as long as that of a unix socket may be, in a directory of its own."""
    folder = f"{start}/{'f' * (104 - len(start))}"
    os.mkdir(folder)
    return f"{folder}/d"


def test_every_path_that_bind_takes_will_do(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for each in (longest(str(tmp_path)), longest("."), "d" * 107, "ü" * 53):
        assert len(os.fsencode(each)) in (106, 107)
        leave_dead(each)
        with closing(unix(each, backlog=5)) as door:
            assert door.address.path == each
            dial(each, socket.AF_UNIX).close()
        assert not os.path.exists(each)


def test_what_a_dead_process_has_left_is_replaced(path):
    leave_dead(path)

    with closing(unix(path, backlog=5)):
        dial(path, socket.AF_UNIX).close()
    assert not os.path.exists(path)


def test_a_living_owner_is_left_alone(path):
    with closing(unix(path, backlog=5)) as door:
        with refused() as why:
            unix(path, backlog=5)
        # The question whether anybody is there was a client, too.
        assert serve(door) == 1
        dial(path, socket.AF_UNIX).close()
    assert why == [IN_USE]


def test_a_living_owner_with_a_full_queue_is_left_alone_too(path):
    with closing(unix(path, backlog=0)), dial(path, socket.AF_UNIX), refused() as why:
        unix(path, backlog=5)
    assert why == [IN_USE]


def test_a_living_owner_of_another_type_is_left_alone_too(path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.bind(path)
        with refused() as why:
            unix(path, backlog=5)
    assert why == [IN_USE]


def test_what_is_no_socket_is_left_alone(tmp_path):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    leave_dead(str(tmp_path / "dead"))
    (tmp_path / "link").symlink_to("dead")
    (tmp_path / "dangling").symlink_to("nowhere")
    before = sorted(tmp_path.iterdir())
    said = {}
    for name in ("file", "folder", "folder/", ".", "link", "dangling"):
        with refused() as why:
            unix(f"{tmp_path}/{name}", backlog=5)
        said[name] = why[0]

    assert said == {
        "file": "a file that is no socket is in the way; move it",
        "folder": "a directory is in the way; move it",
        "folder/": "a directory is in the way; move it",
        ".": "a directory is in the way; move it",
        "link": "a symbolic link is in the way; move it",
        "dangling": "a symbolic link is in the way; move it",
    }
    assert sorted(tmp_path.iterdir()) == before
    assert (tmp_path / "file").read_text() == "mine"


def test_a_path_that_cannot_be_is_refused_with_the_reason(tmp_path):
    (tmp_path / "file").touch()
    said = {}
    for each in ("", f"{tmp_path}/no/door", f"{tmp_path}/file/door", "a\0b", "d" * 108, "ü" * 54):
        with refused() as why:
            unix(each, backlog=5)
        said[each.removeprefix(str(tmp_path))] = why[0]

    too_long = (
        "its path has 108 bytes, and that of a unix socket at most 107; choose a shorter one, or a "
        "relative one"
    )
    assert said == {
        "": "the path of the socket is missing",
        "/no/door": "no such file or directory; create its directory first",
        "/file/door": "not a directory",
        "a\0b": "a path with a NUL in it cannot be",
        "d" * 108: too_long,
        "ü" * 54: too_long,
    }


@pytest.fixture
def plain_user(tmp_path, monkeypatch):
    """Be somebody who may not do everything, with a directory that everybody may go to."""
    monkeypatch.chdir(tmp_path)
    tmp_path.chmod(0o777)

    @contextmanager
    def be():
        before = os.geteuid()
        if before == 0:
            os.seteuid(65534)
        try:
            yield
        finally:
            os.seteuid(before)

    return be


def test_a_directory_that_we_may_not_write_to_is_refused(plain_user, tmp_path):
    tmp_path.chmod(0o555)
    with plain_user(), refused() as why:
        unix("door", backlog=5)
    assert why == [
        "permission denied; the user who runs this must be able to read and write its directory"
    ]


def test_a_socket_that_we_may_not_connect_to_is_left_alone(plain_user, tmp_path):
    leave_dead("door")
    os.chmod("door", 0)
    with plain_user(), refused() as why:
        unix("door", backlog=5)
    assert why == [
        "a socket that we may not connect to is in the way; move it, or choose another path"
    ]
    assert os.listdir(tmp_path) == ["door"]


@pytest.mark.skipif(os.geteuid() != 0, reason="it takes two users, and so root")
def test_a_dead_socket_of_somebody_else_in_a_sticky_directory_stays(plain_user, tmp_path):
    tmp_path.chmod(0o1777)
    leave_dead("door")
    os.chmod("door", 0o666)
    with plain_user(), refused() as why:
        unix("door", backlog=5)
    assert why == [
        "operation not permitted; what is there belongs to somebody else, choose another path"
    ]
    assert os.listdir(tmp_path) == ["door"]


def test_a_door_that_fails_half_way_leaves_nothing_behind(path, monkeypatch):
    def fail(*_, **__):
        raise OSError(errno.EIO, "Input/output error")

    before = open_file_descriptors()
    monkeypatch.setattr(os, "rename", fail)
    with refused() as why:
        unix(path, backlog=5)

    assert why == ["input/output error"]
    assert os.listdir(os.path.dirname(path)) == []
    assert open_file_descriptors() == before


CRASH = """
import os, sys
from sockproto.transport.sockets import unix
os.rename = lambda *_, **__: os._exit(9)
unix(sys.argv[1], backlog=5)
"""


def test_a_crash_between_bind_and_rename_does_not_hinder_the_next_start(path):
    done = subprocess.run([sys.executable, "-c", CRASH, path], timeout=PATIENCE)
    folder = os.path.dirname(path)
    assert (done.returncode, os.listdir(folder)) == (9, [".sockproto"])

    with closing(unix(path, backlog=5)):
        assert os.listdir(folder) == ["door"]


def test_a_file_that_has_the_temporary_name_is_left_alone(path, tmp_path):
    (tmp_path / ".sockproto").write_text("mine")
    with refused() as why:
        unix(path, backlog=5)
    assert why == [".sockproto is in the way, beside it; move it"]
    assert (tmp_path / ".sockproto").read_text() == "mine"


# Two at once


@pytest.fixture
def lock(tmp_path):
    """The directory's lock, held."""
    handle = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    yield handle
    os.close(handle)


def test_whoever_comes_second_waits_for_the_first(path, lock, monkeypatch):
    monkeypatch.setattr(sockets.time, "sleep", lambda _: fcntl.flock(lock, fcntl.LOCK_UN))

    with closing(unix(path, backlog=5)):
        assert os.path.exists(path)


def test_a_directory_that_stays_locked_is_refused(path, lock, monkeypatch):
    monkeypatch.setattr(sockets, "_PATIENCE", 0)
    with refused() as why:
        unix(path, backlog=5)
    assert why == [
        "somebody else keeps its directory locked; see who with lslocks, or choose another one"
    ]


def test_a_door_in_a_directory_that_stays_locked_closes_and_leaves_its_file(
    path, tmp_path, monkeypatch
):
    door = unix(path, backlog=5)
    handle = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    monkeypatch.setattr(sockets, "_PATIENCE", 0)
    door.close()
    os.close(handle)

    assert os.listdir(tmp_path) == ["door"]
    unix(path, backlog=5).close()
    assert os.listdir(tmp_path) == []


STARTER = """
import os, sys, time
from sockproto.core.errors import ConfigurationError
from sockproto.transport.sockets import unix

def tell(line):
    print(line, flush=True)

def rename_when_told(*names, **more):
    tell("about to rename")
    sys.stdin.readline()
    rename(*names, **more)

def sleep_aloud(seconds):
    tell("waiting")
    time.sleep = sleep
    sleep(seconds)

rename, sleep = os.rename, time.sleep
if "slowly" in sys.argv:
    os.rename, time.sleep = rename_when_told, sleep_aloud
doors = []
tell("ready")
for line in iter(sys.stdin.readline, ""):
    try:
        doors.append(unix(line.rstrip(), backlog=5))
        tell("won")
    except ConfigurationError as error:
        tell(error)
"""


class Starter:
    """A process that opens the doors that it is told to."""

    def __init__(self, *arguments):
        self._process = subprocess.Popen(
            [sys.executable, "-c", STARTER, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def tell(self, line):
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()

    def hear(self):
        return self._process.stdout.readline().rstrip()

    def end(self):
        self._process.communicate(timeout=PATIENCE)


@pytest.fixture
def start():
    started = []

    def start(*arguments):
        started.append(Starter(*arguments))
        assert started[-1].hear() == "ready"
        return started[-1]

    yield start
    for each in started:
        each.end()


@pytest.mark.parametrize("dead", [False, True])
def test_who_starts_while_another_one_is_starting_finds_it_alive(path, start, dead):
    if dead:
        leave_dead(path)
    first, second = start("slowly"), start("slowly")
    first.tell(path)
    assert first.hear() == "about to rename"

    second.tell(path)
    assert second.hear() == "waiting"
    first.tell("go on")

    assert first.hear() == "won"
    assert second.hear() == IN_USE
    dial(path, socket.AF_UNIX).close()


def test_of_those_who_start_at_once_exactly_one_wins(tmp_path, start):
    starters = [start() for _ in range(3)]
    for number in range(40):
        path = str(tmp_path / f"door{number}")
        if number % 2:
            leave_dead(path)
        for each in starters:
            each.tell(path)
        assert sorted(each.hear() for each in starters) == [IN_USE, IN_USE, "won"]
        dial(path, socket.AF_UNIX).close()


def test_a_unix_door_listens_before_it_has_its_name(path, tmp_path, monkeypatch):
    rename = os.rename

    def dial_and_rename(*names, **more):
        dial(str(tmp_path / names[0]), socket.AF_UNIX).close()
        rename(*names, **more)

    monkeypatch.setattr(os, "rename", dial_and_rename)
    with closing(unix(path, backlog=5)) as door:
        assert serve(door) == 1


def test_a_dead_socket_turns_into_a_listening_one_and_is_never_missing_between(path):
    leave_dead(path)
    seen, stop, tried = [], Event(), Event()

    def connect():
        with socket.socket(socket.AF_UNIX) as client:
            code = client.connect_ex(path)
        tried.set()
        return code

    client = Thread(target=crowd, args=(connect, stop, seen))
    client.start()
    try:
        assert tried.wait(PATIENCE)
        with closing(unix(path, backlog=5)) as door:
            for _ in range(20):
                assert may_read(door.socket)
                serve(door)
            stop.set()
            while client.is_alive():
                serve(door)
    finally:
        stop.set()
        client.join(PATIENCE)

    refusals = seen.count(errno.ECONNREFUSED)
    assert refusals
    assert seen == [errno.ECONNREFUSED] * refusals + [0] * (len(seen) - refusals)


def test_a_restart_that_replaces_refuses_nobody_and_resets_nobody(path):
    seen, stop = [], Event()

    def connect():
        with socket.socket(socket.AF_UNIX) as client:
            code = client.connect_ex(path)
            return word_from(client) if code == 0 else errno.errorcode[code]

    door = unix(path, backlog=64)
    clients = [Thread(target=crowd, args=(connect, stop, seen)) for _ in range(3)]
    for each in clients:
        each.start()
    try:
        for _ in range(100):
            assert may_read(door.socket)
            serve(door)
            old, door = door, unix(path, backlog=64, replace=True)
            old.shut()
            serve(old)
            old.close()
    finally:
        stop.set()
        while any(each.is_alive() for each in clients):
            serve(door)
        door.close()

    assert set(seen) == {"."}
    assert len(seen) >= 100
    assert not os.path.exists(path)


# The end of a unix door


def test_only_what_is_still_ours_is_unlinked(path, tmp_path):
    first = unix(path, backlog=5)
    with closing(unix(path, backlog=5, replace=True)):
        first.close()
        dial(path, socket.AF_UNIX).close()

    door = unix(path, backlog=5)
    os.unlink(path)
    Path(path).write_text("somebody else's")
    door.close()
    assert Path(path).read_text() == "somebody else's"

    door = unix(str(tmp_path / "other"), backlog=5)
    os.unlink(tmp_path / "other")
    door.close()


def test_a_unix_door_that_is_shut_is_gone_and_serves_its_queue(path):
    with closing(unix(path, backlog=5)) as door, dial(path, socket.AF_UNIX) as early:
        os.link(path, f"{path}-link")
        door.shut()

        assert not os.path.exists(path)
        with pytest.raises(ConnectionRefusedError):
            dial(f"{path}-link", socket.AF_UNIX)
        assert serve(door) == 1
        assert early.recv(2) == b"."
        # Somebody else may have the name now.
        with closing(unix(path, backlog=5)):
            door.close()
            assert os.path.exists(path)


# Abstract names


@pytest.mark.parametrize("mark", ["@", "\0"])
def test_an_abstract_name_has_no_file(mark, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name = f"sockproto-{os.getpid()}"
    with closing(unix(f"{mark}{name}", backlog=5)) as door:
        assert door.address == door.local == Address("unix", path=f"\0{name}")
        assert str(door.address) == f"unix:@{name}"
        assert os.listdir(tmp_path) == []
        dial(f"\0{name}", socket.AF_UNIX).close()
        with refused() as why:
            unix(f"@{name}", backlog=5)
        assert why[0].startswith("address already in use; ")


def test_an_abstract_name_that_cannot_be_is_refused():
    said = []
    for name, more in {"@": {}, "@a": {"mode": 0o600}, "@" + "a" * 108: {}}.items():
        with refused() as why:
            unix(name, backlog=5, **more)
        said += why
    assert said == [
        "an abstract name needs at least one character after its @",
        "an abstract socket has no mode, everybody may connect to it; leave the mode out, or "
        "choose a file",
        "its path has 108 bytes, and that of a unix socket at most 107; choose a shorter one, or a "
        "relative one",
    ]


# What others have opened


@contextmanager
def passed(opened):
    """A socket as a process has it that was started with it: a descriptor, open on exec."""
    opened.set_inheritable(True)
    with opened:
        yield opened.detach()


@contextmanager
def kept(opened):
    """A socket that is passed on, and kept by the one who passes it."""
    with opened, passed(opened.dup()) as handle:
        yield opened, handle


@pytest.fixture
def handle():
    """The descriptor of a listening socket; whoever takes it closes it."""
    with passed(socket.create_server(("127.0.0.1", 0))) as handle:
        yield handle


def test_an_inherited_socket_goes_on_as_it_is():
    listening = socket.create_server(("127.0.0.1", 0), backlog=9)
    with kept(listening) as (theirs, handle):
        door = inherited(handle)

        assert door.inherited
        assert door.address == door.local == Address("inet", *theirs.getsockname())
        assert not door.socket.getblocking()
        assert not door.socket.get_inheritable()
        assert backlog_of(theirs) == 9
        door.shut()
        door.close()
        dial(theirs.getsockname()).close()


def test_the_backlog_of_an_inherited_socket_can_be_changed():
    listening = socket.create_server(("127.0.0.1", 0), backlog=9)
    with kept(listening) as (theirs, handle), closing(inherited(handle, backlog=3)):
        assert backlog_of(theirs) == 3


def test_an_inherited_ipv6_socket_may_be_dual():
    listening = socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)
    with kept(listening) as (theirs, handle), closing(inherited(handle)) as door:
        assert door.address == Address("inet6", "::", theirs.getsockname()[1])
        assert door.local is None


@pytest.mark.parametrize("name", ["file", "abstract"])
def test_the_file_of_an_inherited_unix_socket_is_not_touched(path, name):
    place = path if name == "file" else f"\0sockproto-{os.getpid()}"
    theirs = socket.socket(socket.AF_UNIX)
    theirs.bind(place)
    theirs.listen()
    mode = os.stat(path).st_mode if name == "file" else None
    with kept(theirs) as (theirs, handle):
        door = inherited(handle)
        assert door.address == door.local == Address("unix", path=place)
        door.shut()
        door.close()
        dial(place, socket.AF_UNIX).close()
        assert name == "abstract" or os.stat(path).st_mode == mode


def test_a_descriptor_that_is_no_door_is_refused_and_left_open(tmp_path):
    listening = socket.create_server(("127.0.0.1", 0))
    own = listening.fileno()
    datagram = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    for opened, trouble in [
        (datagram, "is no stream socket; pass one (with systemd, by ListenStream=)"),
        (
            socket.socket(),
            "is a socket that does not listen; pass one that does (with systemd, by Accept=no)",
        ),
        (
            socket.socket(socket.AF_NETLINK, socket.SOCK_RAW),
            "is neither an IP nor a unix socket; pass one of these",
        ),
    ]:
        opened.set_inheritable(True)
        with opened, refused() as why:
            inherited(opened.fileno())
        assert why[0].partition(" ")[2].partition(" ")[2] == trouble

    with listening:
        with refused() as why:
            inherited(own)
        assert why == [
            f"descriptor {own} is this program's own, or in use already; pass another one"
        ]
        dial(listening.getsockname()).close()

    with open(tmp_path / "file", "w") as file:
        with refused() as why:
            inherited(file.fileno())
        assert why == [
            f"descriptor {file.fileno()} is no socket; whoever starts this program has to pass a "
            "listening socket there"
        ]
        file.write("still open")

    with refused() as why:
        inherited(987654)
    assert why == [
        "descriptor 987654 is not open; whoever starts this program has to pass a listening socket "
        "there"
    ]


def test_a_descriptor_makes_one_door(handle):
    with closing(inherited(handle)) as door:
        with refused() as why:
            inherited(handle)
        dial(door.socket.getsockname()).close()
    assert why == [
        f"descriptor {handle} is this program's own, or in use already; pass another one"
    ]


# Datagrams


@contextmanager
def sender(family=socket.AF_INET):
    with socket.socket(family, socket.SOCK_DGRAM) as sending:
        yield sending


@every_host
def test_a_udp_door_takes_datagrams_does_not_block_and_is_closed_on_exec(host):
    with closing(udp(0, host, dual=host == "::")) as door:
        assert door.address.host == (host or "0.0.0.0")
        assert not door.inherited
        assert not door.socket.getblocking()
        assert not door.socket.get_inheritable()
        place = ("::1" if ":" in host else "127.0.0.1", door.address.port)
        with sender(door.socket.family) as sending:
            sending.sendto(b".", place)
            assert may_read(door.socket)
            data, ancillary, _, _ = door.socket.recvmsg(9, 99)
            # From the first datagram on.
            assert data == b"."
            assert len(ancillary) == 1


def test_a_udp_port_belongs_to_one():
    with closing(udp(0, "127.0.0.1")) as door:
        # Nor can anybody share it who would.
        with sender() as thief:
            thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with pytest.raises(OSError) as caught:
                thief.bind(door.socket.getsockname())
            assert caught.value.errno == errno.EADDRINUSE
        with refused() as why:
            udp(door.address.port, "127.0.0.1")
    assert why == [IN_USE]


def test_a_udp_door_that_cannot_be_is_refused_with_the_reason():
    before = open_file_descriptors()
    with refused() as elsewhere:
        udp(0, "192.0.2.1")
    with refused() as dual:
        udp(0, "127.0.0.1", dual=True)

    assert elsewhere == [
        "cannot assign requested address; no interface of this machine has that address"
    ]
    assert dual == [
        "a dual-stack socket listens on every address, not on 127.0.0.1 alone; leave the "
        "interface out, or dual=1"
    ]
    assert open_file_descriptors() == before


def test_a_unixgram_door_has_a_file_of_its_own(path, tmp_path):
    before = open_file_descriptors()
    door = unixgram(path, mode=0o620)
    assert door.address == Address("unix", path=path)
    assert Path(path).stat().st_mode & 0o777 == 0o620
    with sender(socket.AF_UNIX) as sending:
        sending.sendto(b".", path)
        assert may_read(door.socket)
        data, ancillary, _, _ = door.socket.recvmsg(9, 99)
        assert data == b"."
        assert ancillary[0][1] == socket.SCM_CREDENTIALS
    with refused() as why:
        unixgram(path)
    assert why == [IN_USE]
    with closing(unixgram(path, replace=True)):
        door.close()
        # It was not its own any more.
        assert Path(path).exists()
        assert Path(path).stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) == []
    assert open_file_descriptors() == before


def test_a_unixgram_door_takes_the_place_of_a_dead_one(path):
    with sender(socket.AF_UNIX) as dead:
        dead.bind(path)
    with closing(unixgram(path)):
        pass
    assert not Path(path).exists()


def test_a_unixgram_door_may_have_an_abstract_name():
    name = f"sockproto-datagrams-{os.getpid()}"
    with closing(unixgram(f"@{name}")) as door, sender(socket.AF_UNIX) as sending:
        assert door.address == Address("unix", path=f"\0{name}")
        sending.sendto(b".", f"\0{name}")
        assert door.socket.recv(9) == b"."


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_UNIX])
def test_an_inherited_datagram_socket_goes_on_as_it_is(family, path):
    bound = socket.socket(family, socket.SOCK_DGRAM)
    bound.bind(("127.0.0.1", 0) if family == socket.AF_INET else str(path))
    with kept(bound) as (theirs, handle), sender(family) as sending:
        door = inherited(handle, kind=socket.SOCK_DGRAM)
        assert door.inherited
        sending.sendto(b".", theirs.getsockname())
        assert len(door.socket.recvmsg(9, 99)[1]) == 1
        door.close()
        sending.sendto(b".", theirs.getsockname())
        assert theirs.recv(9) == b"."


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6, socket.AF_UNIX])
def test_a_datagram_socket_that_is_not_bound_is_refused(family):
    with sender(family) as unbound:
        unbound.set_inheritable(True)
        with refused() as why:
            inherited(unbound.fileno(), kind=socket.SOCK_DGRAM)
        assert why == [
            f"descriptor {unbound.fileno()} is a socket that is not bound, so nobody could send to "
            "it; pass one that is"
        ]
        unbound.getsockname()


def test_a_datagram_socket_of_systemd_is_found():
    bound = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    bound.bind(("127.0.0.1", 0))
    with passed(bound) as handle:
        door = systemd(index=handle - 3, kind=socket.SOCK_DGRAM, environ=environment(handle))
        with closing(door):
            assert door.socket.type == socket.SOCK_DGRAM


def test_a_descriptor_is_asked_what_it_is_and_left_open(handle, tmp_path):
    with sender() as datagrams, open(tmp_path / "file", "wb") as file:
        asked = [is_datagram_socket(each) for each in (datagrams.fileno(), handle, file.fileno())]
        datagrams.getsockname()
    os.close(handle)

    assert asked == [True, False, False]


def test_a_stream_socket_takes_no_datagrams(handle):
    with refused() as why:
        inherited(handle, kind=socket.SOCK_DGRAM)
    with refused() as closed:
        inherited(987654, kind=socket.SOCK_DGRAM)
    os.close(handle)

    assert why == [
        f"descriptor {handle} is no datagram socket; pass one (with systemd, by ListenDatagram=)"
    ]
    assert closed == [
        "descriptor 987654 is not open; whoever starts this program has to pass a datagram socket "
        "there"
    ]


# systemd


def environment(handle, **more):
    """That of a process to which systemd has passed all descriptors up to this one."""
    passed = {"LISTEN_FDS": str(handle - 2), "LISTEN_PID": str(os.getpid())}
    return {**passed, **more}


def test_a_socket_of_systemd_is_found_by_its_index(handle):
    with closing(systemd(index=handle - 3, environ=environment(handle))) as door:
        assert door.inherited
        assert door.socket.fileno() == handle
        assert door.address.host == "127.0.0.1"


def test_a_socket_of_systemd_is_found_by_its_name(handle):
    names = ":".join(["other"] * (handle - 3) + ["web"])
    environ = environment(handle, LISTEN_FDNAMES=names)

    with closing(systemd(name="web", domain="INET", backlog=3, environ=environ)) as door:
        assert door.socket.fileno() == handle
        assert backlog_of(door.socket) == 3


def test_a_socket_that_systemd_has_not_passed_is_missed_with_what_there_is():
    us = str(os.getpid())
    two = {"LISTEN_FDS": "2", "LISTEN_PID": us}
    nothing = "no such socket was passed to us; is LISTEN_FDS set, as sd_listen_fds(3) has it?"
    for environ, which, trouble in [
        ({}, {"index": 0}, nothing),
        ({"LISTEN_FDS": "0", "LISTEN_PID": us}, {"index": 0}, nothing),
        (
            {"LISTEN_FDS": "1", "LISTEN_PID": "1"},
            {"index": 0},
            f"the sockets were passed to process 1 and we are {us}; start this program itself, not "
            "a shell that starts it",
        ),
        (
            {"LISTEN_FDS": "1"},
            {"index": 0},
            f"the sockets were passed to process ? and we are {us}; start this program itself, not "
            "a shell that starts it",
        ),
        (
            {"LISTEN_FDS": "-1", "LISTEN_PID": us},
            {"index": 0},
            "LISTEN_FDS must be a number, as sd_listen_fds(3) has it, not '-1'",
        ),
        (two, {}, "which of systemd's sockets? give index=N or name=NAME"),
        (two, {"index": 2}, "no socket 2 was passed to us, but 2, counted from 0"),
        (two, {"name": "web"}, "no socket named 'web' was passed to us, but unknown, unknown"),
        (
            {**two, "LISTEN_FDNAMES": "one"},
            {"name": "one"},
            "no socket named 'one' was passed to us, but unknown, unknown",
        ),
        (
            {**two, "LISTEN_FDNAMES": "one:two"},
            {"name": "web"},
            "no socket named 'web' was passed to us, but one, two",
        ),
        (
            {**two, "LISTEN_FDNAMES": "web:web"},
            {"name": "web"},
            "2 of the sockets that were passed to us are named 'web'; give index=N",
        ),
    ]:
        with refused() as why:
            systemd(**which, environ=environ)
        assert why == [trouble]


def test_a_socket_of_another_domain_is_refused_and_can_still_be_had(handle):
    environ = environment(handle)
    with refused() as why:
        systemd(index=handle - 3, domain="UNIX", environ=environ)
    assert why == [f"descriptor {handle} is a socket of the domain INET, not UNIX; say domain=INET"]
    systemd(index=handle - 3, domain="INET", environ=environ).close()


def test_without_an_environment_it_is_ours(handle, monkeypatch):
    for key, value in environment(handle).items():
        monkeypatch.setenv(key, value)

    systemd(index=handle - 3).close()

    assert os.environ["LISTEN_FDS"] == str(handle - 2)


ACTIVATED = """
import os, sys
if sys.argv[1:]:
    os.dup2(int(sys.argv[1]), 3)
    os.environ.update(LISTEN_FDS="1", LISTEN_FDNAMES="door", LISTEN_PID=str(os.getpid()))
    os.execv(sys.executable, [sys.executable, "-c", os.environ["PROGRAM"]])
import twisted.internet.endpoints
from sockproto.transport.sockets import systemd
assert "LISTEN_FDS" not in os.environ
print(systemd(name="door").address)
"""


def test_what_twisted_takes_out_of_the_environment_is_found_all_the_same():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        handle = listening.fileno()
        done = subprocess.run(
            [sys.executable, "-c", ACTIVATED, str(handle)],
            env={**os.environ, "PROGRAM": ACTIVATED},
            pass_fds=[handle],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        assert (done.stdout, done.stderr) == (
            "{}:{}\n".format(*listening.getsockname()),
            "",
        )


def test_without_proc_nothing_was_passed(monkeypatch):
    def missing(_):
        raise FileNotFoundError

    monkeypatch.delenv("LISTEN_FDS", raising=False)
    with refused() as found:
        systemd(index=0)
    monkeypatch.setattr(Path, "read_bytes", missing)
    with refused() as why:
        systemd(index=0)
    assert why == found
    assert why[0].startswith("no such socket was passed to us; ")
