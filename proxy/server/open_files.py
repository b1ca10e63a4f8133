"""The limit on open files, and the number of client connections that it allows.

A connection is an open file, and so is the one to the host that answers it. Where files run out, nothing can be
accepted and no host can be reached; so the connections of clients are bounded well before that.
"""

import resource
from typing import Final

MOST: Final = 1_048_576
"""The most files that are asked for: where the system has no limit at all, its other bounds come first."""
MOST_CLIENTS: Final = 8192
"""Client connections where the policy file does not say, and the limit on files allows more.

A TLS connection takes some 60 KiB, also while it is idle.
"""
MOST_OPS: Final = 128
"""Connections of a separate listener for the ops routes."""


def raise_limit() -> int:
    """Raise the soft limit of open files to the hard one, as far as `MOST`, and return what holds then."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST if hard == resource.RLIM_INFINITY else min(hard, MOST)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        except (OSError, ValueError):  # a sandbox may forbid it; what was there before holds
            return soft
    return limit()


def limit() -> int:
    """Return how many files this process may have open, `MOST` where nothing bounds it."""
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return MOST if soft == resource.RLIM_INFINITY else min(soft, MOST)


def for_ops(files: int) -> int:
    """Return how many connections the ops listener may have, out of `files`."""
    return max(8, min(MOST_OPS, files // 32))


def for_clients(files: int) -> int:
    """Return how many connections clients may have where the policy file does not say, out of `files`.

    A share stays for log, store, key sets, probes and the ops listener; each client's request takes a second file for
    the connection to its host.
    """
    return max(16, min(MOST_CLIENTS, (files - reserve(files)) // 2))


def reserve(files: int) -> int:
    """Return how many of `files` are kept for what is not a client's."""
    return for_ops(files) + max(24, min(256, files // 16))
