"""What an operator sees and does while the proxy runs: the routes under ``/-/``, of class ``ops``.

They are in the route table and go through the chain like all others, so that `auth` and `access` decide who may.

May import: `proxy.kernel`, `proxy.chain`, `proxy.pool`, `proxy.queue`, `config`.
"""
