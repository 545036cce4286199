import sqlite3
from hashlib import sha256
from pathlib import Path

from twisted.enterprise.adbapi import ConnectionPool

from sockproto import Accept, Peer, Reject, Secret


class Accounts:
    """Ask a database whose token it is; it keeps no token, only what one is known by."""

    def __init__(self, database: Path | None = None, token: Secret | None = None) -> None:
        self.token = token
        if database:
            self.pool = ConnectionPool("sqlite3", str(database), check_same_thread=False)

    async def serve(self, peer: Peer) -> Accept | Reject:
        token = await peer.receive_line(max_bytes=64)
        found = await self.pool.runQuery(
            "select name from accounts where digest = ?", (sha256(token).hexdigest(),)
        )
        if not found:
            return Reject(b"NO\n", reason="unknown token")
        return Accept(b"OK\n", identity=found[0][0])

    async def connect(self, peer: Peer) -> Accept | Reject:
        peer.send((self.token or b"") + b"\n")
        return Accept() if await peer.expect(b"OK\n") else Reject(reason="unknown token")


if __name__ == "__main__":
    with sqlite3.connect("accounts.db") as database:
        database.execute("create table accounts (name text, digest text primary key)")
        digest = sha256(b"open-sesame").hexdigest()
        database.execute("insert into accounts values ('ann', ?)", (digest,))
