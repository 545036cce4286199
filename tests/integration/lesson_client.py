"""The tutorial's client, in Python 3; the port is an argument, and so is what it sends."""

if __name__ == "__main__":
    import socket
    import sys

    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    sock.connect(("localhost", int(sys.argv[1])))
    import time

    time.sleep(2)
    sock.send(sys.argv[2].encode() if len(sys.argv) > 2 else b"1")
    print(sock.recv(1024).decode())
    sock.close()
