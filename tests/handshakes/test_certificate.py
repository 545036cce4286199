import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding
from docs.pages import DOCS, rows_of

from sockproto import Accept, ConfigurationError, Reject
from sockproto.core.facts import PeerFacts, TlsFacts
from sockproto.handshakes.certificate import Allowed, Certificate, parse_names
from sockproto.plugins import handshake_from_string
from sockproto.testing import Rehearsal, Story, converse, play, rehearse

VECTORS = json.loads((Path(__file__).parent / "vectors/certificate.json").read_text())
PAGE = DOCS / "reference/handshakes/certificate.rst"

TLS = PeerFacts(tls=TlsFacts())
OPAQUE = b"a certificate that need not be read"


def known(*names, certificate=OPAQUE):
    return PeerFacts(tls=TlsFacts(names=names, certificate=certificate))


def issued(*names):
    """A certificate with these alternative names; with none, without the extension."""
    key = Ed25519PrivateKey.generate()
    who = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a.example")])
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder(who, who, key.public_key(), x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=1))
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(key, None).public_bytes(Encoding.DER)


# The vectors


@pytest.mark.parametrize("vector", VECTORS["conversations"], ids=lambda each: each["case"])
def test_the_bytes_are_those_of_the_vectors(vector):
    facts = TLS if vector["names"] is None else known(*vector["names"])

    story = play(Certificate(VECTORS["allow"]).serve, [], facts=facts)

    answer = bytes.fromhex(vector["server"])
    assert story == Story(
        Accept(answer, identity=vector["identity"])
        if vector["verdict"] == "accepted"
        else Reject(answer, reason=vector["log"]),
        sent=answer,
    )


def test_the_page_has_the_bytes_of_the_vectors():
    assert rows_of(PAGE) == [
        [each["case"], ", ".join(each["names"] or ()), each["server"], each["verdict"]]
        for each in VECTORS["conversations"]
    ]


def test_the_page_has_what_the_log_says():
    told = {row[0] for row in rows_of(PAGE, 2)}

    assert {each["log"] for each in VECTORS["conversations"]} - {None} <= told | {
        "not allowed: ann.home.b.example"
    }


# The server's side


def test_the_server_asks_for_nothing():
    story = play(Certificate("a.example").serve, [b"hello"], facts=known("a.example"))

    assert story == Story(Accept(b"OK\n", identity="a.example"), sent=b"OK\n", unread=b"hello")


def test_without_tls_nobody_is_known():
    assert play(Certificate("*").serve, []).outcome == Reject(
        b"NO\n", reason="no TLS, so no certificate: listen on tls:...:clientCA=FILE"
    )


@pytest.mark.parametrize(
    ("allow", "name", "allowed"),
    [
        ("a.example", "a.example", True),
        ("A.Example", "a.eXample", True),
        ("a.example", "b.a.example", False),
        ("*.example", "a.example", True),
        ("*.example", ".example", False),
        ("*.example", "example", False),
        ("*.example", "a.b.example", False),
        # One that was made for a server.
        ("*.example", "*.example", False),
        ("*", "*.example", False),
        ("*", "anything.example", True),
        (" a.example , b.example ", "b.example", True),
        ("_x.xn--bcher-kva.example", "_x.xn--bcher-kva.example", True),
    ],
)
def test_a_name_is_allowed_as_the_list_says(allow, name, allowed):
    outcome = play(Certificate(allow).serve, [], facts=known(name)).outcome

    assert type(outcome) is (Accept if allowed else Reject)


@pytest.mark.parametrize(
    ("allow", "identity"),
    [
        ("email:ann@B.example", "email:ann@b.example"),
        ("URI:spiffe://b.example/ann", "URI:spiffe://b.example/ann"),
        ("DNS:ann.example", "ann.example"),
        ("*", "ann.example"),
        ("URI:spiffe://b.example/ANN", None),
        ("email:ANN@b.example", None),
        ("a.example", None),
    ],
)
def test_other_kinds_of_names_are_said_to_be_so(allow, identity):
    certificate = issued(
        x509.DNSName("ann.example"),
        x509.RFC822Name("ann@b.Example"),
        x509.UniformResourceIdentifier("spiffe://b.example/ann"),
    )

    outcome = play(
        Certificate(allow).serve, [], facts=known("ann.example", certificate=certificate)
    ).outcome

    assert getattr(outcome, "identity", None) == identity


@pytest.mark.parametrize("certificate", [OPAQUE, issued()], ids=["broken", "nameless"])
def test_a_certificate_that_makes_no_sense_has_no_name(certificate):
    facts = known(certificate=certificate)

    assert play(Certificate("*").serve, [], facts=facts).outcome == Reject(
        b"NO\n", reason="a certificate without a name"
    )


def test_the_log_does_not_show_names_without_end():
    facts = known(*(f"{number}.eve.example" for number in range(99)))

    assert len(play(Certificate("a.example").serve, [], facts=facts).outcome.reason) == 141


# The file


def test_a_name_that_is_taken_out_of_the_file_is_a_stranger(tmp_path):
    file = tmp_path / "members"
    file.write_text("# members\na.example  # Ann\n\nemail:bob@b.example\n")
    handshake = Certificate(file=file)
    assert rehearse(handshake, server_facts=known("a.example"), client_facts=TLS) == Rehearsal(
        Accept(b"OK\n", identity="a.example"), Accept(), server_sent=b"OK\n"
    )

    file.write_text("*.b.example\n")

    outcome = play(handshake.serve, [], facts=known("a.example")).outcome
    assert outcome == Reject(b"NO\n", reason="not allowed: a.example")


def test_a_file_that_makes_no_sense_any_more_still_holds(tmp_path):
    file = tmp_path / "members"
    file.write_text("a.example\n")
    handshake = Certificate(file=file)
    file.write_text("\n")

    assert play(handshake.serve, [], facts=known("a.example")).outcome == Accept(
        b"OK\n", identity="a.example"
    )
    assert play(handshake.serve, [], facts=known("b.example")).outcome == Reject(
        b"NO\n",
        reason=f"not allowed: b.example ({file}: there is no name in it; write one like "
        "a.example, or * for all; what it said before still holds)",
    )


# The client's side


def connect(answer, facts=TLS):
    return converse(Certificate().connect, answer, facts=facts)


def test_the_client_hears_that_it_is_welcome():
    assert connect(b"OK\n") == Accept()
    assert play(Certificate().connect, [b"OK\nhello"], facts=TLS).unread == b"hello"


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"NO\n", "the server does not allow our certificate, or saw none"),
        (b"SSH-2.0-x\r\n", "that is not a certificate server"),
        (
            b"",
            "the server left without an answer, as one does that wants a certificate from "
            "another issuer: is ours given, and not expired?",
        ),
    ],
)
def test_the_client_hears_what_it_can_do(answer, reason):
    assert connect(answer) == Reject(reason=reason)


def test_the_client_needs_tls():
    assert connect(b"", facts=None) == Reject(
        reason="no TLS, so no certificate: connect to tls:HOST:PORT:..."
    )


# What it is made of


def test_a_side_that_cannot_be_is_not_there():
    assert Certificate().serve is None
    assert Certificate().connect is not None
    assert Certificate("*").serve is not None


def test_it_is_found_by_its_name():
    handshake = handshake_from_string(r"certificate:a.example,URI\:spiffe\://b.example/ann")

    outcome = play(handshake.serve, [], facts=known("a.example")).outcome
    assert outcome == Accept(b"OK\n", identity="a.example")


@pytest.mark.parametrize(
    ("name", "trouble"),
    [
        ("", "'' is no name; write one like a.example"),
        ("IP:192.0.2.1", "IP: is no kind of name; there are DNS, email, URI"),
        ("DNS:", "'DNS:' is no name; write one like a.example"),
        ("a b.example", "'a b.example' is no name; write one like a.example"),
        ("b*.example", "'b*.example' has a star; it stands for the first label of a DNS name"),
        ("*.*.example", "'*.*.example' has a star; it stands for the first label of a DNS name"),
        ("email:*.b", "'email:*.b' has a star; it stands for the first label of a DNS name"),
        (
            "b\u00fccher.example",
            "'b\u00fccher.example' is no DNS name; write other alphabets as certificates do, "
            "xn--...",
        ),
        ("a..b", "'a..b' is no DNS name; write other alphabets as certificates do, xn--..."),
    ],
)
def test_what_is_no_name_is_refused_in_one_sentence(name, trouble):
    with pytest.raises(ConfigurationError) as refused:
        Certificate(name)

    assert str(refused.value) == f"certificate: allow={name}: {trouble}"


def test_there_is_one_list(tmp_path):
    with pytest.raises(ConfigurationError) as refused:
        Certificate("a.example", tmp_path)

    assert str(refused.value) == "certificate takes allow=NAME,... or file=PATH, not both"


def test_a_file_is_text():
    with pytest.raises(ValueError) as refused:
        parse_names(b"\xff")

    assert str(refused.value) == "that is no text in UTF-8; name a file of names"


def test_a_certificate_is_read_only_if_the_list_asks_for_more_than_dns():
    assert Allowed(["a.example", "*.b.example"]).kinds == {"DNS"}
    assert Allowed(["email:a@b"]).kinds == {"DNS", "email"}
