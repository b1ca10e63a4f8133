"""Implementations of the kernel's small services: the system's clock, the retry budget, what outlives a reload.

``proxy/app.py`` makes one of each for the process. Services that a whole folder implements (store, pool, queue,
telemetry) are there.

May import: `proxy.kernel`.
"""
