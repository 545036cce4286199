"""
Twisted alone, with TimeoutMixin: what sockproto's users would write without it.

The bare echo is sockproto's own session, so that what differs from an echo behind a handshake is
the handshake alone.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from hmac import compare_digest
from typing import Any

from twisted.internet import reactor
from twisted.internet.endpoints import SSL4ServerEndpoint, TCP4ServerEndpoint
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.protocols.basic import LineReceiver
from twisted.protocols.policies import TimeoutMixin
from twisted.protocols.portforward import ProxyFactory
from twisted.python.failure import Failure

from benchmarks.job import (
    BACKLOG,
    DENIED,
    ECHO,
    FORWARD,
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
from sockproto.sessions.echo import Echo


class Lesson(Protocol, TimeoutMixin):
    """The lesson's handshake."""

    transport: Any

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout

    def connectionMade(self) -> None:
        self.setTimeout(self._timeout)

    def dataReceived(self, data: bytes) -> None:
        self.setTimeout(None)
        self.transport.write(WELCOME if data == TOKEN else GOODBYE)
        self.transport.loseConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.setTimeout(None)


class Session(LineReceiver, TimeoutMixin):
    """A word, then an echo."""

    delimiter = b"\n"
    MAX_LENGTH = MAX_WORD
    transport: Any

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout

    def connectionMade(self) -> None:
        self.setTimeout(self._timeout)

    def lineReceived(self, line: bytes) -> None:
        self.setTimeout(None)
        if compare_digest(line, WORD):
            self.transport.write(GRANTED)
            self.setRawMode()
        else:
            self.transport.write(DENIED)
            self.transport.loseConnection()

    def rawDataReceived(self, data: bytes) -> None:
        self.transport.write(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.setTimeout(None)


def serve(job: Job) -> None:
    """Do the job, for ever."""
    if job.name == FORWARD:
        factory: Any = ProxyFactory("127.0.0.1", job.backend)
    else:
        protocols: dict[str, Callable[[], Protocol]] = {
            LESSON: partial(Lesson, job.timeout),
            SESSION: partial(Session, job.timeout),
            ECHO: Echo,
        }
        factory = Factory.forProtocol(protocols[job.name])
    factory.noisy = False
    endpoint: Any
    if job.certificate is None:
        endpoint = TCP4ServerEndpoint(reactor, job.port, BACKLOG, "127.0.0.1")
    else:
        from twisted.internet.ssl import PrivateCertificate

        options = PrivateCertificate.loadPEM(job.certificate.read_bytes()).options()
        endpoint = SSL4ServerEndpoint(reactor, job.port, options, BACKLOG, "127.0.0.1")
    endpoint.listen(factory)
    reactor.run()
