import socket


def dial() -> socket.socket:
    return socket.create_connection(("127.0.0.1", 8001))


def answer(connection: socket.socket) -> str:
    connection.settimeout(1)
    try:
        return repr(connection.recv(1024))
    except TimeoutError:
        return "no answer within a second"


with dial(), dial() as honest:
    honest.sendall(b"1")
    print("beside a silent client:", answer(honest))

with dial() as talkative:
    try:
        talkative.sendall(b"x" * 10_000_000)
        print("to a client that talks on:", answer(talkative))
    except ConnectionError:
        print("to a client that talks on: the connection is reset")
