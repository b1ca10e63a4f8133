"""Towards the client: sockets, TLS, uvicorn's HTTP/1.1 protocol with a guard around it, and its bounds.

May import: `proxy.kernel`.
"""
