"""asyncio streams, which is how most asyncio servers are written."""

from __future__ import annotations

import asyncio

from benchmarks.job import BACKLOG, GOODBYE, MAX_READ, TOKEN, WELCOME, Job


def serve(job: Job) -> None:
    """Serve the lesson, for ever."""

    async def lesson(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(job.timeout):
                token = await reader.read(MAX_READ)
                writer.write(WELCOME if token == TOKEN else GOODBYE)
                await writer.drain()
        except TimeoutError:
            pass
        writer.close()

    async def run() -> None:
        server = await asyncio.start_server(lesson, "127.0.0.1", job.port, backlog=BACKLOG)
        await server.serve_forever()

    asyncio.run(run())
