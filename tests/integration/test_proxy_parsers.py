"""What a real haproxy sends in front of a connection, read by our parser."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from sockproto.core.facts import Address
from sockproto.transport.proxy import PP2_TYPE_CRC32C, ProxyHeader, ProxyParser

from .kit import PATIENCE, dial, eventually, free_port, is_listening, read_to_end

HAPROXY = shutil.which("haproxy") or shutil.which("haproxy", path="/usr/sbin")

if not HAPROXY and os.environ.get("CI") != "true":
    pytest.skip("haproxy is not installed: apt-get install haproxy", allow_module_level=True)

CONFIG = """\
defaults
    mode tcp
    timeout connect 5s
    timeout client 30s
    timeout server 30s

listen door
    bind {host}:{door}
    server ours 127.0.0.1:{port} {sends}
"""


class Proxied:
    """A haproxy in front of a backend of ours, which is nothing but a listening socket."""

    def __init__(self, backend: socket.socket, door: Any) -> None:
        self._backend = backend
        self.door = door

    def accept(self) -> socket.socket:
        connection, _ = self._backend.accept()
        connection.settimeout(PATIENCE)
        return connection

    def header(self, version: Any = "auto") -> tuple[ProxyHeader, Address, Address, bytes]:
        """
        Say ``hello`` to the proxy and finish, as a client does.

        Returns:
            The header, the client as it is, the door as it is, and what followed the header.
        """
        with dial(self.door) as client:
            source, destination = client.getsockname(), client.getpeername()
            client.sendall(b"hello")
            client.shutdown(socket.SHUT_WR)
            with self.accept() as connection:
                received = read_to_end(connection)
        parser = ProxyParser(version)
        header = parser.receive_data(received)
        assert header is not None
        return header, Address.ip(*source[:2]), Address.ip(*destination[:2]), parser.unread


@contextmanager
def haproxy(start: Any, sends: str, host: str = "127.0.0.1") -> Iterator[Proxied]:
    """Start a haproxy whose ``server`` line ends in these words."""
    assert HAPROXY, "haproxy is not installed: apt-get install haproxy"
    door = host, free_port()
    with socket.create_server(("127.0.0.1", 0)) as backend:
        backend.settimeout(PATIENCE)
        port = backend.getsockname()[1]
        config = Path(start.cwd) / "haproxy.cfg"
        config.write_text(CONFIG.format(host=host, door=door[1], port=port, sends=sends))
        program = start.program(HAPROXY, "-db", "-f", config)
        eventually(lambda: program.process.poll() is not None or _answers(door))
        assert program.process.poll() is None, program.lines
        yield Proxied(backend, door)


def _answers(door: tuple[str, int]) -> bool:
    if ":" not in door[0]:
        return is_listening(door[1])
    table = Path("/proc/net/tcp6").read_text().splitlines()[1:]
    return any(row.split()[1].endswith(f":{door[1]:04X}") for row in table)


@pytest.mark.parametrize(
    ("sends", "version"),
    [("send-proxy", "v1"), ("send-proxy-v2", "v2")],
)
@pytest.mark.parametrize("host", ["127.0.0.1", pytest.param("::1", marks=pytest.mark.ipv6)])
def test_haproxy_tells_the_real_client(start, sends, version, host):
    with haproxy(start, sends, host) as proxied:
        for _ in range(3):
            header, client, door, rest = proxied.header(version)

            assert header == ProxyHeader(client, door)
            assert rest == b"hello"


def test_the_checksum_of_haproxy_is_right(start):
    with haproxy(start, "send-proxy-v2 proxy-v2-options crc32c") as proxied:
        header, client, door, rest = proxied.header("v2")

    assert (header.source, header.destination) == (client, door)
    assert list(header.tlvs) == [PP2_TYPE_CRC32C]
    assert rest == b"hello"


def test_the_further_facts_of_haproxy_are_read(start):
    options = "proxy-v2-options crc32c,unique-id,authority,ssl"
    with haproxy(start, f"send-proxy-v2 {options}") as proxied:
        header, client, _, rest = proxied.header()

    assert header.source == client
    assert PP2_TYPE_CRC32C in header.tlvs
    assert rest == b"hello"


def test_a_health_check_of_haproxy_speaks_for_itself(start):
    with (
        haproxy(start, "send-proxy-v2 check-send-proxy check inter 100ms") as proxied,
        proxied.accept() as connection,
    ):
        # Not to the end: the check ends in a reset.
        header = ProxyParser("v2").receive_data(connection.recv(65536))

    assert header == ProxyHeader()
