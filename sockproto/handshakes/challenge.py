"""
Both sides prove that they have the same key, and neither shows it.

Wire format. The server begins, before it has heard a byte; the client answers with one segment; and
the server says what comes of it::

    server   22   "sockproto challenge 1" and a line feed
             16   the server's nonce, random

    client    1   how many bytes follow: 48 + n
             16   the client's nonce, random
              n   the id of its key, in UTF-8: 1 to 64 bytes
             32   the client's proof

    server    3   "OK" and a line feed
             32   the server's proof

The session begins right behind that. A client whose proof is wrong gets ``NO`` and a line feed, and
the server closes: so a refusal is never taken for a proof, though that may be any 32 bytes. Where
the server cannot be bound to its TLS, it says ``NO`` in the place of its greeting.

A proof is HMAC-SHA-256 (RFC 2104) under the key that has that id, of these bytes::

             22   "sockproto challenge 1" and a line feed
              1   whose proof it is: "C" of the client, "S" of the server
             16   the server's nonce
             16   the client's nonce
              1   n, the length of the id
              n   the id
              1   m, the length of the channel binding: 0 without TLS
              m   under TLS, tls-server-end-point (RFC 5929 section 4)

It is the order of CRAM (RFC 2195) and of APOP before it (RFC 1939 section 7), made mutual: the
authentication in three passes of ISO/IEC 9798-4, whose two nonces are both under either proof. Each
part of it prevents something. The server's nonce, that a recorded answer is ever right again. The
client's, that a false server plays back what the true one has said. The role, that a proof is sent
back to whoever made it, on this connection or on another (what the standard left out until Basin,
Cremers and Meier, "Provably Repairing the ISO/IEC 9798 Standard for Entity Authentication", 2012,
showed the attacks). The id, that a proof is taken for that of another name with the same key. The
label, that it means something in another protocol, or in another version of this. The channel, that
somebody who speaks TLS with either of us passes the proofs on. Each part has a fixed length or its
length before it, so that no two conversations are the same bytes.

The client proves itself first. So a stranger gets nothing from the server that a key has a part in,
and cannot try keys at home: it has to come back for each of them, past the admission. Who hears a
proof is a false server that clients come to, and whoever listens in where there is no TLS. Neither
can do more with it than try all the keys there are; that is why a key has 128 bits and more. To be
let in, a false server would have to ask what the true one asks, and pass on the answer; that is
what the channel prevents.

No client trusts a false server for it: a client accepts when it has heard the server's proof, and
not before. That is what this order costs. With the server's proof first, to whoever asks for one, a
client could go on a round trip earlier. In return the server is woken once and not twice, computes
one proof for a stranger and not two, and says whether it is content, so that a client can tell a
refusal from an impostor.

Without TLS the bytes that follow are bound to nothing: whoever can change them on their way can
wait for the handshake to be over. Then it keeps out strangers, and keeps the key secret, no more.

A proof for an id that nobody has is checked like any other, with a key that nobody has, and all who
are wrong hear the same ``NO``. So who asks learns nothing of it, neither from the bytes nor from
the time that they take.
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
from sockproto.handshakes._keys import LABEL, Keys, parse_keys
from sockproto.handshakes._watched import WatchedFile

GRANTED = b"OK\n"
DENIED = b"NO\n"

NONCE_BYTES = 16
PROOF_BYTES = 32
MAX_ANSWER = NONCE_BYTES + MAX_NAME + PROOF_BYTES

STRANGE = "that is not a challenge server"
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
        Have the client prove that it has a key of ours, and prove that we have it.

        Args:
            peer: The client.
            nonce: Ours, for a test that knows what comes; a new one unless given.
        """
        channel = self._channel(peer)
        if channel is None:
            return Reject(DENIED, reason=UNBOUND)
        ours = nonce or os.urandom(NONCE_BYTES)
        peer.send(LABEL + ours)
        return self._judge(ours, await peer.receive_frame(1, max_bytes=MAX_ANSWER), channel)

    async def connect(self, peer: Peer, *, nonce: bytes | None = None) -> Accept | Reject:
        """
        Prove that we have our key, and have the server prove that it does.

        Args:
            peer: The server.
            nonce: Ours, for a test that knows what comes; a new one unless given.
        """
        channel = self._channel(peer)
        if channel is None:
            return Reject(reason=UNBOUND)
        if not await peer.expect(LABEL):
            return Reject(reason=UNBOUND if await peer.expect(DENIED) else STRANGE)
        theirs = await peer.receive_exactly(NONCE_BYTES)
        key = self._keys().current
        ours = nonce or os.urandom(NONCE_BYTES)
        proved = _proved(theirs, ours, key.id, channel)
        answer = ours + key.id + key.client.digest(proved)
        peer.send(len(answer).to_bytes() + answer)
        if not await peer.expect(GRANTED):
            return Reject(reason=_refused(key.name) if await peer.expect(DENIED) else STRANGE)
        if compare_digest(await peer.receive_exactly(PROOF_BYTES), key.server.digest(proved)):
            return Accept()
        return Reject(reason=_unproved(key.name))

    def _judge(self, ours: bytes, answer: bytes, channel: bytes) -> Accept | Reject:
        # One that is too short for a nonce, an id and a proof is wrong like any other: it is not
        # looked at, and what is found in the place of its proof fits nothing.
        theirs, id = answer[:NONCE_BYTES], answer[NONCE_BYTES:-PROOF_BYTES]
        key = self._keys().find(id)
        proved = _proved(ours, theirs, id, channel)
        right = compare_digest(answer[-PROOF_BYTES:], key.client.digest(proved))
        if right and id == key.id:
            return Accept(GRANTED + key.server.digest(proved), identity=key.name)
        shown = id.decode("utf-8", "backslashreplace")
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
    return server + client + len(id).to_bytes() + id + len(channel).to_bytes() + channel


def _refused(id: str) -> str:
    return (
        f"the server does not know key {id}, or has another one under that id; "
        "if TLS ends in between, at a proxy of yours, set bind=off on both ends"
    )


def _unproved(id: str) -> str:
    return (
        f"the server said yes, and did not prove that it has key {id}: it is not the one that you "
        "mean; find out who answers at this address before you trust it"
    )
