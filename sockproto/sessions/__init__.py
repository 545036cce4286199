"""The built-in sessions: plain Twisted protocols, which know nothing of handshakes."""
