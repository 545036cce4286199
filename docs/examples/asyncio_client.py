import asyncio
import ssl
from pathlib import Path

from sockproto.aio import connect
from sockproto.handshakes.chain import Chain
from sockproto.handshakes.negotiate import Negotiate
from sockproto.handshakes.passphrase import Passphrase

handshake = Chain(Passphrase(file=Path("word")), Negotiate("echo"))


async def main() -> None:
    tls = ssl.create_default_context(cafile="door.pem")
    reader, writer = await connect(("localhost", 8001), handshake, tls=tls)
    writer.write(b"hello from asyncio\n")
    print((await reader.readline()).decode(), end="")
    writer.close()
    await writer.wait_closed()


asyncio.run(main())
