"""Connection after connection, of every kind, and the server is as it was before the first."""

from __future__ import annotations

import gc
import socket
import ssl
import struct
from contextlib import suppress
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.protocol import Factory
from twisted.internet.threads import deferToThread

from sockproto import Limits
from sockproto.handshakes.passphrase import Passphrase
from sockproto.sessions.echo import Echo
from sockproto.transport.gate import Gate
from sockproto.transport.lease import Lease
from sockproto.transport.server import ServerProtocol

from .kit import Starter, Where, descriptors, dial, eventually, read_to_end, talk, until

pytestmark = pytest.mark.filterwarnings("ignore:Passing pyOpenSSL")

# But long enough for whoever does something, however slow the machine is.
SHORT = Limits(idle_timeout=1.5, handshake_timeout=3.0, close_timeout=1.0)


def one_of_each(place: Where, tls: ssl.SSLContext | None) -> None:
    """Everything that a client may do, good and bad, once."""
    assert talk(place, b"mellon\n", tls) == b"NO\n"
    with dial(place, tls) as client:
        client.sendall(b"sesame\nhello")
        assert client.recv(3) == b"OK\n"
        assert client.recv(5) == b"hello"
    # A probe, and over TLS one that does not even begin.
    dial(place, tls).close()
    dial(place).close()
    with dial(place) as client:
        client.sendall(b"GET / HTTP/1.0\r\n\r\n" if tls else b"x" * 5000)
        with suppress(ConnectionError):
            read_to_end(client)
    # Resets: in the handshake, and in the session.
    for said in (b"ses", b"sesame\nhello"):
        client = dial(place, tls)
        client.sendall(said)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
    # A goodbye that is not read.
    with dial(place, tls) as client:
        client.sendall(b"mellon\n" + bytes(50_000))


def linger(place: Where, tls: ssl.SSLContext | None) -> None:
    """Those that the server has to show out."""
    clients = [dial(place, tls), dial(place), dial(place, tls)]
    clients[2].sendall(b"mellon\n")
    for each in clients:
        with each, suppress(ConnectionError):
            read_to_end(each)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["tcp", "unix", "tls"])
@pytest_twisted.ensureDeferred
async def test_hundreds_of_connections_of_all_kinds_leave_nothing(
    sockproto_server, loopback_identity, tmp_path, kind
):
    listen = {
        "tcp": "tcp:0:interface=127.0.0.1",
        "unix": f"unix:{tmp_path}/door",
        "tls": loopback_identity.endpoint,
    }[kind]
    server = await sockproto_server(
        Passphrase(b"sesame"), Factory.forProtocol(Echo), limits=SHORT, listen=listen
    )
    place: Where = f"{tmp_path}/door" if kind == "unix" else ("127.0.0.1", server.port)
    tls = loopback_identity.context if kind == "tls" else None

    async def cycle() -> None:
        await deferToThread(one_of_each, place, tls)

    await cycle()
    await deferToThread(linger, place, tls)
    await until(lambda: not server.factory.terms.live)
    server.events.clear()
    gc.collect()
    before = baseline()

    for at in range(100):
        await cycle()
        if at % 50 == 0:
            await deferToThread(linger, place, tls)
    await until(lambda: not server.factory.terms.live)

    opened = sum(type(each).__name__ == "ConnectionOpened" for each in server.events)
    assert opened == len(server.verdicts) == len(server.endings) > 700
    assert len(server.factory.terms.deadlines) == 0
    server.events.clear()
    gc.collect()
    await until(lambda: baseline() == before)


def baseline() -> tuple[Any, ...]:
    """What must be the same before and after: descriptors, timers, readers, and our objects."""
    ours = (Gate, Lease, ServerProtocol, Echo)
    counts = [0] * len(ours)
    for each in gc.get_objects():
        if type(each) in ours:
            counts[ours.index(type(each))] += 1
    calls = [each for each in reactor.getDelayedCalls() if "deferLater" not in repr(each)]
    return descriptors(), len(calls), len(reactor.getReaders()), len(reactor.getWriters()), counts


@pytest.mark.slow
def test_a_server_process_keeps_no_descriptor(start: Starter, loopback_identity):
    server = start.sockserver(
        *("--listen", "tcp:0:interface=127.0.0.1", "--listen", loopback_identity.endpoint),
        *("--handshake", "passphrase:sesame", "--session", "echo"),
        *("--idle-timeout", "1500ms", "--handshake-timeout", "3s", "--close-timeout", "1s"),
    )
    plain, secret = server.places
    tls = loopback_identity.context
    one_of_each(plain, None)
    one_of_each(secret, tls)
    linger(plain, None)
    linger(secret, tls)
    before = descriptors(server.pid)

    for _ in range(50):
        one_of_each(plain, None)
        one_of_each(secret, tls)
    linger(plain, None)
    linger(secret, tls)

    eventually(lambda: descriptors(server.pid) <= before)
    assert not server.matching("Traceback|Unhandled")
