"""
Every door that ``--listen`` can open, with a client that comes through it, under both runners.

And what happens to a door's file, certificate and inherited socket, and which doors are refused.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest

from .kit import (
    BIN,
    NOWHERE,
    PATIENCE,
    Identity,
    Sockserver,
    Where,
    dial,
    eventually,
    identity,
    read_to_end,
    talk,
)

WELCOME = b"welcome to server!"

RUNNERS = {
    "twistd": (BIN / "twistd", "-n", "--pidfile="),
    "twist": (BIN / "twist", "--log-format=text"),
}
every_runner = pytest.mark.parametrize(
    "runner",
    [
        pytest.param(RUNNERS["twistd"], id="twistd"),
        # Which doors there are does not depend on the runner: the second may wait.
        pytest.param(RUNNERS["twist"], id="twist", marks=pytest.mark.slow),
    ],
)

LOOPBACK = r"127\.0\.0\.1:\d+"
LOOPBACK_6 = r"\[::1\]:\d+"


@dataclass(frozen=True)
class Doorway:
    """
    A door, and a way through it.

    Attributes:
        listen: What the operator types.
        shown: Where it listens, as the log has it.
        host: Where the client goes; empty for where the log says. The port is the door's.
        client: Who has come, as the log has it.
        tried: How the log begins the command to try it with; empty if it knows none.
    """

    listen: str
    shown: str
    host: str
    client: str
    tried: str

    @property
    def way_in(self) -> str:
        """The address to which the client goes."""
        return self.host or self.listen.replace("\\", "")

    def way(self, server: Sockserver, folder: Path) -> Where:
        place = server.place
        if isinstance(place, str):
            return place.replace("@", "\0") if place[0] == "@" else str(folder / place)
        return (self.host or place[0], place[1])


DOORS = {
    "tcp": Doorway(
        "tcp:0:interface=127.0.0.1", LOOPBACK, "", LOOPBACK, "sockproto connect tcp:127.0.0.1:"
    ),
    "tcp, a name": Doorway(
        "tcp:0:interface=localhost", LOOPBACK, "", LOOPBACK, "sockproto connect tcp:127.0.0.1:"
    ),
    "tcp, every address": Doorway(
        "tcp:0", r"0\.0\.0\.0:\d+", "127.0.0.2", LOOPBACK, "sockproto connect tcp:127.0.0.1:"
    ),
    "tcp, IPv6": Doorway(
        r"tcp:0:interface=\:\:1", LOOPBACK_6, "", LOOPBACK_6, r"sockproto connect 'tcp:\:\:1:"
    ),
    "tcp6": Doorway(
        r"tcp6:0:interface=\:\:1", LOOPBACK_6, "", LOOPBACK_6, r"sockproto connect 'tcp:\:\:1:"
    ),
    "tcp6, dual=1, IPv6": Doorway(
        "tcp6:0:dual=1", r"\[::\]:\d+", "::1", LOOPBACK_6, r"sockproto connect 'tcp:\:\:1:"
    ),
    # Not ::ffff:127.0.0.1, which the system calls it.
    "tcp6, dual=1, IPv4": Doorway(
        "tcp6:0:dual=1", r"\[::\]:\d+", "127.0.0.1", LOOPBACK, r"sockproto connect 'tcp:\:\:1:"
    ),
    "unix": Doorway("unix:door", "unix:door", "", "unix", "sockproto connect unix:door "),
    "unix, a mode": Doorway(
        "unix:door:mode=660", "unix:door", "", "unix", "sockproto connect unix:door "
    ),
    "abstract": Doorway("unix:@sockproto-test-{pid}", r"unix:@sockproto-test-\d+", "", "unix", ""),
}


@pytest.mark.parametrize(
    "door",
    [
        pytest.param(door, id=name, marks=pytest.mark.ipv6 if "::1" in door.way_in else ())
        for name, door in DOORS.items()
    ],
)
@every_runner
def test_a_client_comes_through_each_door_and_the_log_shows_both_ends(start, runner, door):
    server = start.sockserver("--listen", door.listen.format(pid=os.getpid()), runner=runner)
    way = door.way(server, start.cwd)

    assert talk(way, b"1") == WELCOME
    assert talk(way, b"2") == b"please go out!"

    server.wait_for(rf"listens on {door.shown}(;|$)")
    server.wait_for(rf"accepted {door.client} in ")
    server.wait_for(rf"rejected {door.client} in ")
    assert server.try_it.startswith(door.tried)
    assert bool(server.try_it) == bool(door.tried)
    server.stop()
    assert not server.matching("Traceback|Unhandled")


@every_runner
def test_one_server_has_many_doors(start, runner):
    listen = ["tcp:0:interface=127.0.0.1", "unix:door", "tcp:0:interface=127.0.0.2"]
    server = start.sockserver(*(f"--listen={each}" for each in listen), runner=runner)
    tcp, unix, other = server.places

    assert talk(tcp, b"1") == talk(str(start.cwd / unix), b"1") == talk(other, b"1") == WELCOME
    server.stop()
    assert not (start.cwd / "door").exists()


@pytest.mark.ipv6
def test_an_ipv4_client_does_not_come_in_where_only_ipv6_is_spoken(start):
    server = start.sockserver("--listen", "tcp6:0")

    with pytest.raises(ConnectionRefusedError):
        dial(("127.0.0.1", server.place[1]))
    assert talk(("::1", server.place[1]), b"1") == WELCOME


# What is passed to us


@every_runner
def test_a_listening_socket_can_be_inherited_and_stays_open(start, runner):
    with socket.create_server(("127.0.0.1", 0)) as listening:
        place = listening.getsockname()
        with dial(place) as early:
            early.sendall(b"1")
            handle = listening.fileno()
            options = ["--listen", f"fd:{handle}"]
            server = start.sockserver(*options, runner=runner, pass_fds=[handle])
            assert server.place == place
            assert read_to_end(early) == WELCOME
        server.stop()

        # Whoever comes now waits for the next one.
        with dial(place) as late:
            late.sendall(b"1")
            start.sockserver(*options, runner=runner, pass_fds=[handle])
            assert read_to_end(late) == WELCOME


@every_runner
def test_the_file_of_an_inherited_unix_socket_is_not_touched(start, runner):
    path = start.cwd / "door"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        path.chmod(0o640)
        listening.listen(16)
        handle = listening.fileno()
        server = start.sockserver("--listen", f"fd:{handle}", runner=runner, pass_fds=[handle])

        assert talk(str(path), b"1") == WELCOME
        assert path.stat().st_mode & 0o777 == 0o640
        server.stop()
        assert path.is_socket()


# Unix sockets


@dataclass
class Visits:
    """
    Clients that come one after the other for as long as a block lasts.

    Attributes:
        replies: What each has heard.
        trouble: What has gone wrong.
    """

    replies: list[bytes]
    trouble: list[str]

    def wait_for_more(self, count: int = 50) -> None:
        seen = len(self.replies)
        eventually(lambda: self.trouble or len(self.replies) >= seen + count)


@contextmanager
def visited(path: Path) -> Iterator[Visits]:
    """Have somebody come to a unix socket over and over."""
    visits = Visits([], [])
    over = Event()

    def come() -> None:
        while not over.is_set():
            try:
                with dial(str(path)) as client:
                    # It may have gone already, in good order.
                    with suppress(BrokenPipeError):
                        client.sendall(b"1")
                    visits.replies.append(read_to_end(client))
            except OSError as error:
                visits.trouble.append(repr(error))
                return

    visitor = Thread(target=come)
    visitor.start()
    try:
        yield visits
    finally:
        over.set()
        visitor.join(PATIENCE)


@pytest.mark.slow
@every_runner
def test_a_restart_that_replaces_a_unix_socket_refuses_nobody(start, runner):
    path = start.cwd / "door"
    options = ["--listen", "unix:door:replace=1"]
    server = start.sockserver(*options, runner=runner)

    with visited(path) as visits:
        for _ in range(3):
            visits.wait_for_more()
            following = start.sockserver(*options, runner=runner)
            assert talk(str(path), b"1") == WELCOME
            server.stop()
            server = following
        visits.wait_for_more()

    assert visits.trouble == []
    # Who has come just before a stop, and has not spoken yet, is let go without a word.
    assert set(visits.replies) <= {WELCOME, b""}
    assert visits.replies.count(b"") <= 3
    server.stop()
    assert list(start.cwd.iterdir()) == []


@every_runner
def test_a_dead_unix_socket_is_replaced_and_a_living_one_is_not(start, runner):
    path = start.cwd / "door"
    server = start.sockserver("--listen", "unix:door", runner=runner)
    server.send(signal.SIGKILL)
    server.wait()
    assert path.is_socket()

    server = start.sockserver("--listen", "unix:door", runner=runner)

    assert path.stat().st_mode & 0o777 == 0o600
    assert refusal(runner, "unix:door", start.cwd).startswith("address already in use; ")
    assert talk(str(path), b"1") == WELCOME


# TLS

FACTS = """
from sockproto import Accept


class Facts:
    async def serve(self, peer):
        names = ",".join(peer.tls.names) or "nobody"
        return Accept(f"{names} speaks {peer.tls.alpn}".encode())
"""


@pytest.fixture(scope="module")
def clients_identity(tmp_path_factory: pytest.TempPathFactory) -> Identity:
    """Somebody else's certificate."""
    return identity(tmp_path_factory.mktemp("client"))


@dataclass(frozen=True)
class Caller:
    """
    Who comes to a TLS door.

    Attributes:
        listen: What the door says of clients.
        shows: Whether the client shows its certificate.
        alpn: What it offers to speak.
        told: What the handshake knows of it; empty if it is not let in.
    """

    listen: str
    shows: bool
    alpn: tuple[str, ...]
    told: str


CALLERS = {
    "nobody has to show anything": Caller("", False, (), "nobody speaks None"),
    "nobody looks at what is shown": Caller("", True, (), "nobody speaks None"),
    "a client may be known": Caller("clientCA={ca}:verify=optional", True, (), "localhost speaks"),
    "a client may be unknown": Caller("clientCA={ca}:verify=optional", False, (), "nobody speaks"),
    "a client must be known, and is": Caller("clientCA={ca}", True, (), "localhost speaks"),
    "a client must be known, and is not": Caller("clientCA={ca}", False, (), ""),
    "a client is known to somebody else": Caller("clientCA={other}", True, (), ""),
    "one protocol is common": Caller("alpn=chat,news", False, ("mail", "news"), "speaks news"),
    "our best protocol wins": Caller("alpn=chat,news", False, ("news", "chat"), "speaks chat"),
    "no protocol is common": Caller("alpn=chat,news", False, ("mail",), ""),
    "no protocol is offered": Caller("alpn=chat,news", False, (), "speaks None"),
}


@pytest.mark.parametrize("caller", CALLERS.values(), ids=CALLERS)
@every_runner
def test_a_tls_door_lets_in_whom_it_should_and_the_handshake_knows_whom(
    start, loopback_identity, clients_identity, runner, caller
):
    (start.cwd / "facts.py").write_text(FACTS)
    more = caller.listen.format(
        ca=clients_identity.certificate, other=loopback_identity.certificate
    )
    context = loopback_identity.context
    if caller.shows:
        context.load_cert_chain(clients_identity.certificate, clients_identity.key)
    if caller.alpn:
        context.set_alpn_protocols(caller.alpn)
    server = start.sockserver(
        *("--handshake", "facts:Facts", "--listen"),
        ":".join(filter(None, [tls_door(loopback_identity), more])),
        runner=runner,
    )

    if caller.told:
        assert caller.told in talk(server.place, b"", context).decode()
        server.wait_for(rf"accepted {LOOPBACK} in ")
    else:
        with pytest.raises(ssl.SSLError):
            talk(server.place, b"", context)
        server.wait_for(rf"violation {LOOPBACK} in ")
    assert not server.matching("Traceback|Unhandled")


def tls_door(files: Identity) -> str:
    return f"tls:0:interface=127.0.0.1:cert={files.certificate}:key={files.key}"


@pytest.mark.slow
@every_runner
def test_a_tls_door_takes_up_a_renewed_certificate_once_it_is_whole(start, tmp_path, runner):
    old, new = (identity(made(tmp_path / each)) for each in ("old", "new"))
    cert, key = start.cwd / "cert.pem", start.cwd / "key.pem"
    shutil.copy(old.certificate, cert)
    shutil.copy(old.key, key)
    server = start.sockserver(
        "--listen", "tls:0:interface=127.0.0.1:cert=cert.pem:key=key.pem", runner=runner
    )

    def believed(files: Identity) -> bool:
        try:
            return talk(server.place, b"1", files.context) == WELCOME
        except ssl.SSLCertVerificationError:
            return False

    assert believed(old)
    assert not believed(new)

    # In the order of a copy that is not atomic: for a moment they do not fit.
    shutil.copy(new.key, key)
    eventually(lambda: believed(old) and server.matching("TLS stays with the files as they were"))
    assert believed(old)

    shutil.copy(new.certificate, cert)
    eventually(lambda: believed(new))
    assert not believed(old)
    server.wait_for("TLS has taken up what has changed in cert=.*cert.pem and key=.*key.pem")
    assert not server.matching("Traceback|Unhandled")


def made(folder: Path) -> Path:
    folder.mkdir()
    return folder


# Refusals


@dataclass(frozen=True)
class Refused:
    """A door that is not opened, and how that is explained."""

    listen: str
    said: str


REFUSED = [
    Refused("tcp", "its port is missing (an endpoint is written like tcp:8001:interface=127.0.0."),
    Refused("tcp:65536", "its port '65536' is not a whole number from 0 to 65535 (an endpoint is"),
    Refused("tcp:0:colour=red", "tcp has no 'colour', but port, interface, backlog (an endpoint"),
    Refused("tcp:0:interface=192.0.2.1", "cannot assign requested address; no interface of this"),
    Refused(f"tcp:0:interface={NOWHERE}", "; give a numeric address of this machine, or a n"),
    Refused(r"tcp6:0:interface=\:\:1:dual=1", "a dual-stack socket listens on every address, not"),
    Refused("unix:", "the path of the socket is missing"),
    Refused("unix:folder", "a directory is in the way; move it"),
    Refused("unix:file", "a file that is no socket is in the way; move it"),
    Refused("unix:link", "a symbolic link is in the way; move it"),
    Refused("unix:link:replace=1", "a symbolic link is in the way; move it"),
    Refused("unix:none/door", "no such file or directory; create its directory first"),
    Refused("unix:door:mode=999", "its mode '999' is not an octal number from 0 to 777 (an endp"),
    Refused("unix:" + "a" * 108, "its path has 108 bytes, and that of a unix socket at most 107;"),
    Refused("unix:@", "an abstract name needs at least one character after its @"),
    Refused("unix:@door:mode=600", "an abstract socket has no mode, everybody may connect to it"),
    Refused("systemd:index=0", "no such socket was passed to us; is LISTEN_FDS set, as sd_listen"),
    Refused(
        "systemd:domain=INET",
        "either its index or its name has to be given (an endpoint is written li",
    ),
    Refused("fd:77", "descriptor 77 is not open; whoever starts this program has to pass a liste"),
    Refused("fd:0", "descriptor 0 is no socket; whoever starts this program has to pass a listeni"),
    Refused("tls:0:cert=none.pem", "cert=none.pem cannot be read: no such file or directory; nam"),
    Refused("tls:0:cert=file", "cert=file holds no certificate; name a PEM file, in which it foll"),
    Refused("tls:0:cert=folder", "cert=folder is no regular file; name a PEM file"),
    Refused("tls:0:cert=a.pem:key=b.key", "the private key in key=b.key does not belong to the fi"),
    Refused("tls:0:cert=a.pem", "cert=a.pem holds no private key in PEM; add it, or name its file"),
    Refused("tls:0:cert=a.pem:key=a.key:verify=required", "verify=required does not say whose cer"),
    Refused("tls:0:cert=a.pem:key=a.key:clientCA=file", "clientCA=file holds no certificate; name"),
    Refused("tls:0:cert=a.pem:key=a.key:verify=maybe", "its verify 'maybe' is not none, optional"),
    Refused("tls:0:cert=a.pem:key=a.key:alpn=", "its alpn '' is not a list of names such as h2,h"),
    Refused(
        "nonesuch:0", "Unknown endpoint type: 'nonesuch' (an endpoint is written like tcp:8001"
    ),
]


@pytest.fixture(scope="module")
def furnished(
    tmp_path_factory: pytest.TempPathFactory,
    loopback_identity: Identity,
    clients_identity: Identity,
) -> Path:
    """A folder with what the refused doors want, and what is in their way."""
    folder = tmp_path_factory.mktemp("furnished")
    (folder / "folder").mkdir()
    (folder / "file").write_text("words")
    (folder / "link").symlink_to("nowhere")
    for letter, files in (("a", loopback_identity), ("b", clients_identity)):
        shutil.copy(files.certificate, folder / f"{letter}.pem")
        shutil.copy(files.key, folder / f"{letter}.key")
    return folder


def refusal(runner: tuple[Any, ...], listen: str, folder: Path) -> str:
    """Why a door is not opened; the one line that is said, without its beginning."""
    done = subprocess.run(
        [*runner, "sockserver", "--listen", listen],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    beginning = f"sockserver: cannot listen on {listen}: "
    assert done.returncode == 1
    assert done.stderr.startswith(beginning)
    assert done.stderr.count("\n") == 1
    return done.stderr.removeprefix(beginning)


@pytest.mark.parametrize("refused", REFUSED, ids=lambda each: each.listen[:40])
@every_runner
def test_a_door_that_cannot_be_opened_is_refused_in_one_line(furnished, runner, refused):
    before = sorted(furnished.iterdir())

    assert refused.said in refusal(runner, refused.listen, furnished).replace(f"{furnished}/", "")

    assert sorted(furnished.iterdir()) == before
