from pathlib import Path

from sockproto.blocking import connect
from sockproto.handshakes.chain import Chain
from sockproto.handshakes.negotiate import Negotiate
from sockproto.handshakes.passphrase import Passphrase

handshake = Chain(Passphrase(file=Path("word")), Negotiate("echo"))

with connect(("127.0.0.1", 8471), handshake) as door:
    door.sendall(b"hello from a script\n")
    with door.makefile() as lines:
        print(lines.readline(), end="")
