"""HTTP/1.1 to one backend: connections, requests as bytes, answers as chunks.

May import: `proxy.kernel`.
"""
