"""The plugin `defer`: requests that run later.

May import: `proxy.kernel`.
"""
