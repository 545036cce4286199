"""
Who the client is stands in its certificate, and TLS has proved it already.

Wire format: the client says nothing. The server answers what TLS has established: ``OK`` and a line
feed, and the session begins with the next byte; or ``NO`` and a line feed, and closes. The answer
is there because a client of TLS 1.3 is done before the server has looked at its certificate (RFC
8446 section 4.4.2.4): without it, the client would take itself for welcome.

The name is one of the certificate's subject alternative names (RFC 5280 section 4.2.1.6); its
common name is not looked at (RFC 9525 section 6.3). A certificate that nobody vouches for does not
get here: TLS refuses it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from sockproto.core.errors import ConfigurationError, PeerDisconnected
from sockproto.core.outcomes import Accept, Reject
from sockproto.core.peer import Peer
from sockproto.handshakes._watched import WatchedFile

GRANTED = b"OK\n"
DENIED = b"NO\n"

KINDS = ("DNS", "email", "URI")
"""What the names of a certificate can be, as ``openssl x509`` writes it."""

MAX_SHOWN = 128
"""The most characters of a name that no list has, for the log."""


class Certificate:
    """
    Accept whoever has a verified certificate with a name that is allowed.

    A name is ``a.example``, or ``*.b.example`` for any one label in the place of the star, or
    ``email:ann@b.example``, or ``URI:spiffe://b.example/ann``; ``*`` alone allows every name.

    A server needs one of the two arguments; a client has nothing to say, and takes none.

    Args:
        allow: The names, separated by commas.
        file: A file of names, one a line; ``#`` begins a comment. Read again when it changes.

    Raises:
        ConfigurationError: If both are given, or there is no name in them, or what is none.
    """

    def __init__(self, allow: str | None = None, file: Path | None = None) -> None:
        self._allowed: Allowed | None = None
        self._file: WatchedFile[Allowed] | None = None
        if allow is not None and file is not None:
            raise ConfigurationError("certificate takes allow=NAME,... or file=PATH, not both")
        if allow is not None:
            try:
                self._allowed = Allowed(each.strip() for each in allow.split(","))
            except ValueError as error:
                raise ConfigurationError(f"certificate: allow={allow}: {error}") from None
        elif file is not None:
            self._file = WatchedFile(file, parse_names)
        else:
            # Whoever starts a server without names is told then, and not by its first client.
            self.serve = None  # type: ignore[method-assign, assignment]

    async def serve(self, peer: Peer) -> Accept | Reject:
        """Say whether the client's certificate has a name that we allow."""
        trouble = self._file and self._file.trouble
        reason = "no TLS, so no certificate: listen on tls:...:clientCA=FILE"
        if peer.tls is not None:
            reason = "no certificate was asked for or shown: listen on tls:...:clientCA=FILE"
            if peer.tls.certificate is not None:
                allowed = self._file.current() if self._file else self._allowed
                assert allowed is not None
                names = list(_names(peer.tls.names, peer.tls.certificate, allowed.kinds))
                identity = next((each for each in names if each in allowed), None)
                if identity is not None:
                    return Accept(GRANTED, identity=identity.removeprefix("DNS:"))
                shown = ", ".join(each.removeprefix("DNS:") for each in names)[:MAX_SHOWN]
                reason = f"not allowed: {shown}" if names else "a certificate without a name"
                trouble = self._file and self._file.trouble
        return Reject(DENIED, reason=f"{reason} ({trouble})" if trouble else reason)

    async def connect(self, peer: Peer) -> Accept | Reject:
        """Hear what the server says about our certificate."""
        if peer.tls is None:
            return Reject(reason="no TLS, so no certificate: connect to tls:HOST:PORT:...")
        try:
            if await peer.expect(GRANTED):
                return Accept()
            if await peer.expect(DENIED):
                return Reject(reason="the server does not allow our certificate, or saw none")
        except PeerDisconnected:
            return Reject(
                reason="the server left without an answer, as one does that wants a certificate "
                "from another issuer: is ours given, and not expired?"
            )
        return Reject(reason="that is not a certificate server")


class Allowed:
    """
    The names that are allowed.

    Args:
        names: As :class:`Certificate` describes them.

    Attributes:
        kinds: Which kinds of names there are among them.

    Raises:
        ValueError: If there is none, or something is none.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._exact: set[str] = set()
        self._parents: set[str] = set()
        self._all = False
        for name in names:
            self._add(name)
        found = self._exact | self._parents
        if not found and not self._all:
            raise ValueError("there is no name in it; write one like a.example, or * for all")
        self.kinds = KINDS if self._all else {each.partition(":")[0] for each in found} | {"DNS"}

    def __contains__(self, name: str) -> bool:
        """Whether a name is allowed; it begins with its kind and a colon."""
        kind, _, rest = name.partition(":")
        if "*" in rest:
            # A certificate for *.b.example was not made for a client.
            return False
        if self._all or name in self._exact:
            return True
        label, _, parent = rest.partition(".")
        return kind == "DNS" and bool(label) and f"DNS:{parent}" in self._parents

    def _add(self, name: str) -> None:
        if name == "*":
            self._all = True
            return
        kind, mark, rest = name.partition(":")
        if not mark:
            kind, rest = "DNS", name
        if kind not in KINDS:
            raise ValueError(f"{kind}: is no kind of name; there are {', '.join(KINDS)}")
        if not rest or any(each.isspace() or not each.isprintable() for each in rest):
            raise ValueError(f"{name!r} is no name; write one like a.example")
        parent = rest.removeprefix("*.")
        if "*" in parent or (kind != "DNS" and parent != rest):
            raise ValueError(f"{name!r} has a star; it stands for the first label of a DNS name")
        if kind == "DNS" and not all(map(_is_label, parent.split("."))):
            raise ValueError(
                f"{name!r} is no DNS name; write other alphabets as certificates do, xn--..."
            )
        (self._exact if parent == rest else self._parents).add(_folded(kind, parent))


def parse_names(data: bytes) -> Allowed:
    """
    Read a file of names.

    Raises:
        ValueError: As :class:`Allowed` does.
    """
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        raise ValueError("that is no text in UTF-8; name a file of names") from None
    lines = (line.partition("#")[0].strip() for line in text.splitlines())
    return Allowed(line for line in lines if line)


def _is_label(text: str) -> bool:
    return text.isascii() and text.replace("-", "").replace("_", "").isalnum()


def _folded(kind: str, name: str) -> str:
    """A name to be compared: case does not matter in DNS (RFC 4343), nor in the host of an e-mail
    address (RFC 5280 section 7.5); in a URI it may."""
    if kind == "DNS":
        name = name.lower()
    elif kind == "email":
        local, mark, host = name.rpartition("@")
        name = f"{local}{mark}{host.lower()}"
    return f"{kind}:{name}"


def _names(dns: Iterable[str], certificate: bytes, kinds: Iterable[str]) -> Iterator[str]:
    """The names of a certificate, of the kinds that are asked for."""
    for name in dns:
        yield _folded("DNS", name)
    if not {"email", "URI"}.isdisjoint(kinds):
        # It is there where TLS is.
        from cryptography import x509

        try:
            extensions = x509.load_der_x509_certificate(certificate).extensions
            found = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        except (
            x509.ExtensionNotFound,
            # What an issuer has signed and OpenSSL has verified need not make sense.
            x509.InvalidVersion,
            x509.DuplicateExtension,
            x509.UnsupportedGeneralNameType,
            ValueError,
            # A directoryName with a bit string in it, for one.
            TypeError,
        ):
            return
        for name in found.get_values_for_type(x509.RFC822Name):
            yield _folded("email", name)
        for name in found.get_values_for_type(x509.UniformResourceIdentifier):
            yield _folded("URI", name)
