import socket

with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
    client.settimeout(5)
    client.connect(("127.0.0.1", 8471))
    client.send(b"sesame\n")
    print(client.recv(100))
