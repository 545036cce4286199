"""
Both sides prove that they have the same key, and neither shows it.

Wire format. The client begins, the server answers with 70 bytes, and the client with 32; the
session begins right behind them::

    client    1   how many bytes follow: 16 + n
             16   the client's nonce, random
              n   the id of its key, in UTF-8: 1 to 64 bytes

    server   22   "sockproto challenge 1" and a line feed
             16   the server's nonce, random
             32   the server's proof

    client   32   the client's proof; or zeros, if the server's is wrong

The server accepts without another byte. A client whose proof is wrong gets ``NO`` and a line feed,
and the server closes.

A proof is HMAC-SHA-256 (RFC 2104) under the key that has that id, of these bytes::

             22   "sockproto challenge 1" and a line feed
              1   whose proof it is: "C" of the client, "S" of the server
             16   the server's nonce
             16   the client's nonce
              1   n, the length of the id
              n   the id
              1   m, the length of the channel binding: 0 without TLS
              m   under TLS, tls-server-end-point (RFC 5929 section 4)

It is the mutual authentication in three passes of ISO/IEC 9798-4, whose two nonces are both under
either proof. Each part of it prevents something. The server's nonce, that a recorded answer is ever
right again. The client's, that a false server plays back what the true one has said. The role, that
a proof is sent back to whoever made it, on this connection or on another (what the standard left
out until Basin, Cremers and Meier, "Provably Repairing the ISO/IEC 9798 Standard for Entity
Authentication", 2012, showed the attacks). The id, that a proof is taken for that of another name
with the same key. The label, that it means something in another protocol, or in another version of
this. The channel, that somebody who speaks TLS with either of us passes the proofs on. Each part
has a fixed length or its length before it, so that no two conversations are the same bytes.

The server proves itself first, to anybody who asks: so a client shows its proof to nobody but the
server, and knows that it will be accepted, because whoever has made the one proof can verify the
other. The server need not say so, and a handshake costs it one segment. The price is that anybody
may try keys at home on what the server has said; that is why a key has 128 bits and more.

Without TLS the bytes that follow are bound to nothing: whoever can change them on their way can
wait for the handshake to be over. Then it keeps out strangers, and keeps the key secret, no more.

An id that nobody has is answered like any other, with a key that nobody has. So who asks learns
nothing of it, neither from the bytes nor from the time that they take.
"""

from __future__ import annotations

import os
from functools import partial
from hmac import compare_digest
from pathlib import Path

from sockproto.core.arguments import Secret
from sockproto.core.errors import ConfigurationError
from sockproto.core.outcomes import Accept, Reject
from sockproto.core.peer import Peer
from sockproto.handshakes._entries import MAX_NAME
from sockproto.handshakes._keys import LABEL, Key, Keys, parse_keys
from sockproto.handshakes._watched import WatchedFile

DENIED = b"NO\n"

NONCE_BYTES = 16
PROOF_BYTES = 32
MAX_HELLO = NONCE_BYTES + MAX_NAME

NO_PROOF = bytes(PROOF_BYTES)

UNBOUND = (
    "TLS tells nothing that both ends could be bound to (RFC 5929); have the server's certificate "
    "signed with ECDSA or RSA, or set bind=off on both ends"
)


class Challenge:
    """
    Accept whoever proves that it has the key, and prove that we have it, too.

    Both sides take the same keys, from exactly one of ``keys``, ``file`` and ``env``: a line
    ``ID BASE64`` for each, the first of which is the client's. A server takes them all, and the id
    of the client's is its identity.

    Args:
        keys: The keys themselves.
        file: A file that holds them, as ``sockproto keygen`` writes it; read again when it changes,
            and if that makes no sense, what it said before still holds.
        env: An environment variable that holds them.
        id: Which of them a client uses, if not the first.
        bind: Off: do not bind the proofs to TLS, as where a proxy speaks TLS in our place. It has
            to be the same on both ends.

    Raises:
        ConfigurationError: Unless exactly one of the three is given, and holds usable keys.
    """

    def __init__(
        self,
        keys: Secret | None = None,
        *,
        file: Path | None = None,
        env: str | None = None,
        id: str | None = None,
        bind: bool = True,
    ) -> None:
        if sum(source is not None for source in (keys, file, env)) != 1:
            raise ConfigurationError("challenge needs one of its keys, file=PATH or env=NAME")
        self._bind = bind
        self._file: WatchedFile[Keys] | None = None
        if file is not None:
            self._file = WatchedFile(file, partial(parse_keys, wanted=id))
            return
        if env is not None:
            keys = os.environb.get(env.encode())
            if keys is None:
                raise ConfigurationError(f"challenge finds no variable {env} in the environment")
        assert keys is not None
        try:
            self._given = parse_keys(keys, wanted=id)
        except ValueError as error:
            where = "its keys" if env is None else f"the variable {env}"
            raise ConfigurationError(f"challenge cannot use {where}: {error}") from None

    async def serve(self, peer: Peer, *, nonce: bytes | None = None) -> Accept | Reject:
        """
        Prove to the client that we have the key that it names, and have it prove that it does.

        Args:
            peer: The client.
            nonce: Ours, for a test that knows what comes; a new one unless given.
        """
        channel = self._channel(peer)
        if channel is None:
            return Reject(DENIED, reason=UNBOUND)
        hello = await peer.receive_frame(1, max_bytes=MAX_HELLO)
        key, id, proved, greeting = self._greet(hello, nonce or os.urandom(NONCE_BYTES), channel)
        peer.send(greeting)
        return self._judge(key, id, proved, await peer.receive_exactly(PROOF_BYTES))

    async def connect(self, peer: Peer, *, nonce: bytes | None = None) -> Accept | Reject:
        """
        Have the server prove that it has our key, and then prove that we do.

        Args:
            peer: The server.
            nonce: Ours, for a test that knows what comes; a new one unless given.
        """
        channel = self._channel(peer)
        if channel is None:
            return Reject(reason=UNBOUND)
        key = self._keys().current
        ours = nonce or os.urandom(NONCE_BYTES)
        peer.send(bytes([NONCE_BYTES + len(key.id)]) + ours + key.id)
        if not await peer.expect(LABEL):
            return Reject(reason="that is not a challenge server")
        answer = await peer.receive_exactly(NONCE_BYTES + PROOF_BYTES)
        theirs, proof = answer[:NONCE_BYTES], answer[NONCE_BYTES:]
        proved = _proved(theirs, ours, key.id, channel)
        if compare_digest(proof, key.server.digest(proved)):
            return Accept(key.client.digest(proved))
        return Reject(
            NO_PROOF,
            reason=f"the server does not know key {key.id.decode('utf-8')}, or has another one "
            "under that id; if TLS ends in between, at a proxy of yours, set bind=off on both ends",
        )

    def _greet(self, hello: bytes, ours: bytes, channel: bytes) -> tuple[Key, bytes, bytes, bytes]:
        theirs, id = hello[:NONCE_BYTES], hello[NONCE_BYTES:]
        key = self._keys().find(id)
        proved = _proved(ours, theirs, id, channel)
        return key, id, proved, LABEL + ours + key.server.digest(proved)

    def _judge(self, key: Key, id: bytes, proved: bytes, proof: bytes) -> Accept | Reject:
        right = compare_digest(proof, key.client.digest(proved))
        shown = id.decode("utf-8", "backslashreplace")
        if right and id == key.id:
            return Accept(identity=shown)
        trouble = f" ({self._file.trouble})" if self._file and self._file.trouble else ""
        return Reject(DENIED, reason=f"{key.wrong} {shown}{trouble}")

    def _channel(self, peer: Peer) -> bytes | None:
        """What the proofs are bound to; None if there is TLS, and nothing to tell it by."""
        if peer.tls is None or not self._bind:
            return b""
        return peer.tls.end_point or None

    def _keys(self) -> Keys:
        return self._given if self._file is None else self._file.current()


def _proved(server: bytes, client: bytes, id: bytes, channel: bytes) -> bytes:
    """What is proved, behind the label and the role."""
    return b"".join((server, client, bytes([len(id)]), id, bytes([len(channel)]), channel))
