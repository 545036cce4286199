"""
However the stream is cut, the session gets exactly what follows the handshake.

Through every kind of door and on every reactor that our own listener works on, each in a process of
its own. A chunk is sent when the server has read the one before it: a session that was there first
is asked for two echoes meanwhile, and between them lies a turn of the reactor.
"""

from __future__ import annotations

import socket
import ssl
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from importlib.util import find_spec
from itertools import chain, combinations, islice, pairwise
from pathlib import Path
from random import Random

import pytest

from .kit import BIN, Identity, Starter, Where, dial, read_to_end

REQUEST = b"ab\n"
REPLY = b"OK\n"
PAYLOAD = b"\0 and\nso on\xff\n"
"""With the request 16 bytes."""

TOGETHER = 60
"""How many clients speak at a time; the listener accepts that many in one turn."""

UVLOOP = """
import uvloop
from twisted.internet import asyncioreactor
asyncioreactor.install(uvloop.new_event_loop())
from twisted.scripts.twistd import run
run()
"""

ALONE = ("-n", "--pidfile=")
REACTORS: dict[str, Sequence[str | Path]] = {
    name: (BIN / "twistd", f"--reactor={name}", *ALONE) for name in ("epoll", "asyncio", "poll")
}
if find_spec("uvloop"):
    REACTORS["uvloop"] = (sys.executable, "-c", UVLOOP, *ALONE)

EACH_REACTOR = [
    # Two that have nothing in common; the others may wait.
    each if each == "epoll" else pytest.param(each, marks=pytest.mark.slow)
    for each in REACTORS
]

DOORS = ("tcp", "unix", "tls")

Cut = tuple[bytes, ...]


class Server:
    """
    A server with a door of each kind, on one of the reactors.

    Args:
        starter: Starts it.
        runner: How.
        files: What its TLS door has.
        options: What it is told besides.
        opening: What begins a session.
        answer: What is said to that.
    """

    def __init__(
        self,
        starter: Starter,
        runner: Sequence[str | Path],
        files: Identity,
        options: Sequence[str],
        opening: bytes,
        answer: bytes,
    ) -> None:
        self.tls = files.context
        local = "0:interface=127.0.0.1"
        listen = [f"tcp:{local}", "unix:door", f"tls:{local}:cert={files.certificate}"]
        listen[-1] += f":key={files.key}"
        self.program = starter.sockserver(
            *(f"--listen={each}" for each in listen), *options, runner=runner
        )
        tcp, _, tls = self.program.places
        self._places: dict[str, Where] = {"tcp": tcp, "unix": str(starter.cwd / "door"), "tls": tls}
        self._session = self.dial("tcp")
        self._session.sendall(opening)
        assert self._session.recv(len(answer), socket.MSG_WAITALL) == answer

    def dial(self, door: str, *, tls: bool = True) -> socket.socket:
        return dial(self._places[door], self.tls if tls and door == "tls" else None)

    def catch_up(self) -> None:
        """Wait until the server has read all that was sent."""
        for word in (b"here", b"done"):
            self._session.sendall(word)
            assert self._session.recv(4, socket.MSG_WAITALL) == word

    def close(self) -> None:
        self._session.close()


@pytest.fixture(scope="module", params=EACH_REACTOR)
def server(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    loopback_identity: Identity,
) -> Iterator[Server]:
    starter = Starter(tmp_path_factory.mktemp(request.param))
    options = ["--handshake", "passphrase:ab", "--session", "echo"]
    try:
        made = Server(starter, REACTORS[request.param], loopback_identity, options, REQUEST, REPLY)
        yield made
        made.close()
        # Whatever is wrong with a connection that had been told its story, the log says it.
        assert not made.program.matching("Traceback|Unhandled|crashed")
        assert made.program.process.poll() is None
    finally:
        starter.end()


def tell(server: Server, door: str, cuts: Iterable[Cut]) -> int:
    """Have a client send each, chunk by chunk, and hear the echo; how many."""
    count = 0
    remaining = iter(cuts)
    while batch := list(islice(remaining, TOGETHER)):
        with ExitStack() as opened:
            clients = [opened.enter_context(server.dial(door)) for _ in batch]
            for turn in range(max(map(len, batch))):
                for client, cut in zip(clients, batch, strict=True):
                    if turn < len(cut):
                        client.sendall(cut[turn])
                server.catch_up()
            for client, cut in zip(clients, batch, strict=True):
                assert hear(client, cut) == REPLY + b"".join(cut).removeprefix(REQUEST), cut
        count += len(batch)
    return count


def hear(client: socket.socket, cut: Cut) -> bytes:
    """All that the server has to say to a client."""
    if not isinstance(client, ssl.SSLSocket):
        client.shutdown(socket.SHUT_WR)
        return read_to_end(client)
    # There is no half-close over TLS: there, more than there should be would come unread.
    wanted = len(REPLY) + sum(map(len, cut)) - len(REQUEST)
    heard = b""
    while len(heard) < wanted and (part := client.recv(65536)):
        heard += part
    return heard


def cut_at(data: bytes, places: Iterable[int]) -> Cut:
    return tuple(data[start:end] for start, end in pairwise([0, *places, len(data)]))


def every_cut_of(data: bytes, places: Iterable[int]) -> Iterator[Cut]:
    """Every way to cut at so many places."""
    for count in places:
        for where in combinations(range(1, len(data)), count):
            yield cut_at(data, where)


def random_cuts(count: int) -> Iterator[Cut]:
    """Longer ones."""
    random = Random(7)
    for _ in range(count):
        data = REQUEST + random.randbytes(random.choice((14, 100, 1000, 3000, 10_000)))
        # Where it matters most is around the end of the request.
        early = [random.randrange(1, 8) for _ in range(random.randrange(3))]
        late = [random.randrange(1, len(data)) for _ in range(random.randrange(5))]
        yield cut_at(data, sorted({*early, *late}))


@pytest.mark.parametrize("door", DOORS)
def test_every_cut_in_two_or_three_of_up_to_16_bytes_reaches_the_session_exactly(server, door):
    data = REQUEST + PAYLOAD
    sizes = range(len(REQUEST), len(data) + 1)
    cuts = chain.from_iterable(every_cut_of(data[:size], (0, 1, 2)) for size in sizes)

    assert tell(server, door, cuts) == 693


@pytest.mark.parametrize("door", DOORS)
def test_every_cut_at_all_of_up_to_8_bytes_reaches_the_session_exactly(server, door):
    data = REQUEST + PAYLOAD
    cuts = chain.from_iterable(every_cut_of(data[:size], range(size)) for size in range(3, 9))

    assert tell(server, door, cuts) == 252


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("door", DOORS)
def test_every_cut_at_all_of_16_bytes_reaches_the_session_exactly(server, door):
    assert tell(server, door, every_cut_of(REQUEST + PAYLOAD, range(16))) == 32768


@pytest.mark.parametrize(
    "count",
    [
        pytest.param(300, id="hundreds"),
        # With three doors and four reactors, 100 000 in all.
        pytest.param(8400, id="thousands", marks=[pytest.mark.slow, pytest.mark.timeout(900)]),
    ],
)
@pytest.mark.parametrize("door", DOORS)
def test_random_cuts_of_longer_ones_reach_the_session_exactly(server, door, count):
    assert tell(server, door, random_cuts(count)) == count


# What the chunks of TLS are made of


class Beginning:
    """A client that begins to speak TLS; its first flight may be sent in pieces."""

    def __init__(self, raw: socket.socket, context: ssl.SSLContext) -> None:
        self._raw = raw
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._in, self._out, server_hostname="127.0.0.1")
        with pytest.raises(ssl.SSLWantReadError):
            self._tls.do_handshake()
        self.flight = self._out.read()

    def finish(self, data: bytes, wanted: int) -> bytes:
        """Do the rest of the handshake, send, and read so many bytes."""
        self._patiently(self._tls.do_handshake)
        self._tls.write(data)
        self._raw.sendall(self._out.read())
        heard = b""
        while len(heard) < wanted:
            heard += self._patiently(lambda: self._tls.read(wanted))
        return heard

    def _patiently(self, attempt):
        while True:
            try:
                return attempt()
            except ssl.SSLWantReadError:
                self._raw.sendall(self._out.read())
                part = self._raw.recv(65536)
                assert part, "the server has left"
                self._in.write(part)
            finally:
                self._raw.sendall(self._out.read())


def test_a_client_hello_can_be_cut_at_every_place(server):
    data = REQUEST + PAYLOAD
    place = 0
    size = 2
    while place < size - 1:
        with ExitStack() as opened:
            raw = [opened.enter_context(server.dial("tls", tls=False)) for _ in range(TOGETHER)]
            clients = [Beginning(each, server.tls) for each in raw]
            size = min(len(client.flight) for client in clients)
            cuts = [1 + (place + each) % (size - 1) for each in range(TOGETHER)]
            for each, client, cut in zip(raw, clients, cuts, strict=True):
                each.sendall(client.flight[:cut])
            server.catch_up()
            for each, client, cut in zip(raw, clients, cuts, strict=True):
                each.sendall(client.flight[cut:])
            server.catch_up()
            wanted = len(REPLY + PAYLOAD)
            heard = {client.finish(data, wanted) for client in clients}
        assert heard == {REPLY + PAYLOAD}
        place += TOGETHER


# That a chunk is what the server reads at once

CHUNKS = """
from sockproto import Accept


class Chunks:
    async def serve(self, peer):
        return Accept(b"%02d\\n" % len(await peer.receive_some(64)))
"""


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("reactor", EACH_REACTOR)
def test_a_chunk_is_read_before_the_next_one_is_sent(start, loopback_identity, reactor, door):
    (start.cwd / "chunks.py").write_text(CHUNKS)
    options = ["--handshake", "chunks:Chunks", "--session", "echo"]
    server = Server(start, REACTORS[reactor], loopback_identity, options, b"hello", b"05\n")

    with ExitStack() as opened:
        clients = [opened.enter_context(server.dial(door)) for _ in range(TOGETHER)]
        sizes = [1 + number % 9 for number in range(TOGETHER)]
        for client, size in zip(clients, sizes, strict=True):
            client.sendall(bytes(size))
        server.catch_up()
        for client in clients:
            client.sendall(b"!")

        heard = [int(client.recv(3)) for client in clients]

    server.close()
    assert heard == sizes
