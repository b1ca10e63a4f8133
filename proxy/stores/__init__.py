"""The stores: counters of limits, in this process or in a Redis that several proxies share.

May import: `proxy.kernel`.
"""
