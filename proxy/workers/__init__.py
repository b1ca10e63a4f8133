"""Several processes that serve the same addresses: a parent that keeps its workers running, and how they talk.

A worker talks to its parent only, over a pair of sockets; the parent passes on what concerns the others. Neither knows
what is asked: questions have names, and are answered by whoever registered for them.

May import: `proxy.kernel`.
"""
