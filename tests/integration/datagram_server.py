"""
The lesson over TCP and over UDP, from one process: ``datagram_server.py [TOKEN]``.

It says where it listens, and at the end how many datagrams it has seen.
"""

from __future__ import annotations

import sys

from twisted.internet import reactor

from sockproto import ServerFactory, listen, listen_datagrams
from sockproto.events import Event, HandshakeEnded
from sockproto.handshakes.welcome import Welcome

seen: dict[str, int] = {}


class Count:
    """Counts the verdicts over datagrams; as long as nobody asks for more, no more is made."""

    wants = (HandshakeEnded,)

    def __call__(self, event: Event) -> None:
        assert isinstance(event, HandshakeEnded)
        seen[event.reason] = seen.get(event.reason, 0) + 1


handshake = Welcome(token=sys.argv[1].encode() if len(sys.argv) > 1 else b"1")
tcp = listen(reactor, "tcp:0:interface=127.0.0.1", ServerFactory(handshake))
udp = listen_datagrams(reactor, "udp:0:interface=127.0.0.1", handshake, observers=[Count()])
print(f"listens on {tcp.getHost().port} and {udp.getHost().port}", flush=True)
reactor.run()
print(f"has seen {sum(seen.values())}: {seen}", flush=True)
