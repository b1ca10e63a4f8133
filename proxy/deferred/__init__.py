"""Requests that outlive their connection: what is kept of them, read from any byte.

May import: `proxy.kernel`.
"""
