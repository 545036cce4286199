"""The tutorial's server, in Python 3; the port is an argument."""

if __name__ == "__main__":
    import socket
    import sys

    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    sock.bind(("localhost", int(sys.argv[1])))
    sock.listen(5)
    while True:
        connection, address = sock.accept()
        try:
            connection.settimeout(5)
            buf = connection.recv(1024)
            if buf == b"1":
                connection.send(b"welcome to server!")
            else:
                connection.send(b"please go out!")
        except socket.timeout:  # noqa: UP041 - as the tutorial has it
            print("time out", flush=True)
        connection.close()
