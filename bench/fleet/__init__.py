"""A storm over a fleet: three proxies on one Redis under Sentinel, which are killed, restarted, failed over and frozen.

Processes: each simulated host (``host``), the clients (``clients``; one request of theirs is in ``calls``), the proxies
as a user starts them, Redis (``redis_pair``), and this one. It strikes (``strikes``) as the seed says (``schedule``),
looks at the permits in Redis meanwhile (``watch``), and judges what hosts, clients and Redis say (``verdict``).
"""
