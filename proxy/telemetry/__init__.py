"""Telemetry of the proxy: metrics, log lines, traces.

Gauges read the parts whose state they show; only the composition root imports this folder.

May import: `proxy.kernel`, `proxy.chain`, `proxy.pool`, `proxy.queue`, `proxy.server`.
"""
