"""sockproto's portable path: ``ServerFactory`` on one of Twisted's own endpoints."""

from __future__ import annotations

from typing import Any

from twisted.internet import reactor
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.protocol import Factory

from benchmarks.job import BACKLOG, SESSION, WORD, Job
from sockproto.handshakes.passphrase import Passphrase
from sockproto.handshakes.welcome import Welcome
from sockproto.limits import Limits
from sockproto.sessions.echo import Echo
from sockproto.transport.server import ServerFactory


def serve(job: Job) -> None:
    """Do the job, for ever."""
    handshake: Any = Passphrase(WORD) if job.name == SESSION else Welcome()
    session = Factory.forProtocol(Echo) if job.name == SESSION else None
    limits = Limits(idle_timeout=job.timeout, handshake_timeout=2 * job.timeout)
    factory = ServerFactory(handshake, session, limits=limits)
    TCP4ServerEndpoint(reactor, job.port, BACKLOG, "127.0.0.1").listen(factory)
    reactor.run()
