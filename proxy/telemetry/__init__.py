"""What the proxy says of itself: metrics, log lines, traces.

Gauges read the state of what they show, so this folder may see those parts; only what composes may import it.

May import: `proxy.kernel`, `proxy.chain`, `proxy.pool`, `proxy.queue`, `proxy.server`.
"""
