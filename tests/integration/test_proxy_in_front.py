"""haproxy in front, which says whose connection it brings: the log shows the real client."""

from __future__ import annotations

import shutil
import socket
import ssl
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass

import pytest

from .kit import (
    PATIENCE,
    Identity,
    Program,
    Sockserver,
    Starter,
    dial,
    eventually,
    free_port,
    is_listening,
    read_to_end,
    room_for,
)

HAPROXY = shutil.which("haproxy")

needs_haproxy = pytest.mark.skipif(HAPROXY is None, reason="needs haproxy")

WELCOME = b"welcome to server!"

CONFIGURATION = """
global
    maxconn 2000
defaults
    mode tcp
    timeout connect 5s
    timeout client 30s
    timeout server 30s
listen door
    bind 127.0.0.1:{front}
    server sockproto 127.0.0.1:{back} source 127.0.0.1 {more}
"""

VERSIONS = {"v1": "send-proxy", "v2": "send-proxy-v2"}
every_version = pytest.mark.parametrize("version", VERSIONS)


def behind(start: Starter, version: str, *options: str) -> Sockserver:
    """A server that believes 127.0.0.1 alone."""
    return start.sockserver(
        *("--proxy-protocol", version, "--proxy-allow-from", "127.0.0.1/32"), *options
    )


@dataclass
class Proxy:
    """
    A haproxy that is ready.

    Attributes:
        program: It.
        port: Where it listens.
    """

    program: Program
    port: int

    @classmethod
    def start(cls, start: Starter, server: Sockserver, more: str) -> Proxy:
        assert HAPROXY is not None
        port = free_port()
        file = start.cwd / "haproxy.cfg"
        file.write_text(CONFIGURATION.format(front=port, back=server.place[1], more=more))
        program = start.program(HAPROXY, "-db", "-f", file)
        eventually(lambda: is_listening(port) or program.process.poll() is not None)
        assert program.process.poll() is None, program.lines
        return cls(program, port)

    def visit(self, number: int, tls: ssl.SSLContext | None = None) -> str:
        """Have one of many clients come to the server; who it was."""
        source = f"127.0.{1 + number // 200 % 200}.{1 + number % 200}"
        with socket.create_connection(
            ("127.0.0.1", self.port), PATIENCE, source_address=(source, 0)
        ) as raw:
            host, port = raw.getsockname()
            client = raw if tls is None else tls.wrap_socket(raw, server_hostname="127.0.0.1")
            with client:
                client.sendall(b"1")
                assert read_to_end(client) == WELCOME
        assert host == source
        return f"{host}:{port}"


@needs_haproxy
@every_version
@pytest.mark.parametrize(
    "count",
    [
        pytest.param(200, id="hundreds"),
        pytest.param(10_000, id="thousands", marks=pytest.mark.slow),
    ],
)
def test_each_line_shows_the_client_behind_the_proxy(start, version, count):
    room_for(4000)
    server = behind(start, version)
    proxy = Proxy.start(start, server, VERSIONS[version])

    with ThreadPoolExecutor(20) as pool:
        came = list(pool.map(proxy.visit, range(count)))

    server.wait_for("accepted", count)
    shown = [found[1] for found in server.matching(r"accepted (\S+) in [\d.]+ m?s")]
    assert sorted(shown) == sorted(came)
    assert not server.matching("Traceback|Unhandled|violation|refused")


@needs_haproxy
@every_version
def test_the_header_comes_before_tls(start, loopback_identity, version):
    files = f"cert={loopback_identity.certificate}:key={loopback_identity.key}"
    server = behind(start, version, f"--listen=tls:0:interface=127.0.0.1:{files}")
    proxy = Proxy.start(start, server, VERSIONS[version])

    came = [proxy.visit(number, loopback_identity.context) for number in range(20)]

    server.wait_for("accepted", 20)
    shown = [found[1] for found in server.matching(r"accepted (\S+) in [\d.]+ m?s")]
    assert sorted(shown) == sorted(came)


@needs_haproxy
def test_with_auto_one_door_serves_proxies_of_both_versions(start):
    server = behind(start, "auto")

    for words in VERSIONS.values():
        came = Proxy.start(start, server, words).visit(7)
        server.wait_for(f"accepted {came} in ")


@needs_haproxy
@every_version
def test_the_proxys_own_health_checks_are_probes(start, version):
    """They say LOCAL, or UNKNOWN: the proxy speaks for itself (sections 2.1 and 2.2)."""
    server = behind(start, version)
    proxy = Proxy.start(start, server, f"{VERSIONS[version]} check check-send-proxy inter 300ms")

    server.wait_for(r"probe 127\.0\.0\.1:\d+ in ", 3)

    came = proxy.visit(3)
    server.wait_for(f"accepted {came} in ")
    assert not server.matching("Traceback|Unhandled|violation|refused")
    assert not proxy.program.matching("DOWN")


HEADERS = {
    "v1": b"PROXY TCP4 192.0.2.1 127.0.0.1 1000 8001\r\n",
    "v2": b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\2\1\x7f\0\0\1\x03\xe8\x1f\x41",
}


def say(server: Sockserver, source: str, data: bytes) -> tuple[str, bytes]:
    """Come from somewhere and speak: who that was, and what is said to that."""
    with socket.create_connection(server.place, PATIENCE, source_address=(source, 0)) as client:
        host, port = client.getsockname()
        heard = b""
        # It may be shown the door before it has spoken, in whatever way.
        with suppress(ConnectionError):
            client.sendall(data)
            heard = read_to_end(client)
        return f"{host}:{port}", heard


@every_version
def test_a_strangers_header_is_dropped_without_a_byte(start, version):
    server = behind(start, version)

    known, heard = say(server, "127.0.0.1", HEADERS[version] + b"1")
    stranger, silence = say(server, "127.0.0.9", HEADERS[version] + b"1")

    assert heard == WELCOME
    server.wait_for(r"accepted 192\.0\.2\.1:1000 in ")
    assert silence == b""
    server.wait_for(f"refused {stranger} in .*: it is no proxy that we believe")
    assert len(server.matching("accepted|refused")) == 2
    assert not server.matching(known)


@every_version
@pytest.mark.parametrize("kind", ["tcp", "tls"])
@pytest.mark.parametrize(
    "data", [b"1", b"GET / HTTP/1.0\r\n\r\n", b"\x16\x03\x01", b"PROXY TCP7 1 2 3 4\r\n"]
)
def test_a_believed_proxy_without_a_header_is_dropped_without_a_byte(
    start, loopback_identity: Identity, version, kind, data
):
    files = f"cert={loopback_identity.certificate}:key={loopback_identity.key}"
    more = {"tcp": "", "tls": f":{files}"}[kind]
    server = behind(start, version, f"--listen={kind}:0:interface=127.0.0.1{more}")

    proxy, heard = say(server, "127.0.0.1", data)

    assert heard == b""
    server.wait_for(f"violation {proxy} in ")


def test_the_header_is_under_the_handshakes_deadline(start):
    server = behind(start, "v1", "--idle-timeout", "200ms", "--handshake-timeout", "300ms")

    with dial(server.place) as client:
        client.sendall(HEADERS["v1"][:20])
        server.wait_for(r"time out 127\.0\.0\.1:\d+ in ")
        with suppress(ConnectionResetError):
            assert read_to_end(client) == b""
