"""WebSockets: what is said over an open one, and the requests that its messages are.

May import: `proxy.kernel`.
"""
