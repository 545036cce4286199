"""Every built-in handshake passes every check, but for the one weakness that is the lesson's."""

from __future__ import annotations

import time
from base64 import b64encode
from hashlib import sha256
from importlib import import_module

import pytest
from transport.kit import certificate

from sockproto import PeerFacts, TlsFacts
from sockproto.plugins import _HANDSHAKES
from sockproto.testing import assert_conforms

SECRET = b"canary-4711-sesame"


def built_in(name):
    """The class, whether or not the table has it."""
    module, _, attribute = _HANDSHAKES.builtins[name].partition(":")
    return getattr(import_module(module), attribute)


def a_file(folder, content, name="file"):
    path = folder / name
    path.write_bytes(content)
    return path


def of_token(folder):
    Token = built_in("token")
    digests = a_file(folder, b"ann sha256:" + sha256(SECRET).hexdigest().encode() + b"\n")
    return Token(file=digests), {"client": Token(SECRET)}


def of_challenge(folder):
    Challenge = built_in("challenge")
    key = b"k1 " + b64encode(SECRET.ljust(32, b"."))
    facts = TlsFacts(end_point=b"e" * 32)
    return Challenge(key), {"tls": facts, "secrets": [SECRET.ljust(32, b"."), key]}


def of_scram(folder):
    pytest.importorskip("scramp")
    from scramp import ScramMechanism

    Scram = built_in("scram")
    salt, stored, server, iterations = ScramMechanism().make_auth_info(
        SECRET.decode(), iteration_count=4096
    )
    line = "ann SCRAM-SHA-256${}:{}${}:{}\n".format(
        iterations, *(b64encode(each).decode() for each in (salt, stored, server))
    )
    users = a_file(folder, line.encode())
    users.chmod(0o600)
    return Scram(users), {"client": Scram(user="ann", password=SECRET)}


def of_cred(folder):
    Cred = built_in("cred")
    return Cred(f"memory:ann:{SECRET.decode()}"), {
        "client": Cred(user="ann", password=SECRET),
        "tls": TlsFacts(),
    }


def of_certificate(folder):
    from cryptography.hazmat.primitives.serialization import Encoding

    Certificate = built_in("certificate")
    shown = certificate("ann.example")[0].public_bytes(Encoding.DER)
    facts = PeerFacts(tls=TlsFacts(names=("ann.example",), certificate=shown))
    return Certificate("ann.example"), {
        "client": Certificate(),
        "server_facts": facts,
        "client_facts": PeerFacts(tls=TlsFacts()),
    }


def of_jwt(folder):
    jwt = pytest.importorskip("jwt")
    Jwt = built_in("jwt")
    secret = SECRET.ljust(32, b".")
    keys = a_file(folder, secret)
    keys.chmod(0o600)
    claims = {"aud": "door", "sub": "ann", "exp": int(time.time()) + 3600}
    token = jwt.encode(claims, secret, algorithm="HS256").encode()
    return Jwt(keys, "door", algorithm="HS256"), {
        "client": Jwt(token=token),
        "secrets": [secret, token],
    }


def of_chain(folder):
    Passphrase, Negotiate = built_in("passphrase"), built_in("negotiate")
    chain = built_in("chain")(Passphrase(SECRET), Negotiate())
    return chain, {"sessions": ("chat/1", "echo")}


ARRANGED = {
    "welcome": lambda folder: (built_in("welcome")(), {"weak": ["reads-whole-messages"]}),
    "passphrase": lambda folder: (built_in("passphrase")(SECRET), {}),
    "token": of_token,
    "challenge": of_challenge,
    "scram": of_scram,
    "cred": of_cred,
    "certificate": of_certificate,
    "jwt": of_jwt,
    "negotiate": lambda folder: (built_in("negotiate")(), {"sessions": ("chat/1", "echo")}),
    "none": lambda folder: (built_in("none")(), {}),
    "chain": of_chain,
}
"""What each is given, so that its two sides know each other."""

EXPENSIVE = ("scram",)
"""Those whose every conversation takes milliseconds."""


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] if name in EXPENSIVE else [])
        for name in _HANDSHAKES.builtins
    ],
)
def test_a_built_in_handshake_conforms(name, tmp_path):
    handshake, arguments = ARRANGED[name](tmp_path)

    report = assert_conforms(
        handshake, **{"secrets": [SECRET], "cases": 12, "spec": name, **arguments}
    )

    assert report.sides == ("server", "client")
    assert report.results[8].check == "good-conversation"
    assert str(report.results[8].verdict) == "OK"
