import base64
import hashlib
import hmac
import json
import sys
import time
from functools import cache
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from docs.pages import DOCS, rows_of

from sockproto import Accept, ConfigurationError, Exchange, PeerDisconnected, Reject
from sockproto.handshakes.jwt import MAX_KEYS, MAX_TOKEN, Jwt
from sockproto.plugins import handshake_from_string
from sockproto.testing import Rehearsal, Story, converse, play, rehearse

VECTORS = json.loads((Path(__file__).parent / "vectors/jwt.json").read_text())
PAGE = DOCS / "reference/handshakes/jwt.rst"
GOOD = VECTORS["conversations"][0]["token"]

LATE = 4102444800
"""The year 2100."""

CLAIMS = {"sub": "ann", "aud": "door", "exp": LATE}
NO_TOKEN = "that is no token: expected three parts in base64url with dots in between"


@pytest.fixture
def keys(tmp_path) -> Path:
    file = tmp_path / "keys.pem"
    file.write_text(VECTORS["keys"])
    return file


@cache
def ed(number=1):
    return ed25519.Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32)


@cache
def rsa_key(bits=2048):
    return rsa.generate_private_key(65537, bits)


@cache
def curve(which):
    return ec.derive_private_key(12345, which())


def pem(key):
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def jwk(key, algorithm="EdDSA", **more):
    made = jwt.get_algorithm_by_name(algorithm).to_jwk(key.public_key(), as_dict=True)
    return {**made, **more}


def signed(key, algorithm="EdDSA", claims=None, **header):
    return jwt.encode({**CLAIMS, **(claims or {})}, key, algorithm=algorithm, headers=header)


def serve(file, token, algorithm="EdDSA", **more):
    handshake = Jwt(file, "door", algorithm=algorithm, **more)
    if isinstance(token, str):
        token = token.encode()
    return play(handshake.serve, [token + b"\n"]).outcome


def b64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=")


# The vectors


@pytest.mark.parametrize("vector", VECTORS["conversations"], ids=lambda each: each["case"])
def test_the_bytes_are_those_of_the_vectors(vector, keys):
    answer = bytes.fromhex(vector["server"])

    story = play(Jwt(keys, VECTORS["audience"]).serve, [vector["token"].encode() + b"\n"])

    assert story == Story(
        Accept(answer, identity=vector["identity"])
        if vector["verdict"] == "accepted"
        else Reject(answer, reason=vector["log"]),
        sent=answer,
    )


@pytest.mark.parametrize("which", [0, 2])
def test_tokens_are_cut_in_every_way(keys, which):
    vector = VECTORS["conversations"][which]

    outcome = converse(Jwt(keys, "door").serve, vector["token"].encode() + b"\n")

    assert outcome.reply == bytes.fromhex(vector["server"])


def test_the_page_has_the_cases_of_the_vectors():
    assert rows_of(PAGE, 1) == [
        [each["case"], each["server"], each["verdict"], each["log"] or ""]
        for each in VECTORS["conversations"]
    ]


# The server's side


def test_what_follows_the_token_is_left_for_the_session(keys):
    story = play(Jwt(keys, "door").serve, [f"{GOOD}\nhello".encode()])

    assert story == Story(Accept(b"OK\n", identity="ann"), sent=b"OK\n", unread=b"hello")


def test_a_client_that_leaves_in_the_middle_is_a_disconnect(keys):
    with pytest.raises(PeerDisconnected):
        converse(Jwt(keys, "door").serve, b"abc")


def test_a_token_above_the_budget_is_told_which_option_to_raise(keys):
    story = play(Jwt(keys, "door").serve, [b"x" * 5000 + b"\n"])

    assert story.outcome == Reject(
        b"NO\n",
        reason="peer sent more than 4096 bytes, the limit set by max_handshake_bytes; "
        "if that was a token, raise --max-handshake-bytes",
    )


def test_a_token_above_every_measure_is_told_so(keys):
    story = play(Jwt(keys, "door").serve, [b"x" * (MAX_TOKEN + 1)], max_bytes=99999)

    assert story.outcome == Reject(
        b"NO\n", reason="peer sent more than 16384 bytes, the limit set by max_bytes"
    )


def test_a_long_token_is_welcome_where_there_is_room(tmp_path):
    (tmp_path / "key").write_bytes(pem(ed()))
    token = signed(ed(), claims={"roles": "x" * 5000}).encode()

    story = play(Jwt(tmp_path / "key", "door").serve, [token + b"\n"], max_bytes=16385)

    assert story.outcome == Accept(b"OK\n", identity="ann")


@pytest.mark.parametrize(
    ("algorithm", "key", "wrong"),
    [
        ("EdDSA", ed(), ed(2)),
        ("ES256", curve(ec.SECP256R1), ed()),
        ("ES384", curve(ec.SECP384R1), curve(ec.SECP256R1)),
        ("ES512", curve(ec.SECP521R1), rsa_key()),
        ("RS256", rsa_key(), curve(ec.SECP256R1)),
        ("PS512", rsa_key(), ed()),
    ],
    ids=str,
)
def test_a_public_key_is_read_from_pem_or_from_a_set(tmp_path, algorithm, key, wrong):
    (tmp_path / "pem").write_bytes(pem(key))
    (tmp_path / "set").write_text(json.dumps({"keys": [jwk(key, algorithm, kid="k")]}))
    token = signed(key, algorithm)

    for name in ("pem", "set"):
        assert serve(tmp_path / name, token, algorithm) == Accept(b"OK\n", identity="ann")
    if algorithm != "EdDSA":
        (tmp_path / "pem").write_bytes(pem(wrong))
        with pytest.raises(ConfigurationError) as refused:
            Jwt(tmp_path / "pem", "door", algorithm=algorithm)
        assert str(refused.value) == f"{tmp_path}/pem: a key in it is not one for {algorithm}"


@pytest.mark.parametrize(("algorithm", "size"), [("HS256", 32), ("HS384", 48), ("HS512", 64)])
@pytest.mark.parametrize("ending", [b"", b"\n", b"\r\n"])
def test_a_secret_is_read_from_a_file_with_or_without_a_line_ending(
    tmp_path, algorithm, size, ending
):
    secret = b"s" * size
    (tmp_path / "secret").write_bytes(secret + ending)

    token = signed(secret, algorithm)

    assert serve(tmp_path / "secret", token, algorithm) == Accept(b"OK\n", identity="ann")


def test_a_secret_may_be_in_a_set_and_has_to_be_long_enough(tmp_path):
    file = tmp_path / "set"
    entries = [
        {"kty": "oct", "kid": "nothing"},
        {"kty": "oct", "k": b64(b"short").decode(), "kid": "short"},
        {"kty": "oct", "k": b64(b"s" * 32).decode(), "kid": "long"},
    ]
    file.write_text(json.dumps({"keys": entries}))

    assert serve(file, signed(b"s" * 32, "HS256", kid="long"), "HS256").identity == "ann"
    assert serve(file, signed(b"s" * 32, "HS256", kid="short"), "HS256") == Reject(
        b"NO\n", reason="signed with a key that is not in the file"
    )


def test_a_token_names_its_key_or_any_may_have_signed_it(tmp_path):
    file = tmp_path / "set"
    file.write_text(json.dumps({"keys": [jwk(ed(1), kid="one"), jwk(ed(2), kid="two")]}))

    assert serve(file, signed(ed(2), kid="two")).identity == "ann"
    assert serve(file, signed(ed(2))).identity == "ann"
    assert serve(file, signed(ed(2), kid="one")) == Reject(
        b"NO\n", reason="not signed with a key of the file"
    )
    assert serve(file, signed(ed(3), kid="three")) == Reject(
        b"NO\n", reason="signed with a key that is not in the file"
    )


def test_a_key_in_pem_has_no_name_so_any_name_may_mean_it(tmp_path):
    file = tmp_path / "pem"
    file.write_bytes(pem(ed(1)) + pem(ed(2)))

    assert serve(file, signed(ed(2), kid="two")).identity == "ann"


def test_what_is_in_a_set_for_something_else_is_passed_over(tmp_path):
    file = tmp_path / "set"
    others = [
        jwk(ed(1), use="enc"),
        jwk(ed(2), alg="ES256"),
        jwk(curve(ec.SECP256R1), "ES256"),
        {"kty": "new"},
    ]
    file.write_text(json.dumps({"keys": [*others, jwk(ed(3), use="sig", alg="EdDSA")]}))

    assert serve(file, signed(ed(3))).identity == "ann"
    for number in (1, 2):
        assert type(serve(file, signed(ed(number)))) is Reject


def test_the_issuer_counts_if_one_is_named(tmp_path):
    file = tmp_path / "pem"
    file.write_bytes(pem(ed()))
    token = signed(ed(), claims={"iss": "https://id.example"})

    assert serve(file, token).identity == "ann"
    assert serve(file, token, issuer="https://id.example").identity == "ann"
    assert serve(file, token, issuer="https://other.example") == Reject(
        b"NO\n", reason="not from the issuer https://other.example"
    )
    assert serve(file, signed(ed()), issuer="https://id.example") == Reject(
        b"NO\n", reason="it lacks the claim iss"
    )


def test_clocks_may_differ_as_far_as_the_leeway_says(tmp_path):
    file = tmp_path / "pem"
    file.write_bytes(pem(ed()))
    token = signed(ed(), claims={"exp": int(time.time()) - 600})

    assert serve(file, token) == Reject(b"NO\n", reason="expired")
    assert serve(file, token, leeway=86400.0).identity == "ann"


@pytest.mark.parametrize("subject", ["", None, 7, "ann\n", "\x1b[2J"])
def test_a_token_says_whose_it_is(tmp_path, subject):
    file = tmp_path / "pem"
    file.write_bytes(pem(ed()))
    body = b64(b'{"alg":"EdDSA"}') + b"." + b64(json.dumps({**CLAIMS, "sub": subject}).encode())
    token = body + b"." + b64(ed().sign(body))

    assert type(serve(file, token)) is Reject


@pytest.mark.parametrize(
    "token",
    [
        b"",
        b"a.b",
        b"a.b.c.d",
        b"a.b.c",
        b"\xff.\xff.\xff",
        GOOD.encode() + b"\r",
        b64(b"[" * 2000) + b".e30.x",
        b64(b"7") + b".e30.x",
        b64(b'{"alg":"EdDSA"}') + b".e30.x",
        b64(b'{"alg":"EdDSA","kid":7}') + b".e30.x",
        b64(b'{"alg":["EdDSA"]}') + b".e30.x",
    ],
)
def test_what_is_no_token_is_refused_as_everything_is(keys, token):
    outcome = serve(keys, token)

    assert type(outcome) is Reject
    assert outcome.reply == b"NO\n"


def test_an_expiry_beyond_all_numbers_is_refused(tmp_path):
    file = tmp_path / "pem"
    file.write_bytes(pem(ed()))
    body = b64(b'{"alg":"EdDSA"}') + b"." + b64(b'{"sub":"ann","aud":"door","exp":Infinity}')

    assert type(serve(file, body + b"." + b64(ed().sign(body)))) is Reject


def test_a_key_that_is_taken_out_of_the_file_does_not_count_any_more(tmp_path):
    file = tmp_path / "pem"
    file.write_bytes(pem(ed(1)) + pem(ed(2)))
    handshake = Jwt(file, "door")
    said = signed(ed(1)).encode() + b"\n"
    assert play(handshake.serve, [said]).outcome.identity == "ann"

    file.write_bytes(pem(ed(2)))
    assert play(handshake.serve, [said]).outcome.reason == "not signed with a key of the file"

    file.write_bytes(b"")
    assert play(handshake.serve, [said]).outcome.reason == (
        f"not signed with a key of the file ({file}: there is no public key in PEM in it, and no "
        "JSON Web Key Set; what it said before still holds)"
    )


PRIVATE = (
    "there is a private key in it, which a server must not have; "
    "name a file of public ones: openssl pkey -in KEY -pubout"
)


@pytest.mark.parametrize(
    ("algorithm", "content", "trouble"),
    [
        ("EdDSA", b"", "there is no public key in PEM in it, and no JSON Web Key Set"),
        (
            "EdDSA",
            b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
            "a key in it cannot be read; copy it again",
        ),
        (
            "EdDSA",
            ed().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
            PRIVATE,
        ),
        ("EdDSA", json.dumps({"keys": [jwk(ed(), d="AAAA")]}).encode(), PRIVATE),
        ("EdDSA", b"{}", "that is no JSON Web Key Set (RFC 7517 section 5)"),
        ("EdDSA", b'{"keys": 7}', "that is no JSON Web Key Set (RFC 7517 section 5)"),
        ("EdDSA", b'{"keys": [7]}', "that is no JSON Web Key Set (RFC 7517 section 5)"),
        ("EdDSA", b"{", "that is no JSON Web Key Set (RFC 7517 section 5)"),
        ("EdDSA", b'{"keys": []}', "no key in it is one for EdDSA"),
        (
            "HS256",
            pem(ed()),
            "there is a key in PEM in it, and HS256 takes a secret; set the algorithm of the key",
        ),
        (
            "HS256",
            b"sesame\n",
            "a secret for HS256 has at least 32 bytes; make one: openssl rand -base64 64",
        ),
        ("RS256", pem(rsa_key(1024)), "a key in it is not one for RS256"),
        ("EdDSA", pem(ed()) * (MAX_KEYS + 1), "there are 33 keys in it; keep the 32 that sign"),
    ],
)
def test_a_file_that_holds_no_keys_is_refused_in_one_sentence(
    tmp_path, algorithm, content, trouble
):
    (tmp_path / "keys").write_bytes(content)

    with pytest.raises(ConfigurationError) as refused:
        Jwt(tmp_path / "keys", "door", algorithm=algorithm)

    assert str(refused.value) == f"{tmp_path}/keys: {trouble}"


def test_a_public_key_is_never_a_secret(tmp_path):
    # RFC 8725 section 2.1: what everybody knows, taken for what nobody knows.
    file = tmp_path / "keys"
    file.write_text(json.dumps({"keys": [jwk(rsa_key(), "RS256")]}))
    body = b64(b'{"alg":"HS256"}') + b"." + b64(json.dumps(CLAIMS).encode())
    forged = body + b"." + b64(hmac.digest(pem(rsa_key()), body, hashlib.sha256))

    assert serve(file, forged, "RS256") == Reject(
        b"NO\n", reason="signed with another algorithm than RS256"
    )
    with pytest.raises(ConfigurationError):
        Jwt(file, "door", algorithm="HS256")


# The client's side


def connect(answer, token=GOOD):
    return converse(Jwt(token=token.encode()).connect, answer)


def test_the_client_says_its_token_first():
    assert Exchange(Jwt(token=GOOD.encode()).connect).data_to_send() == f"{GOOD}\n".encode()


OTHER = (
    "the server does not take our token; was it made for this server, by somebody it knows, "
    "and do the clocks agree?"
)


@pytest.mark.parametrize(
    ("answer", "token", "outcome"),
    [
        (b"OK\n", GOOD, Accept()),
        (b"NO\n", GOOD, Reject(reason=OTHER)),
        (b"NO\n", "a.b.c", Reject(reason=OTHER)),
        (b"NO\n", "e30.e30.c", Reject(reason=OTHER)),
        (b"NO\n", f"e30.{b64(b'[' * 2000).decode()}.c", Reject(reason=OTHER)),
        (
            b"NO\n",
            VECTORS["conversations"][2]["token"],
            Reject(reason="our token has expired; get a new one"),
        ),
        (
            b"NO\n",
            "a.b." + "c" * 4092,
            Reject(
                reason="our token has 4096 bytes, and a server reads 4096 unless its "
                "--max-handshake-bytes says more"
            ),
        ),
        (b"SSH-2.0-x\n", GOOD, Reject(reason="that is not a jwt server")),
        (b"", "a.b.c", Reject(reason="the server left without an answer to 5 bytes")),
    ],
)
def test_the_client_hears_what_it_can_do(answer, token, outcome):
    assert play(Jwt(token=token.encode()).connect, [answer]).outcome == outcome


def test_both_sides_agree(keys):
    assert rehearse(Jwt(keys, "door", token=GOOD.encode())) == Rehearsal(
        Accept(b"OK\n", identity="ann"),
        Accept(),
        server_sent=b"OK\n",
        client_sent=f"{GOOD}\n".encode(),
    )


def test_a_token_in_a_file_may_be_renewed(tmp_path):
    file = tmp_path / "token"
    file.write_text(f"{GOOD}\n")
    handshake = Jwt(token_file=file)
    assert Exchange(handshake.connect).data_to_send() == f"{GOOD}\n".encode()

    file.write_text("a.b.c")

    assert Exchange(handshake.connect).data_to_send() == b"a.b.c\n"


def test_a_token_may_come_from_the_environment(monkeypatch):
    monkeypatch.setenv("SOCKPROTO_TEST_TOKEN", GOOD)

    handshake = Jwt(env="SOCKPROTO_TEST_TOKEN")

    assert Exchange(handshake.connect).data_to_send() == f"{GOOD}\n".encode()


# What it is made of


def test_a_side_that_cannot_be_is_not_there(keys):
    assert Jwt(keys, "door").connect is None
    assert Jwt(token=b"a.b.c").serve is None


NOT_ONE = (
    "that is no token of up to 16384 bytes: expected three parts in base64url with dots in between"
)


@pytest.mark.parametrize(
    ("given", "trouble"),
    [
        ({}, "jwt needs the file of the keys that sign to serve, or a token to connect"),
        (
            {"keys": Path("keys.pem")},
            "jwt needs audience=NAME: without it, a token for any other service is good",
        ),
        (
            {"token": b"a.b.c", "algorithm": "none"},
            "jwt knows no algorithm 'none'; write one of EdDSA, ES256, ES384, ES512, RS256, RS384, "
            "RS512, PS256, PS384, PS512, HS256, HS384, HS512",
        ),
        ({"token": b"a.b.c", "leeway": -1.0}, "jwt needs a leeway of 0 s or more, got -1"),
        ({"token": b"sesame"}, f"jwt: {NOT_ONE}"),
        (
            {"token": b"a.b.c", "token_file": Path("token")},
            "jwt needs one of token=TEXT, token_file=PATH or env=NAME",
        ),
        ({"token_file": Path("/nowhere")}, "/nowhere cannot be read: no such file or directory"),
    ],
)
def test_a_mistake_is_one_sentence(given, trouble):
    with pytest.raises(ConfigurationError) as refused:
        Jwt(**given)

    assert str(refused.value) == trouble


@pytest.mark.parametrize("missing", ["jwt", "cryptography"])
def test_a_missing_extra_is_named(monkeypatch, keys, missing):
    monkeypatch.setitem(sys.modules, missing, None)

    with pytest.raises(ConfigurationError) as refused:
        Jwt(keys, "door")

    assert "pip install 'sockproto[jwt]'" in str(refused.value)


def test_a_client_needs_no_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "jwt", None)

    assert connect(b"NO\n") == Reject(reason=OTHER)


def test_it_is_found_by_its_name(keys):
    handshake = handshake_from_string(f"jwt:{keys}:audience=door:leeway=2")

    assert play(handshake.serve, [f"{GOOD}\n".encode()]).outcome.identity == "ann"


def test_nothing_shows_a_token(keys):
    handshake = Jwt(keys, "door", token=GOOD.encode())
    exchange = Exchange(handshake.connect)
    secret = GOOD.split(".")[2]

    assert secret not in f"{handshake!r} {exchange!r} {exchange.waiting_on}"
    for each in VECTORS["conversations"]:
        assert each["token"].split(".")[0][:9] not in f"{serve(keys, each['token'])!r}"
