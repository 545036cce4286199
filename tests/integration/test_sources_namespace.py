"""
A host that has a whole /64 is one source, however many of its addresses it comes from.

A network namespace of its own has three such networks on its loopback interface, every address of
which is local; nothing leaves the machine.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator

import pytest

from .kit import PATIENCE, Starter

PORT = 8471
ADDRESSES = 10_000
SLOTS = 16

SERVER = f"""
from twisted.internet import reactor
from sockproto import AdmissionControl, Limits, ServerFactory, listen
from sockproto.handshakes.welcome import Welcome

limits = Limits(idle_timeout=600, handshake_timeout=600)
factory = ServerFactory(Welcome(), limits=limits, admission=AdmissionControl())
listen(reactor, r"tcp:{PORT}:interface=\\:\\:", factory)
print("ready", flush=True)
reactor.run()
"""

CLIENT = f"""
import select, socket, sys

IPV6_FREEBIND = 78  # linux/in6.h

def dial(address):
    client = socket.socket(socket.AF_INET6)
    client.settimeout({PATIENCE})
    client.setsockopt(socket.IPPROTO_IPV6, IPV6_FREEBIND, 1)
    client.bind((address, 0))
    client.connect(("2001:db8::1", {PORT}))
    return client

held = []
refused = 0
for batch in range({ADDRESSES} // 250):
    clients = [dial(f"2001:db8:0:1::{{batch:x}}:{{number:x}}") for number in range(250)]
    # Whoever has a slot hears nothing, so that the others are waited for.
    waiting = {{each.fileno(): each for each in clients}}
    while len(waiting) + len(held) > {SLOTS}:
        ready, _, _ = select.select(list(waiting), [], [], {PATIENCE})
        if not ready:
            sys.exit(f"{{len(waiting) + len(held)}} have a slot, of {SLOTS}")
        for number in ready:
            client = waiting.pop(number)
            assert client.recv(1) == b""
            client.close()
            refused += 1
    held += waiting.values()
print("held", len(held), "refused", refused)
with dial("2001:db8:0:2::1") as client:
    client.sendall(b"1")
    print("another network", client.recv(100).decode())
for each in held:
    each.sendall(b"1")
    assert each.recv(100) == b"welcome to server!"
with dial("2001:db8:0:1::ffff") as client:
    client.sendall(b"1")
    print("afterwards", client.recv(100).decode())
"""


@pytest.fixture
def namespace() -> Iterator[str]:
    """The name of a network namespace in which the addresses of 2001:db8::/48 are local."""
    if shutil.which("ip") is None:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)("needs ip, of iproute2")
    name = f"sockproto-{os.getpid()}"
    try:
        ip("netns", "add", name)
    except subprocess.CalledProcessError as error:
        # Not root, or root of a container that may not: no installation cures that.
        pytest.skip(f"no network namespace can be made here: {error.stderr.strip()}")
    try:
        ip("-n", name, "link", "set", "lo", "up")
        # A route of type local makes all of them ours: ip-route(8).
        ip("-n", name, "-6", "route", "add", "local", "2001:db8::/48", "dev", "lo")
        yield name
    finally:
        ip("netns", "delete", name)


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, stderr=subprocess.PIPE, text=True, timeout=PATIENCE)


@pytest.mark.slow
@pytest.mark.ipv6
def test_ten_thousand_addresses_of_one_network_have_the_slots_of_one_source(
    start: Starter, namespace: str
):
    inside = ("ip", "netns", "exec", namespace, sys.executable, "-c")
    server = start.program(*inside, SERVER)
    server.wait_for("ready")

    client = start.program(*inside, CLIENT)

    assert client.wait() == 0, client.lines
    assert client.lines == [
        f"held {SLOTS} refused {ADDRESSES - SLOTS}",
        "another network welcome to server!",
        "afterwards welcome to server!",
    ]
    server.stop()
