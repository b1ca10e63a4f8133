"""Where counters live: in memory or in Redis.

May import: `proxy.kernel`.
"""
