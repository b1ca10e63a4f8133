"""The routes under ``/-/``, of class ``ops``, by which an operator watches and changes a running proxy.

They are in the route table and go through the chain like all other routes: `auth` and `access` decide who may use them.

May import: `proxy.kernel`, `proxy.chain`, `proxy.pool`, `proxy.queue`, `config`.
"""
