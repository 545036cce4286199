"""
A token that somebody else has signed: JSON Web Token (RFC 7519), in the form of RFC 7515.

Wire format: the client sends the token and a line feed. The server answers ``OK`` and a line feed,
and the session begins with the next byte; or it answers ``NO`` and a line feed, and closes. Whoever
reads the token on its way can use it until it expires: it belongs on loopback, a unix socket or
TLS.

What a token says of itself is not believed. The algorithm is the operator's and no other, so there
is no ``none`` and no public key that is taken for a secret (RFC 8725 sections 2.1 and 3.1); keys
come from the operator's file, never from the token. It has to say for whom it is and until when.
"""

from __future__ import annotations

import json
import re
import time
from base64 import urlsafe_b64decode
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sockproto.core.arguments import Secret
from sockproto.core.errors import ConfigurationError, LimitExceeded, PeerDisconnected
from sockproto.core.exchange import MAX_BYTES
from sockproto.core.outcomes import Accept, Reject
from sockproto.core.peer import Peer
from sockproto.handshakes._password import password_from
from sockproto.handshakes._watched import WatchedFile

MAX_TOKEN = 16384
"""The most that is read for a token, where ``max_handshake_bytes`` allows that much."""

MAX_KEYS = 32
"""The most keys of a file: a token that does not say which one is tried against them all."""

GRANTED = b"OK\n"
DENIED = b"NO\n"

_CURVES = {"ES256": "secp256r1", "ES384": "secp384r1", "ES512": "secp521r1"}
_RSA = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
# RFC 7518 section 3.2: a secret has to be as long as the hash.
_SECRETS = {"HS256": 32, "HS384": 48, "HS512": 64}

ALGORITHMS = ("EdDSA", *_CURVES, *_RSA, *_SECRETS)

_MIN_RSA_BITS = 2048
_PUBLIC = re.compile(rb"-----BEGIN PUBLIC KEY-----.+?-----END PUBLIC KEY-----", re.DOTALL)
_TOKEN = re.compile(rb"[\w-]+\.[\w-]+\.[\w-]*")


@dataclass(frozen=True, slots=True)
class _Key:
    """A key, and the name that a token may call it by."""

    key: Any = field(repr=False)
    kid: str | None = None


class Jwt:
    """
    Accept whoever has a token that is signed, meant for us, and not expired.

    A server needs ``keys`` and ``audience``; a client one of ``token``, ``token_file`` and ``env``.

    Args:
        keys: The file of the keys that sign: public ones in PEM, a JSON Web Key Set (RFC 7517), or
            for HS256 and its like the secret itself. Read again when it changes.
        audience: For whom a token has to be (``aud``).
        issuer: Who has to have made it (``iss``); anybody with a key unless given.
        algorithm: The only algorithm that counts.
        leeway: Seconds by which the clocks may differ.
        token: The client's token itself.
        token_file: A file that holds it; read again when it changes.
        env: An environment variable that holds it.

    Raises:
        ConfigurationError: If the extra is missing, or what is given does not make up a side.
    """

    def __init__(
        self,
        keys: Path | None = None,
        audience: str | None = None,
        *,
        issuer: str | None = None,
        algorithm: str = "EdDSA",
        leeway: float = 0.0,
        token: Secret | None = None,
        token_file: Path | None = None,
        env: str | None = None,
    ) -> None:
        self._audience, self._issuer, self._leeway = audience, issuer, leeway
        self._algorithm = algorithm
        self._keys: WatchedFile[Sequence[_Key]] | None = None
        self._token: Callable[[], bytes] | None = None
        if algorithm not in ALGORITHMS:
            raise ConfigurationError(
                f"jwt knows no algorithm {algorithm!r}; write one of {', '.join(ALGORITHMS)}"
            )
        if leeway < 0:
            raise ConfigurationError(f"jwt needs a leeway of 0 s or more, got {leeway:g}")
        if keys is not None:
            if not audience:
                raise ConfigurationError(
                    "jwt needs audience=NAME: without it, a token for any other service is good"
                )
            self._jwt = _library()
            self._keys = WatchedFile(keys, self._parse_keys)
        given = any(source is not None for source in (token, token_file, env))
        if given:
            self._token = _token_from(token, token_file, env)
        elif keys is None:
            raise ConfigurationError(
                "jwt needs the file of the keys that sign to serve, or a token to connect"
            )
        # Whoever starts a server without keys is told then, and not by its first client.
        if keys is None:
            self.serve = None  # type: ignore[method-assign, assignment]
        if not given:
            self.connect = None  # type: ignore[method-assign, assignment]

    async def serve(self, peer: Peer) -> Accept | Reject:
        """Receive a token, and say whether it is good; never what is wrong with it."""
        assert self._keys is not None
        try:
            token = await peer.receive_until(b"\n", max_bytes=MAX_TOKEN)
        except LimitExceeded as error:
            advice = "; if that was a token, raise --max-handshake-bytes"
            hint = advice if error.limit < MAX_TOKEN else ""
            return Reject(DENIED, reason=f"{error}{hint}")
        keys = self._keys.current()
        try:
            return Accept(GRANTED, identity=self._subject(token, keys))
        except _Bad as error:
            reason = str(error)
        if self._keys.trouble:
            reason = f"{reason} ({self._keys.trouble})"
        return Reject(DENIED, reason=reason)

    async def connect(self, peer: Peer) -> Accept | Reject:
        """Send our token and see whether the server takes it."""
        assert self._token is not None
        token = self._token()
        peer.send(token + b"\n")
        try:
            if await peer.expect(GRANTED):
                return Accept()
            if await peer.expect(DENIED):
                return Reject(reason=_advice(token))
        except PeerDisconnected:
            return Reject(reason=f"the server left without an answer to {len(token)} bytes")
        return Reject(reason="that is not a jwt server")

    def _subject(self, token: bytes, keys: Sequence[_Key]) -> str:
        """Whose the token is."""
        jwt = self._jwt
        if not _TOKEN.fullmatch(token):
            raise _Bad("that is no token: expected three parts in base64url with dots in between")
        try:
            header = _part(token, 0)
            if header.get("alg") != self._algorithm:
                raise _Bad(f"signed with another algorithm than {self._algorithm}")
            if "crit" in header:
                # RFC 7515 section 4.1.11: whoever does not understand it has to refuse.
                raise _Bad("it demands an extension, and we have none")
            kid = header.get("kid")
            fit = [key for key in keys if kid is None or key.kid in (None, kid)]
            if not fit:
                raise _Bad("signed with a key that is not in the file")
            claims = self._verified(token, fit)
            subject = claims["sub"]
        except jwt.ExpiredSignatureError:
            raise _Bad("expired") from None
        except jwt.ImmatureSignatureError:
            raise _Bad("not valid yet; compare the clocks") from None
        except jwt.InvalidAudienceError:
            raise _Bad(f"not meant for the audience {self._audience}") from None
        except jwt.InvalidIssuerError:
            raise _Bad(f"not from the issuer {self._issuer}") from None
        except jwt.MissingRequiredClaimError as error:
            raise _Bad(f"it lacks the claim {error.claim}") from None
        except _Bad:
            raise
        except Exception as error:
            # A stranger writes what is parsed here, and its words may be the token's.
            raise _Bad(f"that is no good token ({type(error).__name__})") from None
        if not isinstance(subject, str) or not subject.isprintable() or not subject:
            raise _Bad("it does not say whose it is")
        return subject

    def _verified(self, token: bytes, keys: Sequence[_Key]) -> dict[str, Any]:
        """The claims of a token that one of the keys has signed."""
        for each in keys:
            try:
                claims: dict[str, Any] = self._jwt.decode(
                    token,
                    each.key,
                    algorithms=[self._algorithm],
                    audience=self._audience,
                    issuer=self._issuer,
                    leeway=self._leeway,
                    options={"require": ["exp", "aud", "sub"]},
                )
            except self._jwt.InvalidSignatureError:
                continue
            return claims
        raise _Bad("not signed with a key of the file")

    def _parse_keys(self, data: bytes) -> Sequence[_Key]:
        if data.lstrip().startswith(b"{"):
            keys = self._of_set(data)
        elif self._algorithm in _SECRETS:
            keys = [_Key(self._secret(data))]
        else:
            keys = self._of_pem(data)
        if len(keys) > MAX_KEYS:
            raise ValueError(f"there are {len(keys)} keys in it; keep the {MAX_KEYS} that sign")
        return keys

    def _secret(self, data: bytes) -> bytes:
        if b"-----BEGIN" in data:
            raise ValueError(
                f"there is a key in PEM in it, and {self._algorithm} takes a secret; "
                "set the algorithm of the key"
            )
        secret = data.removesuffix(b"\n").removesuffix(b"\r")
        if len(secret) < _SECRETS[self._algorithm]:
            raise ValueError(
                f"a secret for {self._algorithm} has at least {_SECRETS[self._algorithm]} bytes; "
                "make one: openssl rand -base64 64"
            )
        return secret

    def _of_pem(self, data: bytes) -> list[_Key]:
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.serialization import load_pem_public_key

        if b"PRIVATE KEY-----" in data:
            raise _private()
        try:
            found = [load_pem_public_key(each) for each in _PUBLIC.findall(data)]
        except (ValueError, UnsupportedAlgorithm):
            raise ValueError("a key in it cannot be read; copy it again") from None
        if not found:
            raise ValueError("there is no public key in PEM in it, and no JSON Web Key Set")
        if not all(map(self._fits, found)):
            raise ValueError(f"a key in it is not one for {self._algorithm}")
        return [_Key(each) for each in found]

    def _of_set(self, data: bytes) -> list[_Key]:
        try:
            listed = json.loads(data)["keys"]
            usable = [each for each in listed if each.get("use", "sig") == "sig"]
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise ValueError("that is no JSON Web Key Set (RFC 7517 section 5)") from None
        if any("d" in each for each in usable):
            raise _private()
        keys = []
        for each in usable:
            if each.get("alg", self._algorithm) != self._algorithm:
                continue
            try:
                key = self._jwt.PyJWK(each, self._algorithm).key
            except (self._jwt.PyJWTError, ValueError, TypeError, KeyError):
                # RFC 7517 section 5: what is not understood is passed over.
                continue
            if self._fits(key):
                keys.append(_Key(key, each.get("kid")))
        if not keys:
            raise ValueError(f"no key in it is one for {self._algorithm}")
        return keys

    def _fits(self, key: Any) -> bool:
        """Whether a key is one for the algorithm, and long enough."""
        from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa

        if self._algorithm in _SECRETS:
            return isinstance(key, bytes) and len(key) >= _SECRETS[self._algorithm]
        if self._algorithm in _CURVES:
            curve = _CURVES[self._algorithm]
            return isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name == curve
        if self._algorithm in _RSA:
            return isinstance(key, rsa.RSAPublicKey) and key.key_size >= _MIN_RSA_BITS
        return isinstance(key, ed25519.Ed25519PublicKey | ed448.Ed448PublicKey)


class _Bad(Exception):
    """A token is no good; says why, for our own log."""


def _private() -> ValueError:
    return ValueError(
        "there is a private key in it, which a server must not have; "
        "name a file of public ones: openssl pkey -in KEY -pubout"
    )


def _token_from(token: bytes | None, file: Path | None, env: str | None) -> Callable[[], bytes]:
    """What gives the token, as it is now."""
    if file is not None and (token, env) == (None, None):
        return WatchedFile(file, _parse_token).current
    word = password_from("jwt", "token", token, file, env)
    try:
        word = _parse_token(word)
    except ValueError as error:
        raise ConfigurationError(f"jwt: {error}") from None
    return lambda: word


def _parse_token(data: bytes) -> bytes:
    token = data.strip()
    if not _TOKEN.fullmatch(token) or len(token) > MAX_TOKEN:
        raise ValueError(
            f"that is no token of up to {MAX_TOKEN} bytes: expected three parts in base64url "
            "with dots in between"
        )
    return token


def _part(token: bytes, which: int) -> Any:
    """What a part of a token says, whoever has written it; part 0 is the header."""
    text = token.split(b".")[which]
    return json.loads(urlsafe_b64decode(text + b"=" * (-len(text) % 4)))


def _advice(token: bytes) -> str:
    """What to do about a token that was not taken; only ours, so we may believe it."""
    try:
        if _part(token, 1)["exp"] <= time.time():
            return "our token has expired; get a new one"
    except (ValueError, KeyError, TypeError, RecursionError):
        pass
    if len(token) >= MAX_BYTES:
        return (
            f"our token has {len(token)} bytes, and a server reads {MAX_BYTES} unless its "
            "--max-handshake-bytes says more"
        )
    return (
        "the server does not take our token; was it made for this server, by somebody it knows, "
        "and do the clocks agree?"
    )


def _library() -> Any:
    try:
        # Ours has the same name, and another place.
        import cryptography  # noqa: F401
        import jwt
    except ImportError as error:
        raise ConfigurationError(
            f"jwt is not installed ({error}); install it with: pip install 'sockproto[jwt]'"
        ) from error
    return jwt
