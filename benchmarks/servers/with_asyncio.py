"""asyncio, with callback protocols: the quickest that it offers."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from hmac import compare_digest
from typing import Any

from benchmarks.job import (
    BACKLOG,
    DENIED,
    ECHO,
    GOODBYE,
    GRANTED,
    LESSON,
    MAX_WORD,
    SESSION,
    TOKEN,
    WELCOME,
    WORD,
    Job,
)


class Lesson(asyncio.Protocol):
    """The lesson's handshake."""

    __slots__ = ("_deadline", "_loop", "_timeout", "_transport")

    def __init__(self, loop: asyncio.AbstractEventLoop, timeout: float) -> None:
        self._loop, self._timeout = loop, timeout

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._deadline = self._loop.call_later(self._timeout, transport.abort)

    def data_received(self, data: bytes) -> None:
        self._deadline.cancel()
        self._transport.write(WELCOME if data == TOKEN else GOODBYE)
        self._transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        self._deadline.cancel()


class Echo(asyncio.Protocol):
    """An echo without a handshake."""

    __slots__ = ("_transport",)

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._transport.write(data)

    def pause_writing(self) -> None:
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._transport.resume_reading()


class Session(asyncio.Protocol):
    """A word, then an echo."""

    __slots__ = ("_deadline", "_loop", "_received", "_timeout", "_transport")

    def __init__(self, loop: asyncio.AbstractEventLoop, timeout: float) -> None:
        self._loop, self._timeout = loop, timeout
        self._received = b""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._deadline = self._loop.call_later(self._timeout, transport.abort)

    def data_received(self, data: bytes) -> None:
        self._received += data
        word, found, rest = self._received.partition(b"\n")
        if not found and len(word) <= MAX_WORD:
            return
        self._deadline.cancel()
        if found and compare_digest(word, WORD):
            self._transport.write(GRANTED)
            echo = Echo()
            self._transport.set_protocol(echo)
            echo.connection_made(self._transport)
            if rest:
                echo.data_received(rest)
        else:
            self._transport.write(DENIED)
            self._transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        self._deadline.cancel()


async def run(job: Job) -> None:
    """Listen, for ever."""
    loop = asyncio.get_running_loop()
    protocols: dict[str, Callable[[], asyncio.Protocol]] = {
        LESSON: lambda: Lesson(loop, job.timeout),
        SESSION: lambda: Session(loop, job.timeout),
        ECHO: Echo,
    }
    context = None
    if job.certificate is not None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(job.certificate)
    server = await loop.create_server(
        protocols[job.name],
        "127.0.0.1",
        job.port,
        backlog=BACKLOG,
        ssl=context,
        ssl_handshake_timeout=job.timeout if context else None,
    )
    await server.serve_forever()


def serve(job: Job) -> None:
    """Do the job, for ever."""
    asyncio.run(run(job))
