"""The end of the chain: send a request to a backend, and relay its answer chunk by chunk.

May import: `proxy.kernel`, `proxy.pool`, `proxy.upstream`.
"""
