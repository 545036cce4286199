"""The built-in handshakes, one a file. They use the same door as everybody else's."""
