import datetime
import errno
import gc
import os
import ssl
import sys
from contextlib import suppress
from dataclasses import replace
from ipaddress import ip_address
from weakref import ref

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa, x25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID
from OpenSSL import SSL
from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import (
    IOpenSSLClientConnectionCreator,
    IOpenSSLServerConnectionCreator,
)
from twisted.internet.task import Clock
from twisted.logger import formatEvent, globalLogPublisher
from twisted.protocols.tls import TLSMemoryBIOFactory

from sockproto.core.errors import ConfigurationError
from sockproto.core.facts import TlsFacts
from sockproto.transport.facts import tls_facts_of
from sockproto.transport.tls import ClientTls, ServerTls, alert_of, said_by_tls

from .kit import Connection, Recorder, Sessions, TlsPair


class Made:
    """A certificate and its key, issued by another one or by itself."""

    def __init__(self, name="localhost", by=None, *, key=None, authority=False):
        self.key = key or ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        issuer = by or self
        now = datetime.datetime.now(datetime.UTC)
        names = [x509.DNSName(name), x509.IPAddress(ip_address("127.0.0.1"))]
        self.certificate = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject if by is None else by.certificate.subject)
            .public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
            .sign(issuer.key, None if signs_alone(issuer.key) else hashes.SHA256())
        )
        self.pem = self.certificate.public_bytes(Encoding.PEM)
        self.key_pem = key_pem(self.key)
        self.facts = TlsFacts(None, (name,), self.certificate.public_bytes(Encoding.DER))


def signs_alone(key):
    return isinstance(key, ed25519.Ed25519PrivateKey)


def key_pem(key, form=PrivateFormat.PKCS8, encryption=None):
    return key.private_bytes(Encoding.PEM, form, encryption or NoEncryption())


ROOT = Made("root", authority=True)
OTHER_ROOT = Made("other root", authority=True)
SERVER = Made(by=ROOT)
RENEWED = Made(by=ROOT)
ANN = Made("ann", by=ROOT)
MALLORY = Made("mallory", by=OTHER_ROOT)


class Files:
    """A folder of PEM files."""

    def __init__(self, folder):
        self.folder = folder
        self.root = self.write("root.pem", ROOT.pem)
        self.cert = self.write("cert.pem", SERVER.pem)
        self.key = self.write("key.pem", SERVER.key_pem)

    def write(self, name, *parts):
        """Put a file in its place, in one move: never the same one as before."""
        path = self.folder / name
        new = self.folder / "new"
        new.write_bytes(b"".join(parts))
        return new.replace(path)

    def pair(self, made, name="pair.pem"):
        """One file with a certificate and its key."""
        return self.write(name, made.pem, made.key_pem)


@pytest.fixture
def files(tmp_path):
    return Files(tmp_path)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def told():
    """What the module has logged."""
    lines = []

    def observe(event):
        if event["log_namespace"] == "sockproto.transport.tls":
            lines.append(f"{event['log_level'].name}: {formatEvent(event)}")

    globalLogPublisher.addObserver(observe)
    yield lines
    globalLogPublisher.removeObserver(observe)


class Pair(TlsPair):
    """Two ends of a TLS connection in memory, which have said all that they have to say."""

    def __init__(self, server, client):
        self.clock = Clock()
        sessions = Sessions(Recorder)
        self.server = Connection(TLSMemoryBIOFactory(server, False, sessions, self.clock))
        self.client = Connection(TLSMemoryBIOFactory(client, True, sessions, self.clock))
        self.ends = (self.server, self.client)
        self.pump()

    @property
    def established(self):
        """Whether what one end writes reaches the other, both ways."""
        for each in self.inner:
            each.transport.write(b"hello")
        self.pump()
        return [each.told[-1] for each in self.inner] == [b"hello", b"hello"]

    @property
    def shown(self):
        """The serial number of the server's certificate."""
        handle = self.client.protocol.getHandle()
        return handle.get_peer_certificate(as_cryptography=True).serial_number

    @property
    def known(self):
        """What the server knows of the client; of itself it knows more."""
        return replace(tls_facts_of(self.server.protocol, serving=True), end_point=b"")

    @property
    def trouble(self):
        """What OpenSSL says, at the server's and at the client's end."""
        return tuple(
            str(each.protocol._reason and each.protocol._reason.value) for each in self.ends
        )

    @property
    def alert(self):
        """The alert that the client has got."""
        return alert_of(said_by_tls(self.client.protocol._reason.value))


class Visitor:
    """The standard library's client: a second opinion."""

    def __init__(self, server, context, session=None):
        self.incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(
            self.incoming, outgoing, server_hostname="localhost", session=session
        )
        peer = Connection(TLSMemoryBIOFactory(server, False, Sessions(Recorder), Clock()))
        # Reading, too: in TLS 1.3 a session is told of when the handshake is over.
        for step in (self.tls.do_handshake, self.tls.do_handshake, self.tls.read, self.tls.read):
            with suppress(ssl.SSLWantReadError):
                step()
            if outgoing.pending:
                peer.send(outgoing.read())
            self.incoming.write(peer.received)
            peer.transport.clear()


def visitor_context(files, version):
    context = ssl.create_default_context(cafile=str(files.root))
    context.minimum_version = context.maximum_version = version
    return context


def refusal(make, *arguments, **more):
    with pytest.raises(ConfigurationError) as caught:
        make(*arguments, **more)
    return str(caught.value)


# What is spoken


def test_both_sides_are_what_twisted_asks_for(files, clock):
    assert IOpenSSLServerConnectionCreator.providedBy(ServerTls(files.pair(SERVER), clock=clock))
    assert IOpenSSLClientConnectionCreator.providedBy(ClientTls("localhost", clock=clock))


def test_a_certificate_and_its_key_may_be_in_two_files_or_in_one(files, clock):
    client = ClientTls("localhost", ca=files.root, clock=clock)

    for server in (
        ServerTls(files.cert, files.key, clock=clock),
        ServerTls(files.pair(SERVER), clock=clock),
        ServerTls(files.write("key first.pem", SERVER.key_pem, SERVER.pem), clock=clock),
    ):
        pair = Pair(server, client)
        assert pair.established
        assert pair.shown == SERVER.certificate.serial_number


@pytest.mark.parametrize(
    "key",
    [rsa.generate_private_key(65537, 2048), ed25519.Ed25519PrivateKey.generate()],
    ids=["rsa", "ed25519"],
)
def test_other_kinds_of_keys_will_do(files, clock, key):
    server = ServerTls(files.pair(Made(by=ROOT, key=key)), clock=clock)

    assert Pair(server, ClientTls("localhost", ca=files.root, clock=clock)).established


def test_a_key_in_the_traditional_form_will_do(files, clock):
    key = key_pem(SERVER.key, PrivateFormat.TraditionalOpenSSL)

    assert ServerTls(files.cert, files.write("old.pem", key), clock=clock)


def test_without_a_clock_the_reactors_time_counts(files):
    server = ServerTls(files.pair(SERVER))

    assert Pair(server, ClientTls("localhost", ca=files.root)).established


def test_a_relative_path_means_what_it_meant_at_first(files, clock, monkeypatch):
    monkeypatch.chdir(files.folder)
    server = ServerTls(files.cert.relative_to(files.folder), files.key, clock=clock)
    monkeypatch.chdir("/")
    files.write("cert.pem", RENEWED.pem)
    files.write("key.pem", RENEWED.key_pem)

    clock.advance(1)

    assert shown_by(server, files) == RENEWED.certificate.serial_number


def test_the_certificates_of_the_issuers_are_shown_too(files, clock):
    between = Made("between", by=ROOT, authority=True)
    leaf = Made(by=between)
    client = ClientTls("localhost", ca=files.root, clock=clock)
    whole = files.write("whole.pem", leaf.pem, between.pem, leaf.key_pem)
    alone = files.write("alone.pem", leaf.pem, leaf.key_pem)

    assert Pair(ServerTls(whole, clock=clock), client).established
    assert not Pair(ServerTls(alone, clock=clock), client).established


def test_a_client_too_shows_the_certificates_of_its_issuers(files, clock):
    between = Made("between", by=ROOT, authority=True)
    leaf = Made("ann", by=between)
    whole = files.write("whole.pem", leaf.pem, between.pem, leaf.key_pem)
    server = ServerTls(files.cert, files.key, client_ca=files.root, clock=clock)

    assert Pair(server, ClientTls("localhost", ca=files.root, cert=whole)).known == leaf.facts


def test_a_client_that_knows_nothing_better_than_tls_1_1_is_refused(files, clock):
    # RFC 4346 section 7.4.1.2: version 3.2, and TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA.
    body = b"\x03\x02" + bytes(32) + b"\x00" + b"\x00\x02\xc0\x09" + b"\x01\x00"
    hello = b"\x01" + len(body).to_bytes(3, "big") + body
    factory = TLSMemoryBIOFactory(
        ServerTls(files.pair(SERVER), clock=clock), False, Sessions(Recorder), clock
    )
    peer = Connection(factory)

    peer.send(b"\x16\x03\x01" + len(hello).to_bytes(2, "big") + hello)

    # RFC 5246 section 7.2: fatal, protocol_version.
    assert peer.received[0] == 0x15
    assert peer.received[-2:] == bytes([2, 70])


def test_a_client_offers_nothing_older_than_tls_1_2(clock):
    client = ClientTls("localhost", clock=clock)
    peer = Connection(TLSMemoryBIOFactory(client, True, Sessions(Recorder), clock))

    # RFC 8446 section 4.2.1: supported_versions.
    assert bytes.fromhex("002b 0005 04 0304 0303") in peer.received


VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


@pytest.mark.parametrize("version", VERSIONS)
def test_what_is_spoken_is_confidential_for_ever(files, clock, version):
    visitor = Visitor(ServerTls(files.pair(SERVER), clock=clock), visitor_context(files, version))

    suite, spoken, _ = visitor.tls.cipher()

    assert visitor.tls.version() == version.name.replace("_", ".")
    assert spoken == "TLSv1.3" or suite.startswith("ECDHE-")
    assert "GCM" in suite or "CHACHA20" in suite


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("verify", ["none", "optional"])
def test_no_session_is_resumed_and_asking_for_it_does_no_harm(files, clock, version, verify):
    server = ServerTls(files.cert, files.key, client_ca=files.root, verify=verify, clock=clock)
    context = visitor_context(files, version)
    before = Visitor(server, context)

    after = Visitor(server, context, before.tls.session)

    assert after.tls.version() == before.tls.version()
    assert not after.tls.session_reused


# Who is let in


def server_for(files, clock, verify=None):
    return ServerTls(files.cert, files.key, client_ca=files.root, verify=verify, clock=clock)


def client_as(files, clock, made=None):
    cert = made and files.pair(made, "client.pem")
    return ClientTls("localhost", ca=files.root, cert=cert, clock=clock)


@pytest.mark.parametrize("verify", [None, "required", "optional"])
def test_a_client_is_known_by_the_certificate_that_one_of_the_issuers_vouches_for(
    files, clock, verify
):
    pair = Pair(server_for(files, clock, verify), client_as(files, clock, ANN))

    assert pair.established
    assert pair.known == ANN.facts


@pytest.mark.parametrize("verify", [None, "required", "optional"])
def test_a_client_for_whom_no_issuer_vouches_is_refused(files, clock, verify):
    pair = Pair(server_for(files, clock, verify), client_as(files, clock, MALLORY))

    assert not pair.established
    assert "certificate verify failed" in pair.trouble[0]
    assert pair.alert == "unknown ca"


@pytest.mark.parametrize("verify", [None, "required"])
def test_a_client_without_a_certificate_is_refused_where_one_is_required(files, clock, verify):
    pair = Pair(server_for(files, clock, verify), client_as(files, clock))

    assert not pair.established
    assert "peer did not return a certificate" in pair.trouble[0]
    assert pair.alert == "certificate required"


def test_a_client_without_a_certificate_is_let_in_where_it_is_optional(files, clock):
    pair = Pair(server_for(files, clock, "optional"), client_as(files, clock))

    assert pair.established
    assert pair.known == TlsFacts()


def test_a_server_that_verifies_nobody_asks_nobody(files, clock):
    for server in (
        server_for(files, clock, "none"),
        ServerTls(files.cert, files.key, clock=clock),
    ):
        for made in (ANN, MALLORY, None):
            pair = Pair(server, client_as(files, clock, made))
            assert pair.established
            assert pair.known == TlsFacts()


def test_several_issuers_may_vouch(files, clock):
    both = files.write("both.pem", ROOT.pem, OTHER_ROOT.pem)
    server = ServerTls(files.cert, files.key, client_ca=both, clock=clock)

    for made in (ANN, MALLORY):
        assert Pair(server, client_as(files, clock, made)).known == made.facts


def test_a_client_is_told_whose_certificates_are_good(files, clock):
    pair = Pair(server_for(files, clock), client_as(files, clock, ANN))

    names = pair.client.protocol.getHandle().get_client_ca_list()

    assert [name.der() for name in names] == [ROOT.certificate.subject.public_bytes()]


def test_a_server_has_to_prove_its_name(files, clock):
    server = ServerTls(files.pair(SERVER), clock=clock)

    for name in ("localhost", "LOCALHOST", "127.0.0.1"):
        assert Pair(server, ClientTls(name, ca=files.root, clock=clock)).established
    for name in ("example.org", "127.0.0.2", "::1"):
        assert not Pair(server, ClientTls(name, ca=files.root, clock=clock)).established


def test_a_server_that_nobody_trusted_vouches_for_is_not_spoken_to(files, clock):
    server = ServerTls(files.pair(SERVER), clock=clock)
    stranger = files.write("stranger.pem", OTHER_ROOT.pem)

    for client in (ClientTls("localhost", ca=stranger), ClientTls("localhost")):
        pair = Pair(server, client)
        assert not pair.established
        assert "certificate verify failed" in pair.trouble[1]


@pytest.mark.parametrize("error", [None, ValueError("alert alert"), ConnectionLost()])
def test_tls_has_nothing_to_say_of_what_is_not_its(error):
    assert said_by_tls(error) is None


def test_what_tls_says_is_an_alert_only_if_it_came_from_the_peer():
    said = said_by_tls(SSL.Error([("SSL routines", "", "certificate verify failed")]))

    assert said == "certificate verify failed"
    assert alert_of(said) is None


# Application protocols


def negotiated(files, clock, ours, theirs):
    pair = Pair(
        ServerTls(files.cert, files.key, alpn=ours, clock=clock),
        ClientTls("localhost", ca=files.root, alpn=theirs, clock=clock),
    )
    assert pair.established
    both = {each.protocol.negotiatedProtocol for each in pair.ends}
    assert both == {pair.known.alpn and pair.known.alpn.encode()}
    return pair.known.alpn


def test_the_first_protocol_of_the_servers_that_the_client_offers_is_spoken(files, clock):
    assert negotiated(files, clock, ["h2", "chat"], ["chat", "h2"]) == "h2"
    assert negotiated(files, clock, ("h2", "chat"), ("news", "chat")) == "chat"


def test_where_one_side_names_no_protocol_none_is_negotiated(files, clock):
    assert negotiated(files, clock, ["h2"], []) is None
    assert negotiated(files, clock, [], ["h2"]) is None
    assert negotiated(files, clock, [], []) is None


def test_a_client_that_has_no_protocol_in_common_with_us_is_told_so_and_refused(files, clock):
    pair = Pair(
        ServerTls(files.cert, files.key, alpn=["h2"], clock=clock),
        ClientTls("localhost", ca=files.root, alpn=["chat"], clock=clock),
    )

    assert not pair.established
    assert pair.trouble[0] == "[('SSL routines', '', 'no application protocol')]"
    assert "alert no application protocol" in pair.trouble[1]


@pytest.mark.parametrize("name", ["", "é", "x" * 256])
def test_a_name_that_no_protocol_can_have_is_an_error(files, clock, name):
    words = f"alpn={name} is no name of a protocol; write 1 to 255 ASCII characters, like h2"

    assert refusal(ServerTls, files.cert, files.key, alpn=["h2", name], clock=clock) == words
    assert refusal(ClientTls, "localhost", alpn=["h2", name], clock=clock) == words


# Renewal


def shown_by(server, files):
    return Pair(server, ClientTls("localhost", ca=files.root, clock=Clock())).shown


def renew(files):
    files.write("cert.pem", RENEWED.pem)
    files.write("key.pem", RENEWED.key_pem)


def test_a_renewed_certificate_is_shown_when_a_second_has_passed(files, clock, told):
    server = ServerTls(files.cert, files.key, clock=clock)
    renew(files)

    clock.advance(0.99)
    assert shown_by(server, files) == SERVER.certificate.serial_number

    clock.advance(0.01)
    assert shown_by(server, files) == RENEWED.certificate.serial_number
    assert told == [
        f"info: TLS has taken up what has changed in cert={files.cert} and key={files.key}"
    ]


def test_the_files_are_looked_at_once_a_second_however_many_connect(files, clock, monkeypatch):
    server = ServerTls(files.cert, files.key, clock=clock)
    looked = []
    stat = os.stat

    # Only for as long as nobody else asks for files.
    with monkeypatch.context() as patch:
        patch.setattr(os, "stat", lambda path: looked.append(path.name) or stat(path))
        for _ in range(20):
            clock.advance(0.25)
            server.serverConnectionForTLS(None)

    assert looked == ["cert.pem", "key.pem"] * 5


def test_files_that_are_as_they_were_are_not_read_again(files, clock, told):
    server = ServerTls(files.cert, files.key, clock=clock)
    before = server.serverConnectionForTLS(None).get_context()

    clock.advance(5)

    assert server.serverConnectionForTLS(None).get_context() is before
    assert told == []


def test_a_clock_that_is_set_back_does_not_keep_us_from_looking(files):
    clock = Clock()
    clock.advance(3600)
    server = ServerTls(files.cert, files.key, clock=clock)
    renew(files)

    clock.rightNow = 0.0

    assert shown_by(server, files) == RENEWED.certificate.serial_number


def test_a_file_that_is_written_over_in_place_is_noticed(files, clock):
    path = files.pair(SERVER)
    server = ServerTls(path, clock=clock)
    path.write_bytes(RENEWED.pem + RENEWED.key_pem)
    os.utime(path, ns=(0, 1))

    clock.advance(1)

    assert shown_by(server, files) == RENEWED.certificate.serial_number


def test_a_symbolic_link_that_leads_elsewhere_is_noticed(files, clock):
    # As certbot does it: live/cert.pem leads to archive/cert1.pem, then to cert2.pem.
    files.pair(SERVER, "1.pem")
    files.pair(RENEWED, "2.pem")
    live = files.folder / "live.pem"
    live.symlink_to("1.pem")
    server = ServerTls(live, clock=clock)
    assert shown_by(server, files) == SERVER.certificate.serial_number

    (files.folder / "next").symlink_to("2.pem")
    (files.folder / "next").replace(live)
    clock.advance(1)

    assert shown_by(server, files) == RENEWED.certificate.serial_number


def test_a_pair_that_does_not_match_changes_nothing_and_is_reported_once(files, clock, told):
    server = ServerTls(files.cert, files.key, clock=clock)
    files.write("cert.pem", RENEWED.pem)

    for _ in range(3):
        clock.advance(1)
        assert shown_by(server, files) == SERVER.certificate.serial_number
    assert told == [
        "error: TLS stays with the files as they were: "
        f"the private key in key={files.key} does not belong to the first certificate in "
        f"cert={files.cert}; give two that were made for each other, issuers last"
    ]

    files.write("key.pem", RENEWED.key_pem)
    clock.advance(1)
    assert shown_by(server, files) == RENEWED.certificate.serial_number
    assert len(told) == 2


def test_each_pair_that_is_wrong_is_reported(files, clock, told):
    server = ServerTls(files.pair(SERVER), clock=clock)

    for parts in ([RENEWED.pem], [RENEWED.key_pem], [b""]):
        files.write("pair.pem", *parts)
        for _ in range(2):
            clock.advance(1)
            assert shown_by(server, files) == SERVER.certificate.serial_number

    assert [line.split(": ")[1] for line in told] == ["TLS stays with the files as they were"] * 3


def test_a_file_that_is_gone_for_a_while_is_waited_for(files, clock, told):
    server = ServerTls(files.cert, files.key, clock=clock)
    files.key.unlink()

    clock.advance(1)
    assert shown_by(server, files) == SERVER.certificate.serial_number
    assert told == [
        f"error: TLS stays with the files as they were: key={files.key} cannot be read: "
        "no such file or directory; name a file that exists"
    ]

    renew(files)
    clock.advance(1)
    assert shown_by(server, files) == RENEWED.certificate.serial_number


def forbidden(path):
    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


def test_a_file_that_may_be_read_again_is_read(files, clock, monkeypatch, told):
    server = ServerTls(files.cert, files.key, clock=clock)
    renew(files)
    with monkeypatch.context() as patch:
        patch.setattr("pathlib.Path.read_bytes", forbidden)
        clock.advance(1)
        assert shown_by_serial_of_context(server) == SERVER.certificate.serial_number
    before = os.stat(files.key).st_ctime_ns
    while os.stat(files.key).st_ctime_ns == before:
        files.key.chmod(0o600)

    clock.advance(1)

    assert shown_by(server, files) == RENEWED.certificate.serial_number
    assert len(told) == 2


def shown_by_serial_of_context(server):
    connection = server.serverConnectionForTLS(None)
    return connection.get_certificate(as_cryptography=True).serial_number


def test_a_connection_keeps_what_it_began_with(files, clock):
    server = ServerTls(files.cert, files.key, clock=clock)
    client = ClientTls("localhost", ca=files.root, clock=clock)
    before = Pair(server, client)
    renew(files)
    clock.advance(1)
    after = Pair(server, client)

    assert [each.shown for each in (before, after)] == [
        each.certificate.serial_number for each in (SERVER, RENEWED)
    ]
    assert before.established
    assert after.established


def test_what_nobody_uses_any_more_is_gone(files, clock):
    server = ServerTls(files.cert, files.key, alpn=["h2"], client_ca=files.root, clock=clock)
    old = ref(server.serverConnectionForTLS(None).get_context())
    renew(files)
    clock.advance(1)

    server.serverConnectionForTLS(None)
    gc.collect()

    assert old() is None


def test_an_issuer_who_is_taken_out_vouches_for_nobody_any_more(files, clock):
    issuers = files.write("issuers.pem", ROOT.pem, OTHER_ROOT.pem)
    server = ServerTls(files.cert, files.key, client_ca=issuers, clock=clock)
    client = client_as(files, clock, MALLORY)
    assert Pair(server, client).established

    files.write("issuers.pem", ROOT.pem)
    clock.advance(1)

    assert not Pair(server, client).established
    assert Pair(server, client_as(files, clock, ANN)).established


def test_issuers_that_cannot_be_read_change_nothing(files, clock, told):
    issuers = files.write("issuers.pem", ROOT.pem)
    server = ServerTls(files.cert, files.key, client_ca=issuers, clock=clock)

    issuers.unlink()
    clock.advance(1)

    assert not Pair(server, client_as(files, clock)).established
    assert Pair(server, client_as(files, clock, ANN)).established
    assert len(told) == 1


def test_a_client_shows_its_renewed_certificate(files, clock, told):
    server = server_for(files, clock)
    client = client_as(files, clock, ANN)
    assert Pair(server, client).known == ANN.facts
    ben = Made("ben", by=ROOT)
    files.pair(ben, "client.pem")

    clock.advance(1)

    assert Pair(server, client).known == ben.facts
    assert told == [
        f"info: TLS has taken up what has changed in "
        f"cert={files.folder / 'client.pem'} and ca={files.root}"
    ]


def test_a_client_trusts_the_issuers_that_are_in_the_file_now(files, clock):
    issuers = files.write("issuers.pem", OTHER_ROOT.pem)
    server = ServerTls(files.cert, files.key, clock=clock)
    client = ClientTls("localhost", ca=issuers, clock=clock)
    assert not Pair(server, client).established

    files.write("issuers.pem", ROOT.pem)
    clock.advance(1)

    assert Pair(server, client).established


# What cannot be


def test_a_file_that_is_not_there_is_an_error(files, clock):
    gone = files.folder / "gone"
    why = "cannot be read: no such file or directory; name a file that exists"

    assert refusal(ServerTls, gone, clock=clock) == f"cert={gone} {why}"
    assert refusal(ServerTls, files.cert, gone, clock=clock) == f"key={gone} {why}"
    assert (
        refusal(ServerTls, files.cert, files.key, client_ca=gone, clock=clock)
        == f"clientCA={gone} {why}"
    )
    assert refusal(ClientTls, "localhost", ca=gone, clock=clock) == f"ca={gone} {why}"
    assert refusal(ClientTls, "localhost", cert=gone, clock=clock) == f"cert={gone} {why}"


def test_a_file_that_we_may_not_read_is_an_error(files, clock, monkeypatch):
    monkeypatch.setattr("pathlib.Path.read_bytes", forbidden)

    assert refusal(ServerTls, files.cert, files.key, clock=clock) == (
        f"cert={files.cert} cannot be read: permission denied; "
        "the user who runs this must be able to read it"
    )


def test_a_path_that_leads_nowhere_is_an_error(files, clock):
    loop = files.folder / "loop"
    loop.symlink_to(loop)

    assert refusal(ServerTls, loop, clock=clock) == (
        f"cert={loop} cannot be read: too many levels of symbolic links; name a PEM file"
    )


def test_what_is_no_file_is_an_error_and_not_waited_for(files, clock):
    pipe = files.folder / "pipe"
    os.mkfifo(pipe)

    for path in (files.folder, pipe):
        assert refusal(ServerTls, path, clock=clock) == (
            f"cert={path} is no regular file; name a PEM file"
        )


def test_a_file_without_a_certificate_is_an_error(files, clock):
    binary = files.write("binary", SERVER.certificate.public_bytes(Encoding.DER))

    for path in (files.key, binary, files.write("empty", b"")):
        assert refusal(ServerTls, path, files.key, clock=clock) == (
            f"cert={path} holds no certificate; name a PEM file, in which it follows "
            "a line -----BEGIN CERTIFICATE-----"
        )


@pytest.mark.parametrize(
    "data",
    [
        SERVER.pem[:200],
        SERVER.pem.replace(b"\nM", b"\nN", 1),
        SERVER.pem + ROOT.pem[:200],
        SERVER.pem + ROOT.pem.replace(b"\nM", b"\nN", 1),
    ],
    ids=["cut", "garbled", "cut chain", "garbled chain"],
)
def test_a_damaged_certificate_is_an_error_wherever_it_stands(files, clock, data):
    path = files.write("damaged", data)
    why = "cannot be read; copy it again from where it was made"

    assert refusal(ServerTls, path, files.key, clock=clock) == f"a certificate in cert={path} {why}"
    assert (
        refusal(ClientTls, "localhost", ca=path, clock=clock) == f"a certificate in ca={path} {why}"
    )


def test_a_certificate_without_a_key_is_an_error(files, clock):
    assert refusal(ServerTls, files.cert, clock=clock) == (
        f"cert={files.cert} holds no private key in PEM; add it, or name its file with key="
    )
    assert refusal(ServerTls, files.cert, files.root, clock=clock) == (
        f"key={files.root} holds no private key in PEM; name its file"
    )


@pytest.mark.parametrize("form", [PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL])
def test_an_encrypted_key_is_an_error(files, clock, form):
    key = files.write("locked", key_pem(SERVER.key, form, BestAvailableEncryption(b"sesame")))

    assert refusal(ServerTls, files.cert, key, clock=clock) == (
        f"the private key in key={key} is encrypted, and nobody is there to type its passphrase; "
        "write it without one: openssl pkey -in OLD -out NEW"
    )


@pytest.mark.parametrize("data", [SERVER.key_pem[:100], SERVER.key_pem.replace(b"\nM", b"\nN", 1)])
def test_a_damaged_key_is_an_error(files, clock, data):
    key = files.write("damaged", data)

    assert refusal(ServerTls, files.cert, key, clock=clock) == (
        f"the private key in key={key} cannot be read; copy it again from where it was made"
    )


@pytest.mark.parametrize("other", [RENEWED.key, rsa.generate_private_key(65537, 2048)])
def test_a_key_that_belongs_to_another_certificate_is_an_error(files, clock, other):
    key = files.write("other", key_pem(other))
    words = (
        f"the private key in key={key} does not belong to the first certificate in "
        f"cert={files.cert}; give two that were made for each other, issuers last"
    )

    assert refusal(ServerTls, files.cert, key, clock=clock) == words
    assert refusal(ClientTls, "localhost", cert=files.cert, key=key, clock=clock) == words


def test_issuers_come_after_what_they_have_issued(files, clock):
    path = files.write("wrong way round", ROOT.pem, SERVER.pem, SERVER.key_pem)

    assert refusal(ServerTls, path, clock=clock) == (
        f"the private key in cert={path} does not belong to the first certificate in "
        f"cert={path}; give two that were made for each other, issuers last"
    )


def test_a_key_that_is_too_weak_is_an_error(files, clock):
    path = files.pair(Made(by=ROOT, key=rsa.generate_private_key(65537, 1024)))
    words = (
        f"TLS cannot use cert={path}: ee key too small; have a new pair made, "
        "with an ECDSA key or 2048 bits of RSA"
    )

    assert refusal(ServerTls, path, clock=clock) == words
    assert refusal(ClientTls, "localhost", cert=path, clock=clock) == words


def test_a_key_that_is_not_for_signing_is_an_error(files, clock):
    path = files.pair(Made(by=ROOT, key=x25519.X25519PrivateKey.generate()))

    assert refusal(ServerTls, path, clock=clock).startswith(f"TLS cannot use cert={path}: ")


def test_a_certificate_for_a_kind_of_key_that_nobody_knows_is_an_error(files, clock):
    der = Made(by=ROOT, key=ed25519.Ed25519PrivateKey.generate()).facts.certificate
    # RFC 8410 section 3: 1.3.101.112 is Ed25519; 1.3.101.127 is nothing.
    unknown = der.replace(bytes.fromhex("06032b6570"), bytes.fromhex("06032b657f"))
    path = files.write("unknown", ssl.DER_cert_to_PEM_cert(unknown).encode())

    words = refusal(ServerTls, path, files.key, clock=clock)

    assert words.startswith(f"TLS cannot use cert={path}: ")
    assert words.endswith("; have a new pair made, with an ECDSA key or 2048 bits of RSA")


@pytest.mark.parametrize("verify", ["optional", "required"])
def test_who_verifies_has_to_know_the_issuers(files, clock, verify):
    assert refusal(ServerTls, files.cert, files.key, verify=verify, clock=clock) == (
        f"verify={verify} does not say whose certificates are good; "
        "name a file of issuers with clientCA="
    )


def test_a_way_to_verify_that_there_is_not_is_an_error(files, clock):
    assert refusal(ServerTls, files.cert, files.key, verify="maybe", clock=clock) == (
        "verify=maybe is unknown; write one of none, optional, required"
    )


def test_a_clients_key_without_a_certificate_is_an_error(files, clock):
    assert refusal(ClientTls, "localhost", key=files.key, clock=clock) == (
        f"key={files.key} has no certificate to go with it; name its file with cert="
    )


@pytest.mark.parametrize("name", ["", "a..b", "[::1]", "x" * 64 + ".org"])
def test_a_name_that_no_server_can_have_is_an_error(clock, name):
    assert refusal(ClientTls, name, clock=clock) == (
        f"{name!r} cannot be the name of a server; write a host name or a numeric address"
    )


@pytest.mark.parametrize("package", ["OpenSSL", "service_identity"])
def test_without_the_extra_one_line_says_how_to_get_it(files, clock, monkeypatch, package):
    for name in list(sys.modules):
        if name.partition(".")[0] == package:
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)

    for words in (
        refusal(ServerTls, files.cert, files.key, clock=clock),
        refusal(ClientTls, "localhost", clock=clock),
    ):
        assert words.startswith("TLS is not installed (")
        assert words.endswith("); install it with: pip install 'sockproto[tls]'")
        assert package in words


def test_no_error_shows_the_key(files, clock):
    data = SERVER.key_pem.replace(b"\nM", b"\nN", 1)
    key = files.write("damaged", data)

    with pytest.raises(ConfigurationError) as caught:
        ServerTls(files.cert, key, clock=clock)

    secret = data.splitlines()[1].decode()
    assert secret not in f"{caught.value!r} {caught.value.__cause__!r}"
