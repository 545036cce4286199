"""gevent: a greenlet for each peer."""

from __future__ import annotations

from typing import Any

import gevent
from gevent.server import StreamServer

from benchmarks.job import BACKLOG, GOODBYE, MAX_READ, TOKEN, WELCOME, Job


def serve(job: Job) -> None:
    """Serve the lesson, for ever."""

    def lesson(peer: Any, address: object) -> None:
        with gevent.Timeout(job.timeout, False):
            token = peer.recv(MAX_READ)
            peer.sendall(WELCOME if token == TOKEN else GOODBYE)
        peer.close()

    StreamServer(("127.0.0.1", job.port), lesson, backlog=BACKLOG).serve_forever()
