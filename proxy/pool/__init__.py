"""The backends: which one gets a request, and what is known of each.

May import: `proxy.kernel`, `proxy.upstream`.
"""
