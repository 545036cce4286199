"""
No secret is ever in a log line, a repr, a traceback or an error, whichever handshake it belongs to.

The built-in handshakes are found in their table, so that one that is new is held to it, too: each
of its arguments is given a canary, in every way in which it can be given, and peers send the same.
"""

from __future__ import annotations

import io
import traceback
from base64 import b64encode
from contextlib import suppress
from hashlib import sha256
from importlib import import_module
from inspect import signature

import pytest
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import Logger, LogPublisher, globalLogPublisher, textFileLogObserver
from twisted.python.failure import Failure

from sockproto import Accept, ConfigurationError, ServerFactory
from sockproto.core.arguments import SECRET
from sockproto.core.exchange import Exchange
from sockproto.plugins import _HANDSHAKES, handshake_blueprint
from sockproto.service.accesslog import AccessLog, TwistedLog
from sockproto.service.logs import TroubleLog
from sockproto.signatures import _peel
from sockproto.transport.endpoints import listen

CANARY = b"sesame4711-sesame4711-sesame4711"
KEY = b64encode(CANARY)
TOKEN = b"eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiJhbm4ifQ." + KEY.rstrip(b"=")
CONTENTS = [CANARY, TOKEN, b"ann " + KEY, b"ann:" + CANARY, CANARY + b"\nann " + KEY + b"\n"]
"""What an argument, a file or a variable may hold: the word itself, or lines of names and keys."""

FORBIDDEN = [
    each.decode() for each in (CANARY[:10], KEY[:14], KEY[16:30], CANARY[:10].hex().encode())
]

SENT = [
    CANARY,
    CANARY + b"\n",
    CANARY + b"\r\n",
    TOKEN + b"\n",
    b"ann " + KEY + b"\n",
    b"ann " + CANARY + b"\n",
    b"1" + CANARY + b"\n" + KEY,
    b"GET /" + CANARY + b" HTTP/1.1\r\n\r\n",
    b"\x00\x10" + CANARY,
    CANARY * 300,
]


def quoted(text):
    """A text as a piece of a plug-in string."""
    return text.replace("\\", r"\\").replace(":", r"\:")


def insist_on_silence(*shown):
    for text in shown:
        assert not [each for each in FORBIDDEN if each in text]


def secrets_of(name):
    """The arguments of a built-in handshake that are secrets."""
    module, _, attribute = _HANDSHAKES.builtins[name].partition(":")
    target = getattr(import_module(module), attribute)
    parameters = signature(target, eval_str=True).parameters.values()
    return [
        each.name
        for each in parameters
        if any(mark is SECRET for mark in _peel(each.annotation)[1])
    ], [each.name for each in parameters]


SECRETIVE = [name for name in _HANDSHAKES.builtins if secrets_of(name)[0]]


@pytest.fixture
def strings(tmp_path, monkeypatch):
    """For a handshake, plug-in strings in which each argument of it is a secret, or names one."""
    monkeypatch.chdir(tmp_path)
    for number, content in enumerate(CONTENTS):
        (tmp_path / f"secret{number}").write_bytes(content)
        (tmp_path / f"secret{number}").chmod(0o600)
        monkeypatch.setenv(f"SECRET{number}", content.decode())

    def strings(name):
        secrets, names = secrets_of(name)
        others = ["", *(f":{each}=ann" for each in ("user", "id", "audience") if each in names)]
        for each in names:
            for number, content in enumerate(CONTENTS):
                values = [f"secret{number}", f"SECRET{number}"]
                if each in secrets:
                    values.append(quoted(content.decode()))
                for value in values:
                    for other in others:
                        yield f"{name}:{each}={value}{other}"
            if each in secrets:
                yield f"chain:{quoted(f'{name}:{each}={quoted(CANARY.decode())}')}"

    return strings


def built_from(strings):
    """Every handshake that can be built; the errors of the others tell nothing."""
    for text in strings:
        try:
            blueprint = handshake_blueprint(text)
            insist_on_silence(repr(blueprint), blueprint.name)
            handshake = blueprint.build()
        except ConfigurationError as error:
            insist_on_silence(str(error), repr(error), *traceback.format_exception(error))
        else:
            insist_on_silence(repr(handshake), str(handshake))
            yield handshake


class Peer:
    """Somebody who talks to a server whose logs are read."""

    def __init__(self, handshake, session=None, observed=True):
        self.out = io.StringIO()
        self.clock = Clock()
        publisher = LogPublisher(textFileLogObserver(self.out))
        self.access_log = AccessLog(self.clock, TwistedLog(publisher))
        trouble = TroubleLog(Logger("sockproto", observer=publisher), self.clock)
        self.factory = ServerFactory(
            handshake,
            session,
            observers=[self.access_log, trouble] if observed else [],
            clock=self.clock,
        )

    def send(self, *data):
        transport = StringTransport()
        protocol = self.factory.buildProtocol(transport.getPeer())
        transport.protocol = protocol
        protocol.makeConnection(transport)
        for each in data:
            if not transport.disconnecting:
                transport.protocol.dataReceived(each)
        transport.protocol.connectionLost(Failure(ConnectionDone()))
        return transport.value()

    @property
    def log(self):
        self.access_log.flush()
        return self.out.getvalue()

    def close(self):
        self.access_log.close()


def test_there_are_handshakes_with_secrets():
    assert "passphrase" in SECRETIVE


@pytest.mark.parametrize("name", SECRETIVE)
def test_a_handshake_never_tells_its_secret(name, strings):
    built = 0
    for handshake in built_from(strings(name)):
        built += 1
        if callable(getattr(handshake, "serve", None)):
            peer = Peer(handshake)
            for data in SENT:
                peer.send(data)
                peer.send(data[:5], data[5:])
            insist_on_silence(peer.log)
            assert peer.log.count("\n") >= len(SENT)
            peer.close()
        if callable(getattr(handshake, "connect", None)):
            for data in SENT:
                exchange = Exchange(handshake.connect)
                exchange.receive_data(data)
                exchange.receive_eof()
                outcome = exchange.outcome
                insist_on_silence(repr(exchange), repr(outcome), exchange.waiting_on or "")
                if isinstance(outcome, BaseException):
                    insist_on_silence(str(outcome), *traceback.format_exception(outcome))
    assert built


# A plug-in that breaks


class Careless:
    """Its secret is in its local variables when it breaks, and in those of what it calls."""

    async def serve(self, peer):
        """Break over the first byte."""
        word = await peer.receive_exactly(len(CANARY))
        return self.compare(word, secret=CANARY)

    def compare(self, word, secret):
        digest = sha256(secret).digest()
        raise ValueError(f"{len(word)} bytes are too many for {len(digest)}")


class Leaves(Protocol):
    """A session that breaks with a secret at hand."""

    def connectionMade(self):
        secret = CANARY
        raise ValueError(f"{len(secret)} bytes are too many")


class Lets:
    """Accept anybody, with a secret at hand."""

    async def serve(self, peer):
        """Wait for the canary."""
        word = await peer.receive_exactly(len(CANARY))
        return Accept() if word == CANARY else None


@pytest.mark.parametrize("observed", [True, False])
@pytest.mark.parametrize(
    ("handshake", "session"), [(Careless(), None), (Lets(), Factory.forProtocol(Leaves))]
)
def test_what_a_plug_in_had_in_its_hands_when_it_broke_is_not_told(
    handshake, session, observed, logged_failures
):
    everything = io.StringIO()
    observer = textFileLogObserver(everything)
    globalLogPublisher.addObserver(observer)
    peer = Peer(handshake, session, observed)

    with suppress(ValueError):
        peer.send(CANARY)
    globalLogPublisher.removeObserver(observer)

    insist_on_silence(everything.getvalue(), peer.log)
    assert "bytes are too many" in everything.getvalue() + peer.log
    logged_failures.take(ValueError)
    peer.close()


# Files of TLS


@pytest.mark.parametrize(
    "contents",
    [
        CANARY,
        b"-----BEGIN PRIVATE KEY-----\n" + KEY + b"\n-----END PRIVATE KEY-----\n",
        b"-----BEGIN CERTIFICATE-----\n" + KEY + b"\n-----END CERTIFICATE-----\n",
    ],
)
def test_a_key_that_cannot_be_read_is_not_shown(contents, tmp_path):
    (tmp_path / "door.pem").write_bytes(contents)
    factory = ServerFactory(Careless(), clock=Clock())

    with pytest.raises(ConfigurationError) as caught:
        listen(None, f"tls:0:cert={tmp_path}/door.pem", factory)

    insist_on_silence(*traceback.format_exception(caught.value), repr(caught.value))
