"""Prove a handshake, built in or anybody's: what it promises is checked, what fails is shown."""
