"""Real sockets, processes, TLS, signals and clocks; on loopback only."""
