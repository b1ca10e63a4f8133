"""The end of the chain: a request goes to a backend, and its answer comes back chunk for chunk.

May import: `proxy.kernel`, `proxy.pool`, `proxy.upstream`.
"""
