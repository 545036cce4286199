"""
A whole server in memory, driven by one number.

A *world* is a server with its handshake, its limits and its admission, and the peers that come to
it; a seed makes all of it, and all that happens in it: where the bytes are cut, who is slow, who
resets, half-closes or never reads, what in a plug-in breaks, and when the server is told to stop.
Time is virtual, and nothing but the seed is random, so the same seed tells the same story, on any
machine and with any Python.

What is held against each world is what the gate promises: see
:mod:`~sockproto.testing.simulation.promises`.
"""
