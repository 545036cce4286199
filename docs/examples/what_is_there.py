import socket

from sockproto import Rejected
from sockproto.blocking import shake_hands
from sockproto.handshakes.negotiate import Negotiate
from sockproto.handshakes.passphrase import Passphrase

with socket.create_connection(("127.0.0.1", 8471)) as door:
    shake_hands(door, Passphrase(b"sesame"))
    try:
        accept = shake_hands(door, Negotiate("chat/2,chat/1"))
    except Rejected as error:
        print(error)
    else:
        print(f"we speak {accept.result}")
