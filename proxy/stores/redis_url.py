"""Read the URL of a Redis, and open the storage of `limits` for it."""

from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

from limits.aio.storage.redis import RedisClusterStorage, RedisSentinelStorage, RedisStorage
from limits.errors import ConfigurationError
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

PREFIX: Final = "ollama-proxy:{quotas}"
"""Prefix of every key. The braces put all keys on one node of a cluster, as one decision touches several keys and must
be one script. Such a node can decide some 10,000 requests a second, more than any fleet of Ollama hosts needs."""

EXPECTED: Final = (
    "expected redis://host:6379/0, rediss:// (TLS), unix:///path.sock, redis+sentinel://host:26379,host:26379/name "
    "or redis+cluster://host:6379,host:6379; valkey and an async+ in front mean the same"
)

_KINDS: Final[dict[str, tuple[type[RedisStorage], str]]] = {
    "redis": (RedisStorage, "redis"),
    "redis+unix": (RedisStorage, "redis+unix"),
    "unix": (RedisStorage, "redis+unix"),
    "redis+sentinel": (RedisSentinelStorage, "redis+sentinel"),
    "redis+cluster": (RedisClusterStorage, "redis+cluster"),
}
_TLS_OPTIONS: Final = frozenset({"ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_cert_reqs"})


def open_storage(url: str) -> RedisStorage:
    """Return the storage for `url`, with redis-py as its client; raises ValueError. Connects at first use."""
    parts = urlsplit(url)
    scheme = parts.scheme.removeprefix("async+").replace("valkeys", "rediss").replace("valkey", "redis")
    tls = scheme.startswith("rediss")
    storage, plain = _KINDS.get(scheme.replace("rediss", "redis"), (None, ""))
    if storage is None:
        raise ValueError(f"the store's address is none that we know: {EXPECTED}")
    connections: dict[str, Any] = {
        # RESP 3 would ask for a managed service's notifications at every new connection.
        "protocol": 2,
        # `RedisCaller` bounds every call, and the limit's own rule decides what follows a failure.
        "retry": Retry(NoBackoff(), 0),
        # With a timeout of its own redis-py sends by `asyncio.wait_for`, which swallows cancellation in Python 3.11.
        "socket_timeout": None,
    }
    options: dict[str, Any] = {"implementation": "redispy", "key_prefix": PREFIX, **connections}
    query = parts.query
    if storage is RedisSentinelStorage:
        options["sentinel_kwargs"] = connections
    if storage is RedisStorage:
        plain = plain.replace("redis", "rediss", 1) if tls else plain
    else:
        # redis-py reads the query of a URL, but `limits` gives it none of a Sentinel or a cluster.
        options |= {name: value for name, value in parse_qsl(query) if name in _TLS_OPTIONS}
        options |= {"ssl": True} if tls else {}
        query = ""
    try:
        return storage(f"async+{plain}://{parts.netloc}{parts.path}?{query}".rstrip("?"), **options)
    except ConfigurationError as error:
        # Its text may repeat the URL with the password.
        raise ValueError(f"the store's address cannot be read: {EXPECTED}") from error


def shown(url: str) -> str:
    """Return `url` without user, password and query."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
