"""
A function for every parser: it is given bytes, and asserts what must hold.

A target takes the bytes as they are, wherever that is possible, so that a file of its corpus reads
like what a peer or an operator would have written. Those that need more to be told find it in the
first bytes, and say so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from hashlib import sha256
from importlib.metadata import Distribution
from ipaddress import ip_network
from math import isclose
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any
from unittest.mock import patch

from sockproto.admission.early_drop import EarlyDrop
from sockproto.admission.networks import Networks, number_of
from sockproto.core.arguments import Endpoint, Secret
from sockproto.core.end_point import end_point_of
from sockproto.core.errors import LimitExceeded, PeerError, ProtocolViolation
from sockproto.core.exchange import MAX_BYTES
from sockproto.core.facts import Address, PeerFacts, TlsFacts
from sockproto.core.handshake import Side
from sockproto.core.outcomes import Accept, Reject
from sockproto.core.peer import Peer
from sockproto.handshakes._keys import parse_keys
from sockproto.handshakes._scram_users import parse_users
from sockproto.handshakes.certificate import KINDS, Allowed, Certificate, _names, parse_names
from sockproto.handshakes.chain import Chain
from sockproto.handshakes.challenge import Challenge
from sockproto.handshakes.cred import Cred
from sockproto.handshakes.jwt import Jwt
from sockproto.handshakes.negotiate import Negotiate
from sockproto.handshakes.passphrase import Passphrase
from sockproto.handshakes.scram import REFUSED, Scram
from sockproto.handshakes.token import Token, parse_tokens
from sockproto.handshakes.welcome import Welcome
from sockproto.plugins import handshake_blueprint
from sockproto.service.policy import POLICY_OPTIONS, policy_of
from sockproto.service.settings import PREFIX, gather
from sockproto.service.units import rate, seconds, show_seconds, show_size, size, switch, whole
from sockproto.signatures import Signature
from sockproto.transport.datagram_exchange import converse
from sockproto.transport.descriptions import DATAGRAMS, describe, is_for_datagrams
from sockproto.transport.facts import tls_facts_of
from sockproto.transport.proxy import ProxyHeader, ProxyParser, Version, v1_header, v2_header

from .rules import cuts_of, listen, read, stopwatch

TARGETS: dict[str, Callable[[bytes], None]] = {}
"""Every target by its name."""

DENIED = b"NO\n"

HERE = Address("inet", "127.0.0.1", 8001)
THERE = Address("inet", "192.0.2.1", 56324)

OVER_TLS = PeerFacts(tls=TlsFacts())

JWT_KEY = b"""\
-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=
-----END PUBLIC KEY-----
"""
"""The first of RFC 8032 section 7.1, as in the vectors of ``jwt``."""

SCRAM_USERS = b"""\
# strangers: c3RyYW5nZXJzIGFyZSBtYWRlIG9mIHRoaXMga2V5ISE=
user SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==\
$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=
"""
"""The one of RFC 7677 section 3, as in the vectors of ``scram``."""

KEYS = b"2026-11 AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n2026-05 ZGVmZ2hpamtsbW5vcHFycw==\n"
"""As in the vectors of ``challenge``."""


BOUND = tuple(
    PeerFacts(tls=TlsFacts(end_point=bytes.fromhex(end_point)))
    for end_point in (
        "81acd762140fa692a142822d2fbe4dc6f54bcaa501f68ab37e5aeed0bafe4d99",
        "97c5cad0a3bc321d717371e86be8d733a0b574e03139778a7d8e1ce77629518b",
    )
)
"""With a certificate that can be bound to: in the vectors of ``challenge``, and of ``scram``."""


def target(function: Callable[[bytes], None]) -> Callable[[bytes], None]:
    """Make a target known."""
    TARGETS[function.__name__] = function
    return function


# What a peer's verbs read. The first byte is what they are called with, the second the budget.


def _verb(call: Callable[[Peer, int], Any], data: bytes) -> None:
    count, budget = data[:1], data[1:2]
    if budget:
        listen(partial(_three_times, call, count[0]), data[2:], max_bytes=budget[0])


async def _three_times(call: Callable[[Peer, int], Any], count: int, peer: Peer) -> Accept:
    """Read, and read on, so that what a verb leaves behind matters."""
    read = [await call(peer, count) for _ in range(3)]
    return Accept(result=read)


@target
def peer_exactly(data: bytes) -> None:
    _verb(lambda peer, count: peer.receive_exactly(count), data)


@target
def peer_until(data: bytes) -> None:
    """The delimiter is one of four, by the two highest bits of the first byte."""
    ends = (b"\n", b"\r\n", b"--", b"aab")
    _verb(lambda peer, count: peer.receive_until(ends[count >> 6], count & 0x3F), data)


@target
def peer_line(data: bytes) -> None:
    _verb(lambda peer, count: peer.receive_line(count), data)


@target
def peer_frame(data: bytes) -> None:
    """The size of the prefix is in the two highest bits of the first byte."""
    sizes = (1, 2, 4, 1)
    _verb(lambda peer, count: peer.receive_frame(sizes[count >> 6], count & 0x3F), data)


@target
def peer_netstring(data: bytes) -> None:
    _verb(lambda peer, count: peer.receive_netstring(count), data)


@target
def peer_expect(data: bytes) -> None:
    """How much is expected is in the first byte."""
    count, budget = data[:1], data[1:2]
    if budget:
        wanted = (b"PROXY \n" * 3)[: count[0] % 22]
        listen(partial(_expects_twice, wanted), data[2:], max_bytes=budget[0])


async def _expects_twice(wanted: bytes, peer: Peer) -> Accept | Reject:
    if await peer.expect(wanted) and await peer.expect(wanted):
        return Accept()
    # Not an Accept: what was looked at is more than what was taken.
    return Reject(reason="something else")


@target
def peer_to_end(data: bytes) -> None:
    _verb(lambda peer, count: peer.receive_to_end(count), data)


@target
def proxy_header(data: bytes) -> None:
    """Whoever can read it says the same, and what was read can be written."""
    found = {version: _header(version, data) for version in ("v1", "v2", "auto")}
    headers = [each for each in found.values() if isinstance(each[0], ProxyHeader)]
    assert found["auto"] in (found["v1"], found["v2"]) or not headers
    for header, unread in headers:
        assert isinstance(header, ProxyHeader)
        assert data.endswith(unread)
        if header.source is not None and header.destination is not None:
            _written_again(header.source, header.destination)


def _header(version: Version, data: bytes) -> tuple[ProxyHeader | str | None, bytes]:
    first = stopwatch.time(lambda: _parsed(version, [data]))
    for cut in cuts_of(data):
        # Which bytes an error shows depends on how many had come.
        assert _parsed(version, cut) == first, f"cut into {cut}"
    return first


def _parsed(version: Version, cut: Sequence[bytes]) -> tuple[ProxyHeader | str | None, bytes]:
    parser = ProxyParser(version)
    header = None
    try:
        for at, chunk in enumerate(cut):
            header = parser.receive_data(chunk)
            if header is not None:
                return header, parser.unread + b"".join(cut[at + 1 :])
    except ProtocolViolation as error:
        return error.expected, b""
    except LimitExceeded as error:
        return str(error), b""
    return header, b""


def _written_again(source: Address, destination: Address) -> None:
    if source.family != "unix":
        assert _ends_of(v1_header(source, destination), "v1") == (source, destination)
    for crc in (False, True):
        again = v2_header(source, destination, crc=crc)
        assert _ends_of(again, "v2") == (source, destination)


def _ends_of(header: bytes, version: Version) -> tuple[Address | None, Address | None]:
    found = ProxyParser(version).receive_data(header)
    assert found is not None
    return found.source, found.destination


# What an operator writes.


def _text(data: bytes) -> str:
    """As the command line and the environment come to a program."""
    return data.decode("utf-8", "surrogateescape")


def _takes_it_all(
    word: Secret,
    raw: bytes | None = None,
    count: int = 0,
    ratio: float = 0.0,
    on: bool = False,
    file: Path | None = None,
    *,
    endpoint: Endpoint | None = None,
) -> None: ...


def _has_no_secret(name: str, /, count: int = 0, *, on: bool = False) -> None: ...


@cache
def _signatures() -> tuple[Signature, Signature]:
    return (
        Signature("handshake", "all", _takes_it_all),
        Signature("handshake", "open", _has_no_secret),
    )


@target
def signature(data: bytes) -> None:
    """What follows the name of a plug-in."""
    secretive, other = _signatures()
    text = _text(data)
    found = read(secretive.read, text, discreet=True)
    assert found is None or set(found.exposed) == {"word"}
    read(other.read, text)


def _no_module(name: str) -> ModuleType:
    raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def _no_distributions() -> Sequence[Distribution]:
    return ()


@target
def plugin_string(data: bytes) -> None:
    """Nothing is built of it, and no module imported that we do not know: that would do things."""
    with (
        patch("sockproto.plugins.import_module", _no_module),
        patch("sockproto.plugins.distributions", _no_distributions),
    ):
        read(handshake_blueprint, _text(data))


@target
def endpoint_string(data: bytes) -> None:
    text = _text(data)
    found = read(describe, text)
    if found is not None:
        assert (found.kind in DATAGRAMS) == is_for_datagrams(text)
        assert 0 <= found.port <= 65535
        assert found.tls is None or found.tls.cert.is_absolute()


@target
def units(data: bytes) -> None:
    """Times, sizes, numbers, rates; and what was read can be shown and read again."""
    text = _text(data)
    time = read(seconds, text, blames=ValueError)
    if time is not None:
        assert time > 0
        assert isclose(seconds(show_seconds(time)), time)
    bytes_ = read(size, text, blames=ValueError)
    assert bytes_ is None or size(show_size(bytes_)) == bytes_ > 0
    number = read(whole, text, blames=ValueError)
    assert number is None or whole(str(number)) == number > 0
    often = read(rate, text, blames=ValueError)
    if often is not None:
        again = rate(str(often))
        assert again.count == often.count > 0
        assert isclose(again.seconds, often.seconds)
    read(switch, text, blames=ValueError)


@target
def networks(data: bytes) -> None:
    text = _text(data)
    found = read(Networks.parse, text)
    if found is not None:
        assert Networks.parse(str(found)) == found
        for each in map(ip_network, str(found).split(",") if found else ()):
            assert Address.ip(str(each[0]), 0) in found
        for each in () if text in ("", "none", "all") else map(str.strip, text.split(",")):
            network = ip_network(each)
            # An IPv4 address is in no network of IPv6, though it could be mapped into it.
            if network.version == 4 or network.prefixlen >= 96:
                assert Address.ip(str(network[-1]), 0) in found
    number_of(Address("inet", text))
    number_of(Address("inet6", text))


@target
def early_drop(data: bytes) -> None:
    found = read(EarlyDrop.parse, _text(data))
    if found is not None:
        assert EarlyDrop.parse(str(found)) == found
        pending = sorted((0, 1, found.start - 1, found.start, found.full - 1, found.full))
        odds = [found.odds(each) for each in pending]
        assert odds == sorted(odds)
        assert odds[0] == 0.0
        assert odds[-1] == 1.0
        assert all(0.0 < found.patience(each) <= 1.0 for each in pending)


@target
def policy_options(data: bytes) -> None:
    """The option is named before an equals sign, as in a file."""
    name, _, text = _text(data).partition("=")
    for each in POLICY_OPTIONS if name not in POLICY_OPTIONS else (name,):
        fields = read(POLICY_OPTIONS[each].read, text, blames=ValueError)
        if fields is not None:
            read(policy_of, fields, 1024)


@cache
def _folder() -> TemporaryDirectory[str]:
    return TemporaryDirectory(prefix="sockproto-fuzz-")


def _file(name: str, content: bytes) -> Path:
    file = Path(_folder().name, name)
    file.write_bytes(content)
    return file


NAMES = ("listen", "session", "backlog", "handshake", "idle-timeout", "penalties", "dry-run")


def _gather(environment: Mapping[str, str], file: str | None) -> dict[str, Any]:
    return gather(NAMES, NAMES[:2], {}, environment, file, NAMES[-2:])


@target
def settings_file(data: bytes) -> None:
    """TOML. Its settings are texts, and one each unless there may be several."""
    found = read(_gather, {}, str(_file("settings.toml", data)))
    for name, setting in (found or {}).items():
        assert all(isinstance(each, str) for each in setting.values)
        assert len(setting.values) == 1 or name in NAMES[:2]


@target
def environment(data: bytes) -> None:
    """A variable a line."""
    pairs = (line.partition("=") for line in _text(data).split("\n"))
    found = read(_gather, {f"{PREFIX}{name}": text for name, _, text in pairs}, None)
    assert found is not None


# The handshakes: each side hears what the other would not say.


@cache
def _passphrase() -> Passphrase:
    return Passphrase(b"sesame")


@target
def passphrase_serve(data: bytes) -> None:
    listen(_passphrase().serve, data, denied=DENIED)


@target
def passphrase_connect(data: bytes) -> None:
    listen(_passphrase().connect, data, denied=b"")


@cache
def _token(size: int | None) -> Token:
    line = f"ann sha256:{sha256(b'sesame').hexdigest()}\n"
    return Token(b"sesame", file=_file("tokens", line.encode()), size=size)


@target
def token_serve(data: bytes) -> None:
    listen(_token(None).serve, data, denied=DENIED)
    listen(_token(6).serve, data, denied=DENIED)


@target
def token_connect(data: bytes) -> None:
    listen(_token(None).connect, data, denied=b"")


@cache
def _challenge() -> Challenge:
    return Challenge(KEYS)


@target
def challenge_serve(data: bytes) -> None:
    """Without TLS, with something to be bound to, and with a small budget."""
    serve: Any = partial(_challenge().serve, nonce=bytes(range(0xA0, 0xB0)))
    listen(serve, data, denied=DENIED)
    listen(serve, data, denied=DENIED, facts=BOUND[0])
    listen(serve, data, denied=DENIED, max_bytes=len(data) // 2)


@target
def challenge_connect(data: bytes) -> None:
    connect: Any = partial(_challenge().connect, nonce=bytes(range(0xB0, 0xC0)))
    listen(connect, data, denied=b"")
    listen(connect, data, denied=b"", facts=BOUND[0])


@cache
def _scram() -> tuple[Scram, Scram]:
    file = _file("users", SCRAM_USERS)
    return (
        Scram(file, nonce=lambda: "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"),
        Scram(user="user", password=b"pencil", nonce=lambda: "rOprNGfwEbeRWgbNEkqO"),
    )


@target
def scram_serve(data: bytes) -> None:
    """Without TLS, and with something to be bound to."""
    listen(_scram()[0].serve, data, denied=REFUSED)
    listen(_scram()[0].serve, data, denied=REFUSED, facts=BOUND[1])


@target
def scram_connect(data: bytes) -> None:
    # How long a server may have a client hash is what MAX_ITERATIONS is for.
    hashes = data.partition(b",i=")[2].partition(b"\n")[0]
    if len(hashes) <= 4 or not hashes[:5].isdigit():
        listen(_scram()[1].connect, data, denied=b"")
        listen(_scram()[1].connect, data, denied=b"", facts=BOUND[1])


@cache
def _cred() -> tuple[Cred, Cred]:
    return Cred("memory:ann:sesame"), Cred(user="ann", password=b"sesame")


@target
def cred_serve(data: bytes) -> None:
    listen(_cred()[0].serve, data, facts=OVER_TLS, denied=DENIED)


@target
def cred_connect(data: bytes) -> None:
    listen(_cred()[1].connect, data, facts=OVER_TLS, denied=b"")


@cache
def _jwt() -> tuple[Jwt, Jwt]:
    return Jwt(_file("jwt.pem", JWT_KEY), "door"), Jwt(token=b"e30.e30.")


@target
def jwt_serve(data: bytes) -> None:
    listen(_jwt()[0].serve, data, denied=DENIED)


@target
def jwt_connect(data: bytes) -> None:
    listen(_jwt()[1].connect, data, denied=b"")


@target
def jwt_token(data: bytes) -> None:
    """A client's own token, and what it is told of it when a server refuses."""
    jwt = read(lambda: Jwt(token=data), discreet=True)
    if jwt is not None:
        story = listen(jwt.connect, DENIED)
        assert story.sent == data.strip() + b"\n"


@target
def negotiate_serve(data: bytes) -> None:
    offered = PeerFacts(sessions=("chat/1", "chat/2", "echo", "\u00fcber"))
    story = listen(Negotiate().serve, data, facts=offered)
    if isinstance(story.outcome, Accept):
        assert story.outcome.session in offered.sessions


@target
def negotiate_connect(data: bytes) -> None:
    story = listen(Negotiate("chat/2,chat/1").connect, data, denied=b"")
    if isinstance(story.outcome, Accept):
        assert story.outcome.result in ("chat/1", "chat/2")


@cache
def _chain() -> Chain:
    return Chain(_passphrase(), _token(6), Negotiate())


@target
def chain_serve(data: bytes) -> None:
    listen(_chain().serve, data, facts=PeerFacts(sessions=("chat/1",)))


@target
def certificate_connect(data: bytes) -> None:
    listen(Certificate().connect, data, facts=OVER_TLS, denied=b"")


@target
def certificate_names(data: bytes) -> None:
    """The bytes are the extension of subject alternative names, in a certificate made of it."""
    der = _certificate_with(data)
    names = stopwatch.time(lambda: list(_names((), der, KINDS)))
    assert all(name.partition(":")[0] in KINDS for name in names)
    certificate_facts(der)


class _Established:
    """As much of a transport as tells what TLS has established: with this certificate."""

    negotiatedProtocol = None

    def __init__(self, certificate: Any) -> None:
        self._certificate = certificate

    def getHandle(self) -> _Established:
        return self

    def get_context(self) -> _Established:
        return self

    def get_verify_mode(self) -> int:
        from OpenSSL import SSL

        return SSL.VERIFY_PEER

    def get_peer_certificate(self) -> Any:
        return self._certificate

    getPeerCertificate = get_peer_certificate


@target
def certificate_facts(data: bytes) -> None:
    """A whole certificate, in DER; whatever OpenSSL takes for one may come through TLS."""
    from OpenSSL import crypto

    try:
        certificate = crypto.load_certificate(crypto.FILETYPE_ASN1, data)
    except crypto.Error:
        return
    tls = stopwatch.time(lambda: tls_facts_of(_Established(certificate), serving=False))
    assert tls.certificate
    assert tls.end_point == end_point_of(tls.certificate)
    listen(_allows().serve, b"", facts=PeerFacts(tls=tls), denied=DENIED)


@target
def certificate_end_point(data: bytes) -> None:
    """A whole certificate, in DER."""
    assert len(stopwatch.time(lambda: end_point_of(data))) in (0, 28, 32, 48, 64)


@cache
def _allows() -> Certificate:
    return Certificate("a.example,*.b.example,email:ann@b.example,URI:spiffe://b.example/ann")


@cache
def _certificate_key() -> Any:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return Ed25519PrivateKey.from_private_bytes(bytes(32))


def _certificate_with(names: bytes) -> bytes:
    from datetime import datetime

    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    key = _certificate_key()
    san = x509.UnrecognizedExtension(x509.ExtensionOID.SUBJECT_ALTERNATIVE_NAME, names)
    built = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(x509.Name([]))
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(datetime(2026, 1, 1))
        .not_valid_after(datetime(2027, 1, 1))
        .add_extension(san, critical=False)
        .sign(key, None)
    )
    return built.public_bytes(Encoding.DER)


# The files of the handshakes.


@target
def token_file(data: bytes) -> None:
    read(parse_tokens, data, blames=ValueError, discreet=True, advises=True)


@target
def key_file(data: bytes) -> None:
    found = read(parse_keys, data, blames=ValueError, discreet=True, advises=True)
    assert found is None or found.find(found.current.id) is found.current


@target
def scram_users(data: bytes) -> None:
    found = read(parse_users, data, blames=ValueError, discreet=True, advises=True)
    if found is not None:
        assert found.look_up("nobody").shape == found.look_up("nobody").shape


@target
def allow_list(data: bytes) -> None:
    """A file of names, and the same on a command line."""
    found = read(parse_names, data, blames=ValueError)
    if found is not None:
        assert "DNS:*.b.example" not in found
    read(_allowed, _text(data), blames=ValueError)


def _allowed(text: str) -> Allowed:
    return Allowed(each.strip() for each in text.split(","))


@target
def jwt_keys(data: bytes) -> None:
    """PEM, a JSON Web Key Set, or a secret: for an algorithm of each kind."""
    for algorithm in ("EdDSA", "ES256", "RS256", "HS256"):
        found = read(_jwt_for(algorithm)._parse_keys, data, blames=ValueError, discreet=True)
        assert found is None or found


@cache
def _jwt_for(algorithm: str) -> Jwt:
    jwt = Jwt(_file("jwt.pem", JWT_KEY), "door")
    # With keys of its own, and here it is another parser's turn.
    jwt._algorithm = algorithm
    return jwt


@target
def wanted_names(data: bytes) -> None:
    """What ``negotiate`` is told to ask for."""
    read(Negotiate, _text(data))


# Over UDP.


@target
def datagram(data: bytes) -> None:
    """A datagram is a whole conversation."""
    for side in _datagram_sides():
        for most in (MAX_BYTES, len(data) // 2):
            outcome, reply = stopwatch.time(partial(_converse, side, data, most))
            assert isinstance(outcome, Accept | Reject | PeerError), repr(outcome)
            if isinstance(outcome, PeerError):
                assert not reply


def _converse(side: Side, data: bytes, most: int) -> Any:
    return converse(side, data, THERE, HERE, None, most)


@cache
def _datagram_sides() -> tuple[Side, ...]:
    makers = (Welcome(), _passphrase(), _token(None), _token(6), Negotiate())
    return tuple(each.serve for each in makers)
