"""The pool of backends: selection, leases, health, probes, and what is known about each backend.

May import: `proxy.kernel`, `proxy.upstream`.
"""
