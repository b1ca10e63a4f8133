"""Deferred requests: they run when a slot is free, and their owners read the answer later.

May import: `proxy.kernel`.
"""
