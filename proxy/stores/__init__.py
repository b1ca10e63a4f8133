"""Where counters live: one module per kind of store."""
