import socket


def dial() -> socket.socket:
    return socket.create_connection(("127.0.0.1", 8001))


silent = dial()
with dial() as client:
    # Two messages, while the server is busy with somebody else.
    client.sendall(b"1")
    client.sendall(b"1")
    silent.close()
    print(client.recv(1024))
