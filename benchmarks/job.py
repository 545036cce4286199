"""What a server under test is asked to do."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

TOKEN = b"1"
WELCOME = b"welcome to server!"
GOODBYE = b"please go out!"
MAX_READ = 1024
"""The lesson: a first read of at most so many bytes; the token gets the welcome, all else not."""

WORD = b"sesame"
GRANTED = b"OK\n"
DENIED = b"NO\n"
MAX_WORD = 1024
"""A word and a line feed; then the session, or the end."""

BACKLOG = 4096
PATIENCE = 600.0
"""Seconds that a server waits for a peer which is meant to stay pending."""

LESSON, SESSION, ECHO, FORWARD = "lesson", "session", "echo", "forward"
JOBS = (LESSON, SESSION, ECHO, FORWARD)


@dataclass(frozen=True)
class Job:
    """
    One server's task.

    Attributes:
        name: ``lesson``; ``session``, a word and then an echo; ``echo`` without a handshake; or
            ``forward``, which passes everything on to ``backend``.
        port: Where on 127.0.0.1 it listens.
        timeout: Seconds that a silent peer may take.
        certificate: A PEM file with certificate and key; the server speaks TLS then.
        backend: The port of 127.0.0.1 to which it forwards.
    """

    name: str
    port: int
    timeout: float = 5.0
    certificate: Path | None = None
    backend: int = 0
