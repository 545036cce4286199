"""Who may start a handshake, and how many at once."""
