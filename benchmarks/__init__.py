"""
What a handshake costs, beside the servers that people would otherwise write.

``python -m benchmarks`` from a checkout; ``benchmarks/README.md`` says how to read the figures.
"""
