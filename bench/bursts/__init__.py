"""A burst of deferred requests over proxies that are killed: what was promised is held against what came."""
