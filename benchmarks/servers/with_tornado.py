"""Tornado: a coroutine for each peer, over its own streams."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from tornado import gen
from tornado.iostream import IOStream, StreamClosedError
from tornado.tcpserver import TCPServer

from benchmarks.job import BACKLOG, GOODBYE, MAX_READ, TOKEN, WELCOME, Job


class Lesson(TCPServer):
    """The lesson's handshake."""

    timeout: timedelta

    async def handle_stream(self, stream: IOStream, address: object) -> None:
        try:
            token = await gen.with_timeout(self.timeout, stream.read_bytes(MAX_READ, partial=True))
            await stream.write(WELCOME if token == TOKEN else GOODBYE)
        except (gen.TimeoutError, StreamClosedError):
            pass
        finally:
            stream.close()


def serve(job: Job) -> None:
    """Serve the lesson, for ever."""

    async def run() -> None:
        server = Lesson()
        server.timeout = timedelta(seconds=job.timeout)
        server.listen(job.port, "127.0.0.1", backlog=BACKLOG)
        await asyncio.Event().wait()

    asyncio.run(run())
