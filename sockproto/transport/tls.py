"""
What TLS is spoken with, on either side, from files that may change meanwhile.

A server outlives its certificate. So the files are looked at again, at most once a second and only
when somebody connects, and what is made from them is made anew when one has changed: also when a
symbolic link leads to another file, which is how certbot renews. Files that do not fit together are
no reason to stop: what is in use stays in use, the log says so once, and says it again only when
the files have changed and still do not fit. A connection keeps what it began with.

No session is ever resumed. A resumed session is one whose certificate is not verified again, so a
client would stay welcome after its issuer has been taken out of the file; and the keys that tickets
are encrypted with would be as old as the server, which undoes the forward secrecy of TLS 1.2
(RFC 5077 section 5.5). A handshake is what we are here for; one signature more is its price.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeAlias, TypeVar, cast, get_args

from twisted.internet.interfaces import (
    IOpenSSLClientConnectionCreator,
    IOpenSSLServerConnectionCreator,
    IReactorTime,
)
from twisted.logger import Logger
from zope.interface import implementer

from sockproto.core.errors import ConfigurationError
from sockproto.transport.reasons import is_openssls

if TYPE_CHECKING:
    from cryptography.x509 import Certificate
    from OpenSSL import SSL

Verify = Literal["none", "optional", "required"]
"""Whether a client has to show a certificate. One that it shows has to be good in any case."""

LOOK_EVERY = 1.0
"""Seconds that must have passed before the files are looked at again."""

CIPHERS = b"ECDHE+AESGCM:ECDHE+CHACHA20"
"""For TLS 1.2, what TLS 1.3 has by itself: forward secrecy and authenticated encryption."""

_ALERT = re.compile(r"alert (.+)")
_BEGINNING = re.compile(rb"-----BEGIN (?:X509 )?CERTIFICATE-----")
_ADVICE = {
    errno.ENOENT: "name a file that exists",
    errno.EACCES: "the user who runs this must be able to read it",
}

_Signature: TypeAlias = tuple[int, ...] | None
_Made = TypeVar("_Made")

_log = Logger()


def said_by_tls(error: BaseException | None) -> str | None:
    """What OpenSSL gives as the reason, like ``wrong version number``; None if it is not its."""
    return _reason(error) if error is not None and is_openssls(error) else None


def alert_of(said: str) -> str | None:
    """The alert, like ``unknown ca``, by which the peer has ended TLS (RFC 8446 section 6)."""
    found = _ALERT.search(said)
    return None if found is None else found[1]


@implementer(IOpenSSLServerConnectionCreator)
class ServerTls:
    """
    A server's side: TLS 1.2 at least, with a certificate that may be renewed.

    Clients that offer application protocols (RFC 7301) get the first of ours that they offer, too.
    With none in common the TLS handshake fails, as its section 3.2 demands; a client that offers
    nothing is let in, and its handshake sees no protocol.

    Args:
        cert: The certificate, in a PEM file, followed by those of its issuers.
        key: The file of its private key; without one, the key is in ``cert``, too.
        client_ca: The file of the issuers whose clients are known. They are told their names.
        verify: Whether a client needs a certificate. A client whose certificate was not issued by
            one of ``client_ca`` is refused, also if it need not have any. Without a word it needs
            one if there is a ``client_ca``.
        alpn: The application protocols that we speak, the best one first.
        clock: Whose time says when to look at the files again; by default the reactor's.

    Raises:
        ConfigurationError: If a file cannot be used, or the arguments contradict each other.
    """

    def __init__(
        self,
        cert: Path,
        key: Path | None = None,
        *,
        client_ca: Path | None = None,
        verify: Verify | None = None,
        alpn: Sequence[str] = (),
        clock: IReactorTime | None = None,
    ) -> None:
        _insist_on_openssl()
        if verify is None:
            verify = "none" if client_ca is None else "required"
        elif verify not in get_args(Verify):
            raise ConfigurationError(
                f"verify={verify} is unknown; write one of {', '.join(get_args(Verify))}"
            )
        if verify != "none" and client_ca is None:
            raise ConfigurationError(
                f"verify={verify} does not say whose certificates are good; "
                "name a file of issuers with clientCA="
            )
        pair = _Pair.of(cert, key)
        issuers = None
        if client_ca is not None and verify != "none":
            issuers = _File("clientCA", client_ca.absolute())
        protocols = _protocols(alpn)
        self._context = _Renewed(
            _known(pair.cert, pair.key, issuers),
            lambda: _server_context(pair, issuers, verify == "required", protocols),
            clock,
        )

    def serverConnectionForTLS(self, protocol: object) -> SSL.Connection:
        """A connection that has yet to be established, with the files as they are now."""
        from OpenSSL import SSL

        return SSL.Connection(self._context.now())


@implementer(IOpenSSLClientConnectionCreator)
class ClientTls:
    """
    A client's side: TLS 1.2 at least, to a server that proves its name.

    Args:
        hostname: The name or numeric address that the server's certificate has to be for.
        ca: The file of the issuers that we trust; by default those that the system trusts.
        cert: Our own certificate, if the server asks for one, followed by those of its issuers.
        key: The file of its private key; without one, the key is in ``cert``, too.
        alpn: The application protocols that we offer, the best one first.
        clock: Whose time says when to look at the files again; by default the reactor's.

    Raises:
        ConfigurationError: If a file cannot be used, or ``hostname`` is none.
    """

    def __init__(
        self,
        hostname: str,
        *,
        ca: Path | None = None,
        cert: Path | None = None,
        key: Path | None = None,
        alpn: Sequence[str] = (),
        clock: IReactorTime | None = None,
    ) -> None:
        _insist_on_openssl()
        if cert is None and key is not None:
            raise ConfigurationError(
                f"key={key} has no certificate to go with it; name its file with cert="
            )
        pair = None if cert is None else _Pair.of(cert, key)
        issuers = None if ca is None else _File("ca", ca.absolute())
        protocols = _protocols(alpn)
        files = _known(issuers) if pair is None else _known(pair.cert, pair.key, issuers)
        self._creator = _Renewed(
            files, lambda: _client_creator(hostname, pair, issuers, protocols), clock
        )

    def clientConnectionForTLS(self, protocol: object) -> SSL.Connection:
        """A connection that has yet to be established, with the files as they are now."""
        connection: SSL.Connection = self._creator.now().clientConnectionForTLS(protocol)
        return connection


class _Renewed(Generic[_Made]):
    """
    Something that is made from files, and made anew when they have changed.

    Args:
        files: What it is made from.
        make: Makes it; raises a ConfigurationError if the files are no good.
        clock: Whose time counts.
    """

    def __init__(
        self, files: Sequence[_File], make: Callable[[], _Made], clock: IReactorTime | None
    ) -> None:
        self._files = files
        self._make = make
        self._clock = clock or _default_clock()
        self._looked = self._clock.seconds()
        # Before anything is read: a file that changes in between is then read
        # once too often, instead of never.
        self._seen = self._signatures()
        self._made = make()

    def now(self) -> _Made:
        """What the files make, as of a second ago or later."""
        now = self._clock.seconds()
        # A clock that was set back has not stood still.
        if not 0 <= now - self._looked < LOOK_EVERY:
            self._looked = now
            self._look()
        return self._made

    def _look(self) -> None:
        found = self._signatures()
        if found == self._seen:
            return
        self._seen = found
        names = " and ".join(map(str, self._files))
        try:
            self._made = self._make()
        except Exception as error:
            _log.error("TLS stays with the files as they were: {error}", error=error)
        else:
            _log.info("TLS has taken up what has changed in {names}", names=names)

    def _signatures(self) -> list[_Signature]:
        return [file.signature() for file in self._files]


@dataclass(frozen=True, slots=True)
class _File:
    """A file, and the word by which the operator gave it."""

    word: str
    path: Path

    def __str__(self) -> str:
        return f"{self.word}={self.path}"

    def signature(self) -> _Signature:
        """What differs when the file does; None if there is none."""
        try:
            found = os.stat(self.path)
        except OSError:
            return None
        # The last one for chmod(1), after which the same file may be readable.
        return (
            found.st_dev,
            found.st_ino,
            found.st_size,
            found.st_mtime_ns,
            found.st_ctime_ns,
        )

    def read(self) -> bytes:
        try:
            # Opening a pipe would wait for somebody who writes to it.
            if not stat.S_ISREG(os.stat(self.path).st_mode):
                raise ConfigurationError(f"{self} is no regular file; name a PEM file")
            return self.path.read_bytes()
        except OSError as error:
            advice = _ADVICE.get(error.errno or 0, "name a PEM file")
            said = (error.strerror or str(error)).lower()
            raise ConfigurationError(f"{self} cannot be read: {said}; {advice}") from error

    def certificates(self) -> list[Certificate]:
        """All the certificates in it, in order."""
        from cryptography import x509

        data = self.read()
        begun = len(_BEGINNING.findall(data))
        if not begun:
            raise ConfigurationError(
                f"{self} holds no certificate; name a PEM file, in which it follows "
                "a line -----BEGIN CERTIFICATE-----"
            )
        try:
            found = x509.load_pem_x509_certificates(data)
        except ValueError as error:
            raise self._damaged() from error
        # A last one that is cut off is passed over without a word.
        if len(found) != begun:
            raise self._damaged()
        return found

    def private_key(self) -> Any:
        """The private key in it, wherever it stands."""
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        data = self.read()
        if b"PRIVATE KEY-----" not in data:
            where = "add it, or name its file with key=" if self.word == "cert" else "name its file"
            raise ConfigurationError(f"{self} holds no private key in PEM; {where}")
        try:
            return load_pem_private_key(data, None)
        except TypeError as error:
            raise ConfigurationError(
                f"the private key in {self} is encrypted, and nobody is there to type its "
                "passphrase; write it without one: openssl pkey -in OLD -out NEW"
            ) from error
        except (ValueError, UnsupportedAlgorithm) as error:
            raise ConfigurationError(
                f"the private key in {self} cannot be read; copy it again from where it was made"
            ) from error

    def _damaged(self) -> ConfigurationError:
        return ConfigurationError(
            f"a certificate in {self} cannot be read; copy it again from where it was made"
        )


@dataclass(frozen=True, slots=True)
class _Pair:
    """A certificate with its issuers', and the private key that belongs to it."""

    cert: _File
    key: _File

    @classmethod
    def of(cls, cert: Path, key: Path | None) -> _Pair:
        here = _File("cert", cert.absolute())
        return cls(here, here if key is None else _File("key", key.absolute()))

    def load(self) -> tuple[list[Certificate], Any]:
        """Both, and they fit."""
        from cryptography.exceptions import UnsupportedAlgorithm
        from OpenSSL import SSL, crypto

        chain, key = self.cert.certificates(), self.key.private_key()
        try:
            fit = chain[0].public_key() == key.public_key()
            if fit:
                # What OpenSSL makes of them is better known now than at the first connection.
                _show(SSL.Context(SSL.TLS_METHOD), chain, key)
        except (SSL.Error, crypto.Error, TypeError, ValueError, UnsupportedAlgorithm) as error:
            raise ConfigurationError(
                f"TLS cannot use {self.cert}: {_reason(error)}; have a new pair made, "
                "with an ECDSA key or 2048 bits of RSA"
            ) from error
        if not fit:
            raise ConfigurationError(
                f"the private key in {self.key} does not belong to the first certificate in "
                f"{self.cert}; give two that were made for each other, issuers last"
            )
        return chain, key


def _server_context(
    pair: _Pair, issuers: _File | None, required: bool, protocols: Sequence[bytes]
) -> SSL.Context:
    from OpenSSL import SSL, crypto

    chain, key = pair.load()
    context = SSL.Context(SSL.TLS_METHOD)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    context.set_cipher_list(CIPHERS)
    # Renegotiation lets a peer have us sign again and again (CVE-2011-1473).
    context.set_options(
        SSL.OP_NO_COMPRESSION
        | SSL.OP_NO_RENEGOTIATION
        | SSL.OP_CIPHER_SERVER_PREFERENCE
        | SSL.OP_NO_TICKET
    )
    # A connection that waits does without its 16 KiB buffers.
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    # Demanded of whoever verifies clients (SSL_CTX_set_session_id_context(3)). TLS 1.3 sends
    # tickets nevertheless; nothing is known here of what they name.
    context.set_session_id(b"sockproto")
    _show(context, chain, key)
    if issuers is not None:
        store = context.get_cert_store()
        assert store is not None
        for certificate in issuers.certificates():
            store.add_cert(crypto.X509.from_cryptography(certificate))
            context.add_client_ca(certificate)
        must = SSL.VERIFY_FAIL_IF_NO_PEER_CERT if required else 0
        context.set_verify(SSL.VERIFY_PEER | must)
    if protocols:
        context.set_alpn_select_callback(_choice_from(protocols))
    return context


def _client_creator(
    hostname: str, pair: _Pair | None, issuers: _File | None, protocols: Sequence[bytes]
) -> Any:
    from OpenSSL import crypto
    from twisted.internet import ssl

    more: dict[str, Any] = {"raiseMinimumTo": ssl.TLSVersion.TLSv1_2}
    if pair is not None:
        (own, *chain), key = pair.load()
        more.update(certificate=own, privateKey=key, extraCertChain=chain)
    trusted = None
    if issuers is not None:
        trusted = ssl.trustRootFromCertificates(
            [
                ssl.Certificate(crypto.X509.from_cryptography(certificate))
                for certificate in issuers.certificates()
            ]
        )
    try:
        return ssl.optionsForClientTLS(
            hostname,
            trustRoot=trusted,
            acceptableProtocols=protocols,
            extraCertificateOptions=more,
        )
    except UnicodeError as error:
        raise ConfigurationError(
            f"{hostname!r} cannot be the name of a server; write a host name or a numeric address"
        ) from error


def _show(context: SSL.Context, chain: Sequence[Certificate], key: Any) -> None:
    """Have a context show a certificate, and its issuers'."""
    own, *issuers = chain
    context.use_certificate(own)
    context.use_privatekey(key)
    for each in issuers:
        context.add_extra_chain_cert(each)


def _choice_from(protocols: Sequence[bytes]) -> Callable[[object, list[bytes]], bytes]:
    from OpenSSL import SSL

    def choose(connection: object, offered: list[bytes]) -> bytes:
        for each in protocols:
            if each in offered:
                return each
        # Only an exception makes pyOpenSSL send the alert of RFC 7301 section 3.2.
        raise SSL.Error([("SSL routines", "", "no application protocol")])

    return choose


def _protocols(alpn: Sequence[str]) -> list[bytes]:
    for name in alpn:
        # RFC 7301 section 3.1; those that are registered are ASCII.
        if not (name.isascii() and 0 < len(name) < 256):
            raise ConfigurationError(
                f"alpn={name} is no name of a protocol; write 1 to 255 ASCII characters, like h2"
            )
    return [name.encode("ascii") for name in alpn]


def _known(*files: _File | None) -> list[_File]:
    """Each file once, if there is one."""
    return list(dict.fromkeys(file for file in files if file is not None))


def _reason(error: BaseException) -> str:
    """The last word of OpenSSL, or of its wrapper."""
    match error.args:
        case ([*_, (_, _, str(reason))],):
            return reason
    return str(error).lower()


def _insist_on_openssl() -> None:
    try:
        import OpenSSL.SSL  # noqa: F401
        import service_identity  # noqa: F401
    except ImportError as error:
        raise ConfigurationError(
            f"TLS is not installed ({error}); install it with: pip install 'sockproto[tls]'"
        ) from error


def _default_clock() -> IReactorTime:
    from twisted.internet import reactor

    return cast("IReactorTime", reactor)
