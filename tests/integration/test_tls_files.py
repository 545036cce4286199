"""Certificates from files, as OpenSSL's own client sees them over a real socket."""

from __future__ import annotations

import shutil

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.internet.utils import getProcessOutputAndValue
from twisted.protocols.tls import TLSMemoryBIOFactory

from sockproto.transport.tls import ServerTls

from . import kit

OPENSSL = shutil.which("openssl")

pytestmark = pytest.mark.skipif(OPENSSL is None, reason="needs openssl's s_client")


class Greeting(Protocol):
    """Says a word and goes."""

    def connectionMade(self):
        self.transport.write(b"hello\n")
        self.transport.loseConnection()


@pytest_twisted.ensureDeferred
async def test_a_server_that_renews_its_certificate_is_believed_before_and_after(tmp_path):
    (tmp_path / "1").mkdir()
    (tmp_path / "2").mkdir()
    old, new = kit.identity(tmp_path / "1"), kit.identity(tmp_path / "2")
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    clock = Clock()

    async def believed(identity, *options):
        told, _, status = await kit.within_patience(
            getProcessOutputAndValue(
                OPENSSL,
                [
                    *("s_client", "-connect", f"127.0.0.1:{port.getHost().port}", "-quiet"),
                    *("-CAfile", str(identity.certificate), "-verify_return_error", *options),
                ],
            )
        )
        return status == 0 and told == b"hello\n"

    cert.symlink_to(old.certificate)
    key.symlink_to(old.key)
    factory = TLSMemoryBIOFactory(
        ServerTls(cert, key, alpn=["chat"], clock=clock), False, Factory.forProtocol(Greeting)
    )
    port = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(factory)
    try:
        assert await believed(old)
        assert not await believed(new)
        assert await believed(old, "-tls1_2", "-alpn", "chat")
        assert not await believed(old, "-alpn", "news")

        for link, file in ((cert, new.certificate), (key, new.key)):
            link.unlink()
            link.symlink_to(file)
        clock.advance(1)

        assert await believed(new)
        assert not await believed(old)
    finally:
        await port.stopListening()
