"""What the tests of the shell share: transports and handshakes, made of real parts."""

from __future__ import annotations

import datetime
from functools import cache

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import implementer

from sockproto import Accept, Reject
from sockproto.core.facts import Address
from sockproto.events import ConnectionEnded, HandshakeEnded
from sockproto.testing.memory import MemoryConnection
from sockproto.testing.memory import MemoryTransport as TcpTransport
from sockproto.transport.server import ServerFactory

PEER = Address("inet", "192.168.1.1", 54321)
LOCAL = Address("inet", "10.0.0.1", 12345)


class Observed:
    """What the events say that somebody has collected in ``events``."""

    @property
    def verdicts(self):
        return [
            (each.reason, each.phase, each.detail)
            for each in self.events
            if isinstance(each, HandshakeEnded)
        ]

    @property
    def endings(self):
        return [
            (each.ending.reason, each.ending.phase)
            for each in self.events
            if isinstance(each, ConnectionEnded)
        ]


class Connection(MemoryConnection):
    """A protocol of a factory on a transport in memory; we are the peer, and Twisted."""

    def __init__(self, factory, transport=None):
        transport = transport or TcpTransport()
        self.protocol = factory.buildProtocol(transport.getPeer())
        super().__init__(self.protocol, transport)

    def send(self, data):
        """The peer says something; also on a connection that is lost, which must not mind."""
        self.transport.protocol.dataReceived(data)

    def lose(self, why=None):
        """The connection is gone; to be told so again changes nothing."""
        self.lost = True
        self.transport.protocol.connectionLost(Failure(why or ConnectionDone()))

    def finish(self):
        """Do what the reactor does with a transport that was told to go."""
        assert self.transport.disconnecting
        self.settle()


class Word:
    """Accept a line that says ``yes``, reject any other."""

    async def serve(self, peer):
        if await peer.receive_line(64) == b"yes":
            return Accept(b"OK\n", identity="ann")
        return Reject(b"NO\n", reason="wrong word")

    async def connect(self, peer):
        peer.send(b"yes\n")
        if await peer.expect(b"OK\n"):
            return Accept()
        await peer.expect(b"NO\n")
        return Reject(reason="wrong word")


class Asks:
    """Await a Deferred before anything else; accept what it fires with."""

    def __init__(self, deferred, *more):
        self.deferreds = [deferred, *more]
        self.seen = []

    async def serve(self, peer):
        try:
            for each in self.deferreds:
                self.seen.append(await each)
        except BaseException as error:
            self.seen.append(repr(error))
            raise
        return Accept(b"OK\n")

    connect = serve


def runs(side):
    """A handshake both of whose sides are the one given coroutine function."""

    class Handshake:
        serve = connect = staticmethod(side)

    return Handshake()


class Recorder(Protocol):
    """A session that notes everything it is told."""

    def __init__(self):
        self.told = []

    def handshake_accepted(self, accept):
        self.told.append(accept)

    def connectionMade(self):
        self.told.append("made")

    def dataReceived(self, data):
        self.told.append(data)

    def connectionLost(self, reason):
        self.told.append(type(reason.value).__name__)


@implementer(IHalfCloseableProtocol)
class HalfClosing(Recorder):
    """A session that wants to hear of the end of the stream."""

    def readConnectionLost(self):
        self.told.append("eof")

    def writeConnectionLost(self):
        self.told.append("write side closed")


class Sessions(Factory):
    """A factory that keeps its sessions, and counts its own lives."""

    noisy = False

    def __init__(self, protocol=Recorder):
        self.protocol = protocol
        self.built = []
        self.life = []

    def buildProtocol(self, addr):
        built = super().buildProtocol(addr)
        self.built.append(built)
        return built

    def startFactory(self):
        self.life.append("started")

    def stopFactory(self):
        self.life.append("stopped")


class Tickets:
    """An admission that hands out tickets, and keeps count."""

    def __init__(self, refusal=None):
        self.refusal = refusal
        self.patience = 1.0
        self.waived = None
        self.asked = []
        self.facts = []
        self.verdicts = []
        self.ours = []
        self.released = 0

    def admit(self, address, **facts):
        self.asked.append(address)
        self.facts.append(facts)
        return self.refusal or self

    def settled(self, reason, *, silent=False, ours=False):
        self.verdicts.append((reason, silent))
        self.ours.append(ours)

    def release(self):
        self.released += 1


class Server(Observed):
    """A ServerFactory in virtual time, whose events are kept."""

    def __init__(self, handshake=None, session=None, **terms):
        self.clock = terms.setdefault("clock", Clock())
        self.events = []
        terms["observers"] = (*terms.get("observers", ()), self.events.append)
        self.factory = ServerFactory(handshake or Word(), session, **terms)

    def connect(self, transport=None):
        return Connection(self.factory, transport)

    @property
    def live(self):
        return self.factory.terms.live

    @property
    def left_behind(self):
        """What should not be there when the last connection is gone."""
        deadlines = self.factory.terms.deadlines
        return [*self.live, *self.clock.getDelayedCalls(), *range(len(deadlines))]


@cache
def certificate(name="localhost"):
    """A self-signed certificate and its key, as ``cryptography`` has them; no name, no SAN."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name or "nobody")])
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
    )
    if name:
        names = x509.SubjectAlternativeName([x509.DNSName(name)])
        builder = builder.add_extension(names, critical=False)
    return builder.sign(key, hashes.SHA256()), key


def end_point(name="localhost"):
    """What ties a connection to the server of that certificate (RFC 5929 section 4)."""
    found, _ = certificate(name)
    return found.fingerprint(found.signature_hash_algorithm)


class Pair:
    """
    Two ends of a connection in memory, each over a transport of its own.

    Args:
        server, client: Factories of their protocols.
        clock: Whose time TLS flushes its writes by.
    """

    def __init__(self, server, client, clock):
        self.clock = clock
        self.server = Connection(server)
        self.client = Connection(client)
        self.ends = (self.server, self.client)

    def pump(self, cut=None):
        """Carry what is written across, whole or cut into so many bytes, until all is still."""
        moved = True
        while moved:
            self.clock.advance(0)
            moved = False
            for here, there in (self.ends, self.ends[::-1]):
                data = here.received
                here.transport.clear()
                step = cut or len(data) or 1
                for at in range(0, len(data), step):
                    moved = True
                    there.send(data[at : at + step])


def tls_creators(*, names=("localhost", None), ask=False, trusted=True, alpn=None):
    """
    What makes the connections of a server and of its client.

    Args:
        names: The names in their certificates; a client without one shows none.
        ask: Whether the server asks for a certificate that the client need not have.
        trusted: Whether the client trusts the server's certificate.
        alpn: What both offer.
    """
    from OpenSSL import crypto
    from twisted.internet.ssl import (
        Certificate,
        CertificateOptions,
        optionsForClientTLS,
        trustRootFromCertificates,
    )

    def shown(name):
        found, key = certificate(name)
        return {"certificate": found, "privateKey": key}

    def root(name):
        return crypto.X509.from_cryptography(certificate(name)[0])

    hers, his = names
    asked = {}
    if his is not None:
        asked["trustRoot"] = trustRootFromCertificates([Certificate(root(his))])
    elif ask:
        asked = {"verify": True, "requireCertificate": False, "caCerts": [root(hers)]}
    serving = CertificateOptions(acceptableProtocols=alpn, **shown(hers), **asked)
    connecting = optionsForClientTLS(
        "localhost",
        trustRoot=trustRootFromCertificates([Certificate(root(hers if trusted else "mallory"))]),
        acceptableProtocols=alpn,
        extraCertificateOptions={} if his is None else shown(his),
    )
    return serving, connecting


class TlsPair(Pair):
    """
    Two ends of a TLS connection in memory, each over a transport of its own.

    Args:
        server, client: Factories of the protocols above TLS.
        clock: Whose time TLS flushes its writes by.
        options: As of :func:`tls_creators`.
    """

    def __init__(self, server, client, clock, **options):
        from twisted.protocols.tls import TLSMemoryBIOFactory

        serving, connecting = tls_creators(**options)
        super().__init__(
            TLSMemoryBIOFactory(serving, False, server, clock),
            TLSMemoryBIOFactory(connecting, True, client, clock),
            clock,
        )

    @property
    def inner(self):
        """Our protocols above TLS: the server's, the client's."""
        return tuple(each.protocol.wrappedProtocol for each in self.ends)
