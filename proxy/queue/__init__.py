"""The queue: requests wait for slots, in a fair order, and are refused where they would wait in vain.

May import: `proxy.kernel`.
"""
