"""Where requests wait for a slot of a backend, and in which order they go on.

May import: `proxy.kernel`.
"""
