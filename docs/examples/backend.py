import asyncio


async def shout(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send every line back in capitals; who is on the other end is somebody else's affair."""
    async for line in reader:
        writer.write(line.upper())
    writer.close()


async def main() -> None:
    server = await asyncio.start_server(shout, "127.0.0.1", 8001)
    print("listens on 127.0.0.1:8001")
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
