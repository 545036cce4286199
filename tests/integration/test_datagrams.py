"""The lesson over datagrams: every family, with raw sockets and with our own client, and floods."""

from __future__ import annotations

import os
import random
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.threads import deferToThread

from sockproto import Accept, Limits, Rejected, listen_datagrams
from sockproto.core.errors import HandshakeTimeout
from sockproto.events import HandshakeEnded
from sockproto.handshakes.passphrase import Passphrase
from sockproto.handshakes.welcome import Welcome
from sockproto.transport.datagram import DatagramPort
from sockproto.transport.datagram_client import ask

from .kit import BIN, PATIENCE, Starter, Where, resident, talk, turns, within_patience
from .test_runners import ACTIVATE, RUNNERS

WELCOME, GOODBYE = b"welcome to server!", b"please go out!"
SILENCE = 0.2
"""Seconds after which nothing will come any more, on loopback."""

SERVER = Path(__file__).parent / "datagram_server.py"


class Place:
    """A port for datagrams, under the running reactor, and how to get there."""

    def __init__(self, description: str, handshake: Any, noted: bool) -> None:
        from twisted.internet import reactor

        self.reasons: list[str] = []
        self.port: DatagramPort = listen_datagrams(
            reactor, description, handshake, observers=[self._note] if noted else []
        )
        address = self.port.address
        self.unix = address.family == "unix"
        self.where: Any = address.path if self.unix else (address.host, address.port)
        host = address.host.replace(":", "\\:")
        self.string = f"unixgram:{address.path}" if self.unix else f"udp:{host}:{address.port}"

    def _note(self, event: Any) -> None:
        if isinstance(event, HandshakeEnded):
            self.reasons.append(event.reason)

    def client(self) -> socket.socket:
        """A plain socket that is connected to it, and that waits for what comes."""
        if self.unix:
            family = socket.AF_UNIX
        else:
            family = socket.AF_INET6 if ":" in self.where[0] else socket.AF_INET
        made = socket.socket(family, socket.SOCK_DGRAM)
        made.settimeout(PATIENCE)
        if self.unix:
            made.bind(b"")
        made.connect(self.where)
        return made

    def tell(self, data: bytes) -> bytes | None:
        """Send a datagram, and give what comes back, or None after some silence."""
        with self.client() as client:
            client.send(data)
            if data != b"1":
                client.settimeout(SILENCE)
            try:
                return client.recv(100)
            except TimeoutError:
                return None


Open = Callable[..., Place]


@pytest.fixture
def open_place() -> Iterator[Open]:
    made: list[Place] = []

    def opens(description: str, handshake: Any = None, noted: bool = True) -> Place:
        made.append(Place(description, handshake or Welcome(), noted))
        return made[-1]

    yield opens
    for each in made:
        each.port.stopListening()


@pytest.fixture(
    params=[
        "udp:0:interface=127.0.0.1",
        pytest.param(r"udp:0:interface=\:\:1", marks=pytest.mark.ipv6),
        "unixgram:",
    ]
)
def description(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    text: str = request.param
    return f"unixgram:{tmp_path}/door" if text == "unixgram:" else text


# The lesson


@pytest_twisted.ensureDeferred
async def test_the_lesson_is_answered(description: str, open_place: Open) -> None:
    place = open_place(description)

    assert await deferToThread(place.tell, b"1") == WELCOME
    other = await deferToThread(place.tell, b"2")
    assert other == (GOODBYE if place.unix else None)
    assert await deferToThread(place.tell, b"") is None
    assert place.reasons == ["accepted", "rejected", "probe"]


@pytest_twisted.ensureDeferred
async def test_nobody_waits_for_anybody(description: str, open_place: Open) -> None:
    place = open_place(description)

    def crowd() -> list[bytes]:
        with ExitStack() as clients:
            silent = [clients.enter_context(place.client()) for _ in range(25)]
            speaking = [clients.enter_context(place.client()) for _ in range(25)]
            for one, other in zip(silent, speaking, strict=True):
                one.send(b"")
                other.send(b"1")
            return [each.recv(100) for each in speaking]

    assert await deferToThread(crowd) == [WELCOME] * 25


@pytest_twisted.ensureDeferred
async def test_our_own_client_shakes_hands(description: str, open_place: Open) -> None:
    from twisted.internet import reactor

    place = open_place(description)
    word = open_place(description.replace("door", "other"), Passphrase(b"sesame"))

    accepted = await within_patience(ask(reactor, place.string, Welcome()))
    assert accepted == Accept(result=WELCOME)
    assert await within_patience(ask(reactor, word.string, Passphrase(b"sesame"))) == Accept()
    limits = Limits(handshake_timeout=SILENCE)
    # Over UDP a rejection is silence.
    with pytest.raises(Rejected if place.unix else HandshakeTimeout):
        await ask(reactor, word.string, Passphrase(b"wrong"), limits=limits)


@pytest_twisted.ensureDeferred
async def test_a_name_is_resolved_and_the_address_that_answers_is_taken(open_place: Open) -> None:
    from twisted.internet import reactor

    place = open_place("udp:0:interface=127.0.0.1")
    string = place.string.replace("127.0.0.1", "localhost")

    assert await within_patience(ask(reactor, string, Welcome())) == Accept(result=WELCOME)


@pytest_twisted.ensureDeferred
async def test_two_servers_that_are_wired_to_each_other_fall_silent(
    description: str, open_place: Open
) -> None:
    one, other = open_place(description), open_place(description.replace("door", "other"))
    # As if somebody had written the name of the one on an envelope to the other.
    one.port._door.socket.sendto(b"1", other.where)
    await turns(SILENCE)

    assert other.reasons[:1] == ["accepted"]
    # Over a unix socket a reject is answered, but never with itself.
    assert len(one.reasons) + len(other.reasons) <= (4 if one.unix else 2)


# The service and the command


@pytest.mark.slow
def test_the_service_and_the_command_speak_datagrams(description: str, start: Starter) -> None:
    server = start.sockserver("--listen", description)
    unix = isinstance(server.place, str)
    if unix:
        endpoint = f"unixgram:{server.place}"
    else:
        endpoint = "udp:{}:{}".format(server.place[0].replace(":", "\\:"), server.place[1])
    assert server.try_it == f"sockproto connect {shlex.quote(endpoint)} --send 1"

    assert connect(endpoint, "--send", "1", "--retries", "3") == (0, "welcome to server!\n", "")
    status, said, trouble = connect(endpoint, "--send", "2", "--timeout", "200ms")
    if unix:
        assert (status, said) == (1, "please go out!\n")
        assert trouble == "sockproto: peer rejected the handshake: please go out!\n"
    else:
        assert (status, said) == (4, "")
        assert "not finished after 0.2 s" in trouble
    server.stop()
    server.wait_for(r"accepted .* in .* ms")
    server.wait_for(r"rejected .* in .* ms: expected b'1', got b'2'")


@pytest.mark.slow
def test_the_command_tells_what_is_wrong_in_one_line(tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as gone:
        gone.bind(("127.0.0.1", 0))
        endpoint = f"udp:127.0.0.1:{gone.getsockname()[1]}"
    for where, status, words in (
        (endpoint, 3, f"cannot connect to {endpoint}: Connection was refused by other side"),
        (f"unixgram:{tmp_path}/no", 3, f"cannot connect to unixgram:{tmp_path}/no: "),
        ("udp:127.0.0.1", 2, "'udp:127.0.0.1' is no endpoint for datagrams; write it like"),
    ):
        reached, said, trouble = connect(where)
        assert (reached, said) == (status, "")
        assert trouble.startswith(f"sockproto: {words}")
        assert trouble.count("\n") == 1


def connect(*arguments: str) -> tuple[int, str, str]:
    """Run ``sockproto connect``; gives its status and what it says."""
    done = subprocess.run(
        [BIN / "sockproto", "connect", *arguments],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    return done.returncode, done.stdout, done.stderr


# What is passed to us, and what waits


@contextmanager
def asking(place: Where) -> Iterator[socket.socket]:
    """A client that has asked already."""
    if isinstance(place, str):
        family = socket.AF_UNIX
    else:
        family = socket.AF_INET6 if ":" in place[0] else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as client:
        client.settimeout(PATIENCE)
        if family == socket.AF_UNIX:
            client.bind(b"")
        client.sendto(b"1", place)
        yield client


@pytest.fixture(params=["udp", "unixgram"])
def theirs(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[socket.socket]:
    """A datagram socket of whoever starts us."""
    family = socket.AF_INET if request.param == "udp" else socket.AF_UNIX
    with socket.socket(family, socket.SOCK_DGRAM) as bound:
        bound.bind(("127.0.0.1", 0) if family == socket.AF_INET else str(tmp_path / "door"))
        yield bound


@pytest.mark.parametrize(
    ("theirs", "how"),
    [
        ("udp", "systemd"),
        ("unixgram", "fd"),
        pytest.param("udp", "fd", marks=pytest.mark.slow),
        pytest.param("unixgram", "systemd", marks=pytest.mark.slow),
    ],
    indirect=["theirs"],
)
def test_a_datagram_socket_can_be_inherited_and_stays_open(
    start: Starter, theirs: socket.socket, how: str
) -> None:
    place, handle = theirs.getsockname(), theirs.fileno()
    runner: list[str | Path] = list(RUNNERS["twistd"])
    if how == "systemd":
        runner = [sys.executable, "-c", ACTIVATE, str(handle), *runner]
    listen = f"fd:{handle}" if how == "fd" else "systemd:name=door"

    # The second time, somebody has asked when nobody was there.
    for _ in range(2):
        with asking(place) as client:
            server = start.sockserver("--listen", listen, runner=runner, pass_fds=[handle])
            assert server.place == place
            assert server.try_it.startswith("sockproto connect u")
            assert client.recv(100) == WELCOME
        server.wait_for(r"accepted \S+ in ")
        server.stop()
        assert not server.matching("Traceback|Unhandled")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("part", "options", "why"),
    [
        (":backlog=5", (), "a datagram socket accepts nobody, and so has no backlog; leave it out"),
        (
            "",
            ("--proxy-protocol=v2", "--proxy-allow-from=10.0.0.0/8"),
            "no PROXY header is read from datagrams; leave --proxy-protocol out, or serve them "
            "from another process",
        ),
    ],
)
def test_what_makes_no_sense_at_an_inherited_datagram_socket_is_one_line(
    theirs: socket.socket, part: str, options: tuple[str, ...], why: str
) -> None:
    handle = theirs.fileno()
    listen = f"fd:{handle}{part}"
    done = subprocess.run(
        [*RUNNERS["twistd"], "sockserver", "--listen", listen, *options],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        pass_fds=[handle],
    )

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"sockserver: cannot listen on {listen}: {why}\n"


def test_whoever_has_asked_when_the_stop_comes_is_answered(
    description: str, start: Starter
) -> None:
    server = start.sockserver("--listen", description)
    # Until the reactor runs, a signal is deadly.
    with asking(server.place) as early:
        assert early.recv(100) == WELCOME
    server.send(signal.SIGSTOP)
    with ExitStack() as stack:
        # More than are read in one turn; but a unix socket keeps few (net.unix.max_dgram_qlen).
        count = 8 if isinstance(server.place, str) else 100
        clients = [stack.enter_context(asking(server.place)) for _ in range(count)]
        server.send(signal.SIGTERM)
        server.send(signal.SIGCONT)
        server.wait()

        for each in clients:
            each.setblocking(False)
        assert [each.recv(100) for each in clients] == [WELCOME] * count
    assert len(server.matching("accepted ")) == count + 1
    assert not server.matching("Traceback|Unhandled")


# Floods


def flood(place: tuple[str, int], sizes: tuple[int, ...], over: Event) -> int:
    """Send datagrams of these sizes at full speed, until it is over."""
    sent = 0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.connect(place)
        datagrams = [b"x" * size for size in sizes]
        while not over.is_set():
            for _ in range(100):
                for each in datagrams:
                    client.send(each)
            sent += 100 * len(sizes)
    return sent


@pytest.mark.slow
def test_a_flood_of_datagrams_leaves_connections_alone(start: Starter) -> None:
    program = start.program(sys.executable, SERVER, env={"PYTHONPATH": str(SERVER.parents[2])})
    found = program.wait_for(r"listens on (\d+) and (\d+)")
    tcp, udp = ("127.0.0.1", int(found[1])), ("127.0.0.1", int(found[2]))
    over = Event()
    flooding = Thread(target=flood, args=(udp, (0, 1), over))
    flooding.start()
    took = []
    try:
        end = time.monotonic() + 5
        while time.monotonic() < end:
            began = time.monotonic()
            assert talk(tcp, b"1") == WELCOME
            took.append(time.monotonic() - began)
    finally:
        over.set()
        flooding.join(PATIENCE)
    program.stop()
    seen = int(program.wait_for(r"has seen (\d+)")[1])

    took.sort()
    print(f"{len(took)} handshakes, p99 {took[len(took) * 99 // 100] * 1000:.1f} ms, {seen} seen")
    assert len(took) > 100
    assert seen > 1000


@pytest.mark.slow
@pytest_twisted.ensureDeferred
async def test_random_datagrams_are_met_with_silence_and_leave_nothing(open_place: Open) -> None:
    place = open_place("udp:0:interface=127.0.0.1", Welcome(token=bytes(64)), noted=False)
    draw = random.Random(6)
    with place.client() as client:
        client.setblocking(False)

        async def send(count: int) -> None:
            for _ in range(count // 50):
                for _ in range(50):
                    client.send(draw.randbytes(draw.randrange(80)))
                await turns()

        await send(20_000)
        before = resident(os.getpid())
        await send(int(os.environ.get("SOCKPROTO_DATAGRAMS", "100000")))
        grown = resident(os.getpid()) - before
        with pytest.raises(BlockingIOError):
            client.recv(100)
    served = next(place.port._terms.numbers) - 1
    print(f"{served} datagrams, {grown} bytes more")
    assert grown < 1 << 20
