"""The session ``forward`` between real sockets: much, slowly, half, not at all, and over TLS."""

from __future__ import annotations

import fcntl
import select
import socket
import struct
import termios
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.endpoints import serverFromString
from twisted.internet.protocol import Factory
from twisted.internet.threads import deferToThread

from sockproto import Accept, Peer
from sockproto.core.facts import Address
from sockproto.handshakes.passphrase import Passphrase
from sockproto.sessions.echo import Echo
from sockproto.sessions.forward import Forward
from sockproto.transport.proxy import ProxyParser, v2_header

from .kit import PATIENCE, dial, eventually, read_to_end, until, within_patience

pytestmark = pytest.mark.filterwarnings("ignore:Passing pyOpenSSL")

MIB = 1024 * 1024
FORWARD = "sockproto.sessions.forward:Forward"

ALLOCATORS_SHARE = 2048
"""
KiB by which a peak may rise for reasons that have nothing to do with how much is sent: what glibc
keeps of freed buffers, and Python's own arenas, which are 1 MiB each. What is sent while a reader
stalls would be hundreds of MiB.
"""


class Open:
    """Lets everybody in."""

    async def serve(self, peer: Peer) -> Accept:
        return Accept()


class Backend:
    """A listening socket, and how an endpoint string calls it."""

    def __init__(self, listening: socket.socket, endpoint: str) -> None:
        listening.settimeout(PATIENCE)
        self.socket = listening
        self.endpoint = endpoint

    def accept(self) -> socket.socket:
        connection, _ = self.socket.accept()
        connection.settimeout(PATIENCE)
        return connection


@pytest.fixture
def backend() -> Iterator[Backend]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield Backend(listening, f"tcp:127.0.0.1:{listening.getsockname()[1]}")


@pytest.fixture
def unix_backend(tmp_path: Path) -> Iterator[Backend]:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "backend"))
        listening.listen()
        yield Backend(listening, f"unix:{tmp_path / 'backend'}")


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as pool:
        yield pool


class Ends:
    """The two ends of a conversation that is forwarded."""

    def __init__(self, client: socket.socket, backend: socket.socket) -> None:
        self.client, self.backend = client, backend

    def close(self) -> None:
        self.client.close()
        self.backend.close()


def receive(end: socket.socket, count: int) -> bytes:
    """Read exactly so many bytes."""
    received = b""
    while len(received) < count and (part := end.recv(count - len(received))):
        received += part
    return received


def send_for_ever(end: socket.socket) -> None:
    """Send until nobody takes it."""
    while True:
        end.sendall(bytes(MIB))


def forwarded(start: Any, backend: Backend, *, listen: str = "", **arguments: object) -> Any:
    """Start a server that forwards to a backend; gives what opens a conversation through it."""
    options = "".join(f"{name}={value}:" for name, value in arguments.items())
    server = start.sockserver(
        *("--handshake", "passphrase:sesame"),
        *("--session", f"{FORWARD}:{options}{backend.endpoint}"),
        *(("--listen", listen) if listen else ()),
    )

    def converse(**how: Any) -> Ends:
        client = dial(server.place, **how)
        client.sendall(b"sesame\n")
        assert receive(client, 3) == b"OK\n"
        return Ends(client, backend.accept())

    converse.server = server  # type: ignore[attr-defined]
    return converse


# Much, through readers that stall


def send_much(end: socket.socket, amount: int, seed: int) -> str:
    """Send so many bytes, and finish; gives their checksum."""
    checksum = sha256()
    block = bytes((seed + number * number // 7) % 256 for number in range(MIB))
    for count in range(amount // MIB):
        part = struct.pack("!Q", count) + block[8:]
        checksum.update(part)
        end.sendall(part)
    end.shutdown(socket.SHUT_WR)
    return checksum.hexdigest()


def read_much(end: socket.socket, stall: Callable[[int], None]) -> tuple[int, str]:
    """Read to the end, with pauses; gives how much it was, and its checksum."""
    checksum = sha256()
    amount = 0
    while part := end.recv(256 * 1024):
        before = amount // MIB
        checksum.update(part)
        amount += len(part)
        if amount // MIB > before:
            stall(amount // MIB)
    return amount, checksum.hexdigest()


def memory(pid: int, which: str) -> int:
    """What a process has in memory, in KiB: ``VmRSS`` now, ``VmHWM`` at most so far."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{which}:"):
            return int(line.split()[1])
    raise LookupError(which)


def exchange_much(
    pool: ThreadPoolExecutor, ends: Ends, amount: int, stall: Callable[[int], None]
) -> None:
    """Send so much each way at once, read it with pauses, and compare."""
    reading = [pool.submit(read_much, end, stall) for end in (ends.backend, ends.client)]
    sending = [
        pool.submit(send_much, end, amount, seed)
        for seed, end in enumerate((ends.client, ends.backend))
    ]
    for read, sent in zip(reading, sending, strict=True):
        assert read.result() == (amount, sent.result())


def assert_memory_is_bounded(start: Any, backend: Backend, pool: Any, amount: int) -> None:
    converse = forwarded(start, backend)
    pid = converse.server.pid

    def exchange(amount: int) -> None:
        with closing(converse()) as ends:
            exchange_much(pool, ends, amount, lambda count: time.sleep(0.3 * (count % 64 == 5)))

    # What the first conversation imports and allocates stays for good, the buffers that fill up
    # when a reader stalls among it. It is no more of that for a conversation that is longer.
    exchange(8 * MIB)
    before = memory(pid, "VmHWM")
    exchange(amount)
    assert memory(pid, "VmHWM") - before <= ALLOCATORS_SHARE


def test_16_mib_each_way_arrive_through_readers_that_stall(start, backend, pool):
    assert_memory_is_bounded(start, backend, pool, 16 * MIB)


@pytest.mark.slow
def test_1_gib_each_way_arrives_through_readers_that_stall(start, backend, pool):
    assert_memory_is_bounded(start, backend, pool, 1024 * MIB)


def test_a_reader_that_never_reads_stops_the_sender_and_not_the_memory(start, backend):
    converse = forwarded(start, backend)
    pid = converse.server.pid
    with closing(converse()) as ends:
        ends.client.sendall(bytes(65536))
        receive(ends.backend, 65536)
        before = memory(pid, "VmHWM")
        ends.client.settimeout(0.5)
        with pytest.raises(TimeoutError):
            send_for_ever(ends.client)
        assert memory(pid, "VmHWM") - before <= ALLOCATORS_SHARE


# How it ends


@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_each_end_may_finish_and_go_on_receiving(start, kind, backend, unix_backend):
    chosen = backend if kind == "tcp" else unix_backend
    converse = forwarded(start, chosen, listen=f"unix:{start.cwd}/door" if kind == "unix" else "")
    for upwards in (True, False):
        with closing(converse()) as ends:
            first, second = ends.client, ends.backend
            if not upwards:
                first, second = second, first
            first.sendall(b"question")
            first.shutdown(socket.SHUT_WR)
            assert read_to_end(second) == b"question"
            second.sendall(b"answer")
            second.shutdown(socket.SHUT_WR)
            assert read_to_end(first) == b"answer"


def reset(end: socket.socket) -> None:
    """Close in a way that resets (SO_LINGER of socket(7))."""
    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    end.close()


@pytest.mark.parametrize("upwards", [True, False])
def test_a_reset_passes(start, backend, upwards):
    with closing(forwarded(start, backend)()) as ends:
        first, second = (ends.client, ends.backend) if upwards else (ends.backend, ends.client)
        first.sendall(b"hello")
        assert second.recv(5) == b"hello"
        reset(first)
        with pytest.raises(ConnectionResetError):
            second.recv(1)


def clog(speaker: socket.socket, deaf: socket.socket) -> int:
    """Send a little more than the kernel holds for one who does not read; gives how much."""
    sent = queued = 0
    while queued == sent:
        sent += speaker.send(bytes(8192))
        end = time.monotonic() + 1
        while queued < sent and time.monotonic() < end:
            # SIOCINQ of unix(7).
            answer = fcntl.ioctl(deaf, termios.FIONREAD, bytes(4))
            queued = struct.unpack("i", answer)[0]
    return sent


def has_hung_up(end: socket.socket) -> bool:
    """Whether the other side of a unix socket is gone (poll(2)), whatever is still unread."""
    poll = select.poll()
    poll.register(end, 0)
    return any(event & select.POLLHUP for _, event in poll.poll(0))


@pytest.mark.parametrize("upwards", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_a_peer_that_does_not_read_the_last_words_is_gone_by_the_bound(
    start, unix_backend, upwards
):
    converse = forwarded(start, unix_backend, listen=f"unix:{start.cwd}/door", close_timeout=0.3)
    with closing(converse()) as ends:
        speaker, deaf = (ends.client, ends.backend) if upwards else (ends.backend, ends.client)
        deaf.shutdown(socket.SHUT_WR)
        assert speaker.recv(1) == b""
        # Not so much that nothing more would be read: the end has to be seen.
        amount = clog(speaker, deaf)
        speaker.shutdown(socket.SHUT_WR)
        eventually(lambda: has_hung_up(deaf))
        assert len(read_to_end(deaf)) < amount


# No backend


def test_a_backend_that_refuses_ends_the_client_with_a_line(start, backend):
    backend.socket.close()
    converse = forwarded(start, backend)
    with dial(converse.server.place) as client:
        client.sendall(b"sesame\n")
        assert read_to_end(client) == b"OK\n"
    found = converse.server.wait_for(r"cannot forward 127\.0\.0\.1:\d+ to (\S+): (.*)")
    assert found[1] == backend.endpoint
    assert "refused" in found[2]


def test_a_backend_that_does_not_answer_ends_the_client_within_the_deadline(start):
    with ExitStack() as stack:
        listening = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        # With its queue full, the kernel drops what else would connect.
        for _ in range(3):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listening.getsockname())
        full = Backend(listening, f"tcp:127.0.0.1:{listening.getsockname()[1]}")
        converse = forwarded(start, full, connect_timeout=0.3)
        client = stack.enter_context(dial(converse.server.place))
        client.sendall(b"sesame\n")
        assert read_to_end(client) == b"OK\n"
        converse.server.wait_for(r"cannot forward \S+ to \S+: no answer within 0\.3 s")


# Who it is


def test_the_backend_is_told_the_real_client_and_then_what_came_early(start, backend):
    converse = forwarded(start, backend, proxy="v2")
    with dial(converse.server.place) as client:
        # In one piece: what follows the handshake waits for the backend.
        client.sendall(b"sesame\nhello, ")
        assert receive(client, 3) == b"OK\n"
        source, door = client.getsockname(), client.getpeername()
        with backend.accept() as connection:
            client.sendall(b"world")
            client.shutdown(socket.SHUT_WR)
            received = read_to_end(connection)

    assert received == v2_header(Address.ip(*source), Address.ip(*door)) + b"hello, world"
    header = ProxyParser("v2").receive_data(received)
    assert header is not None
    assert header.source == Address.ip(*source)


# Over TLS


def test_over_tls_an_end_is_a_close_notify(start, backend, loopback_identity):
    converse = forwarded(start, backend, listen=loopback_identity.endpoint)
    with dial(converse.server.place, loopback_identity.context) as client:
        client.sendall(b"sesame\nquestion")
        with backend.accept() as connection:
            assert receive(connection, 8) == b"question"
            connection.sendall(bytes(MIB) + b"answer")
            connection.close()
        client.settimeout(PATIENCE)
        client.suppress_ragged_eofs = False
        assert read_to_end(client) == b"OK\n" + bytes(MIB) + b"answer"


def test_a_tls_client_that_says_goodbye_is_an_end_for_the_backend(
    start, backend, loopback_identity
):
    converse = forwarded(start, backend, listen=loopback_identity.endpoint)
    client = dial(converse.server.place, loopback_identity.context)
    client.sendall(b"sesame\n" + bytes(65536))
    assert client.recv(3) == b"OK\n"
    with backend.accept() as connection, client, client.unwrap():
        assert read_to_end(connection) == bytes(65536)


@pytest_twisted.ensureDeferred
async def test_a_backend_may_speak_tls(sockproto_server, loopback_identity):
    listening = await serverFromString(reactor, loopback_identity.endpoint).listen(
        Factory.forProtocol(Echo)
    )
    port = listening.getHost().port
    endpoint = f"tls:127.0.0.1:{port}:trustRoots={loopback_identity.trusted}"
    server = await sockproto_server(Open(), Forward(endpoint))

    def talk() -> bytes:
        with dial(("127.0.0.1", server.port)) as client:
            client.sendall(bytes(MIB))
            return receive(client, MIB)

    try:
        assert await within_patience(deferToThread(talk)) == bytes(MIB)
        await until(lambda: not server.factory.terms.live)
    finally:
        await listening.stopListening()


@pytest_twisted.ensureDeferred
async def test_a_backend_that_is_silent_over_tls_ends_the_client(
    sockproto_server, backend, loopback_identity
):
    endpoint = backend.endpoint.replace("tcp:", "tls:")
    server = await sockproto_server(
        Open(),
        Forward(f"{endpoint}:trustRoots={loopback_identity.trusted}", connect_timeout=0.2),
    )

    assert await within_patience(server.say(b"hello", finish=True)) == b""
    await until(lambda: not server.factory.terms.live)


@pytest_twisted.ensureDeferred
async def test_nothing_is_left_when_we_stop_in_the_middle(sockproto_server, backend):
    server = await sockproto_server(
        Passphrase(b"sesame"), Forward(backend.endpoint, close_timeout=0.2)
    )

    def talk() -> Ends:
        client = dial(("127.0.0.1", server.port))
        client.sendall(b"sesame\nhello")
        connection = backend.accept()
        assert receive(connection, 5) == b"hello"
        return Ends(client, connection)

    with closing(await within_patience(deferToThread(talk))) as ends:
        await within_patience(server.stop())
        assert await within_patience(deferToThread(read_to_end, ends.backend)) == b""
