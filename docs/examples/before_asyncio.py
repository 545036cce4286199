import asyncio


async def door(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        word = await asyncio.wait_for(reader.readuntil(b"\n"), 5)
        if word == b"sesame\n":
            writer.write(b"OK\n")
            while data := await reader.read(4096):
                writer.write(data)
                await writer.drain()
        else:
            writer.write(b"NO\n")
            await writer.drain()
    except (TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, OSError):
        pass
    finally:
        writer.close()


async def main() -> None:
    server = await asyncio.start_server(door, "127.0.0.1", 8471)
    print("listens on 127.0.0.1:8471")
    await server.serve_forever()


asyncio.run(main())
