"""Tells clients that a deferred request or a batch is over, by Standard Webhooks.

May import: `proxy.kernel`.
"""
