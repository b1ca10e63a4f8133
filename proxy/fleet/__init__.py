"""The fleet: all proxies on one Redis share the slots of the backends, and one line of waiting requests.

May import: `proxy.kernel`, `proxy.stores`.
"""
