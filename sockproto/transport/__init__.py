"""The Twisted shell around the silent core: owns sockets and time."""
