"""
A password that never crosses the network: SCRAM-SHA-256 (RFC 5802, RFC 7677).

Wire format: four lines, each one of SCRAM's messages in UTF-8 and a line feed. The client says who
it is, the server what its password is salted with; the client proves that it knows the password,
and the server that it knows the user. The session begins after the server's proof. A server that
does not let a client in ends with the line ``e=other-error``, whatever the reason, and closes.

Over TLS, where both ends know its certificate, the proofs hold for this connection alone
(SCRAM-SHA-256-PLUS, ``tls-server-end-point``), so that nobody in the middle can pass them on. There
is no list of mechanisms from which somebody could strike the better one: a client that can bind the
channel does, and one that says that it could but was told not to (``y``, RFC 5802 section 6) is
refused by a server that can, too.

A name that nobody has gets the same messages as one with a wrong password, and its salt is the same
each time. The server hashes no password; the client does, for as long as the server asks it to.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from sockproto.core.arguments import Secret
from sockproto.core.errors import ConfigurationError
from sockproto.core.outcomes import Accept, Reject
from sockproto.core.peer import Peer
from sockproto.handshakes._password import password_from
from sockproto.handshakes._scram_users import MAX_ITERATIONS, Users, parse_users
from sockproto.handshakes._watched import WatchedFile

MAX_MESSAGE = 1024
"""The most that is read for one message, its line feed not counted."""

REFUSED = b"e=other-error\n"

BINDING = "tls-server-end-point"

_PLAIN, _PLUS = "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS"


class Scram:
    """
    Accept whoever knows the password of a user, without hearing it.

    A server needs ``file``; a client ``user`` and one of ``password``, ``password_file``, ``env``.

    Args:
        file: The server's file of users, as ``sockproto scram-user`` writes it; read again when it
            changes, and if that makes no sense, what it said before still holds.
        user: Who the client is.
        password: The client's password itself.
        password_file: A file that holds it; one line ending at its end is not part of it.
        env: An environment variable that holds it.
        plus: On: have nothing to do with a peer unless the channel is bound. Off: do not bind it,
            as behind a proxy that speaks TLS in our place. Else it is bound where that is possible.
        nonce: Makes our part of the nonce, for a test that knows what comes.

    Raises:
        ConfigurationError: If the extra is missing, or what is given does not make up a side.
    """

    def __init__(
        self,
        file: Path | None = None,
        *,
        user: str | None = None,
        password: Secret | None = None,
        password_file: Path | None = None,
        env: str | None = None,
        plus: bool | None = None,
        nonce: Callable[[], str] | None = None,
    ) -> None:
        self._scramp = library()
        self._users: WatchedFile[Users] | None = None
        self._plus = plus
        self._nonce = nonce
        self._user, self._password = user, ""
        if file is not None:
            self._users = WatchedFile(file, parse_users)
        if user is not None:
            word = password_from("scram", "password", password, password_file, env)
            self._password = self._usable(user, word)
        elif (password, password_file, env) != (None, None, None):
            raise ConfigurationError("scram has a password, and nobody to whom it belongs: user=")
        elif file is None:
            raise ConfigurationError(
                "scram needs file=PATH to serve, or user= and a password to connect"
            )
        # Whoever starts a server without a file is told then, and not by its first client.
        if file is None:
            self.serve = None  # type: ignore[method-assign, assignment]
        if user is None:
            self.connect = None  # type: ignore[method-assign, assignment]

    async def serve(self, peer: Peer) -> Accept | Reject:
        """Have the client prove that it knows a password, and prove to it that we know of it."""
        assert self._users is not None
        users = self._users.current()
        binding = self._binding(peer)
        if self._plus and binding is None:
            return self._refuse("plus=on needs TLS, with a certificate that has a hash")
        name = ""

        def look_up(claimed: str) -> tuple[bytes, bytes, bytes, int]:
            nonlocal name
            name = claimed
            found = users.look_up(claimed)
            return found.salt, found.stored_key, found.server_key, found.iterations

        server = self._scramp.ScramMechanism(_PLUS if self._plus else _PLAIN).make_server(
            look_up,
            channel_binding=None if self._plus is False else binding,
            s_nonce=self._nonce and self._nonce(),
        )
        try:
            server.set_client_first(await _receive(peer))
            peer.send(_line(server.get_server_first()))
            server.set_client_final(await _receive(peer))
            reply = _line(server.get_server_final())
        except (self._scramp.ScramException, UnicodeDecodeError) as error:
            return self._refuse(_why(error, name, name in users))
        return Accept(reply, identity=name)

    async def connect(self, peer: Peer) -> Accept | Reject:
        """Prove that we know the password, and have the server prove that it does, too."""
        binding = self._binding(peer)
        if self._plus and binding is None:
            return Reject(reason="plus=on needs TLS, to a server whose certificate has a hash")
        mechanism = _PLAIN if binding is None or self._plus is False else _PLUS
        client = self._client(self._password, mechanism, binding)
        peer.send(_line(client.get_client_first()))
        try:
            message = await _receive(peer)
            client.set_server_first(message)
            if int(client.iterations) > MAX_ITERATIONS:
                return Reject(
                    reason=f"the server asks for {client.iterations} iterations, and we do "
                    f"{MAX_ITERATIONS} at most; set the password again with fewer"
                )
            peer.send(_line(client.get_client_final()))
            message = await _receive(peer)
            client.set_server_final(message)
        except UnicodeDecodeError:
            return Reject(reason="that is not a scram server")
        except self._scramp.ScramException:
            return Reject(reason=_meaning(message, mechanism == _PLUS, self._plus is False))
        return Accept()

    def _binding(self, peer: Peer) -> tuple[str, bytes] | None:
        end_point = b"" if peer.tls is None else peer.tls.end_point
        return (BINDING, end_point) if end_point else None

    def _client(self, password: str, mechanism: str, binding: tuple[str, bytes] | None) -> Any:
        return self._scramp.ScramClient(
            [mechanism],
            self._user,
            password,
            channel_binding=binding,
            c_nonce=self._nonce and self._nonce(),
        )

    def _usable(self, user: str, password: bytes) -> str:
        """The password as text, if SASLprep (RFC 4013) leaves something of it and of the user."""
        trouble = "what SASLprep forbids (RFC 4013), as are control characters; choose another"
        try:
            text = password.decode("utf-8")
        except UnicodeDecodeError:
            raise ConfigurationError("scram needs a password in UTF-8") from None
        try:
            self._client("sesame", _PLAIN, None)
        except (self._scramp.ScramException, UnicodeEncodeError):
            raise ConfigurationError(f"scram has a user whose name is empty or {trouble}") from None
        try:
            self._client(text, _PLAIN, None)
        except self._scramp.ScramException:
            raise ConfigurationError(f"scram has a password that holds {trouble}") from None
        return text

    def _refuse(self, reason: str) -> Reject:
        assert self._users is not None
        trouble = self._users.trouble
        return Reject(REFUSED, reason=f"{reason} ({trouble})" if trouble else reason)


async def _receive(peer: Peer) -> str:
    return (await peer.receive_until(b"\n", max_bytes=MAX_MESSAGE)).decode("utf-8")


def _line(message: str) -> bytes:
    return f"{message}\n".encode()


def _why(error: Exception, name: str, known: bool) -> str:
    """Why a client is refused, for our own log. A name that nobody has may be a password."""
    # Made for a stranger, too: it takes its time, and the answer leaves after it.
    wrong = f"wrong password for {name}"
    match getattr(getattr(error, "server_error", None), "value", None):
        case "invalid-proof":
            return wrong if known else "unknown user"
        case "channel-bindings-dont-match":
            return "the client sees another certificate than ours: who is in between?"
        case "server-does-support-channel-binding":
            return "the client did not bind the channel, though we can: who told it not to?"
        case "channel-binding-not-supported":
            return "the client binds the channel to TLS, and we cannot; set plus=off there"
        case "unsupported-channel-binding-type":
            return f"the client binds the channel to something else than {BINDING}"
    return "that is not a scram client"


def _meaning(message: str, bound: bool, off: bool) -> str:
    """What a server means, for the person at the client."""
    if message.startswith("v="):
        return "the server does not know the password: its proof is wrong; is it the right one?"
    if not message.startswith("e="):
        return "that is not a scram server"
    if off:
        return "wrong user or password; or the server can bind the channel: leave plus=off out"
    if bound:
        return (
            "wrong user or password; or somebody speaks TLS in the server's place: "
            "if that is a proxy of its own, set plus=off"
        )
    return "wrong user or password; or the server insists on TLS, with plus=on"


def library() -> Any:
    """The library for the messages, if it is there."""
    try:
        import scramp  # type: ignore[import-untyped]
    except ImportError as error:
        raise ConfigurationError(
            f"scram is not installed ({error}); install it with: pip install 'sockproto[scram]'"
        ) from error
    return scramp
