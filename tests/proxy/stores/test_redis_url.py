"""proxy/stores/redis_url.py, as tables."""

from typing import Any

import pytest
from limits.aio.storage.redis import RedisClusterStorage, RedisSentinelStorage, RedisStorage
from redis.asyncio import Redis, RedisCluster, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.connection import Connection
from redis.asyncio.sentinel import SentinelManagedConnection, SentinelManagedSSLConnection

from proxy.stores.redis_url import PREFIX, open_storage, shown


def pool_of(storage: RedisStorage) -> Any:
    bridge: Any = storage.bridge
    assert type(bridge).__name__ == "RedispyBridge"
    client = bridge.get_connection()
    assert isinstance(client, Redis)
    return client.connection_pool


@pytest.mark.parametrize(
    ("url", "kind", "connection", "arguments"),
    [
        ("redis://h:1/2", RedisStorage, Connection, {"host": "h", "port": 1, "db": 2}),
        ("async+redis://h:1", RedisStorage, Connection, {"host": "h", "port": 1}),
        ("valkey://h:1", RedisStorage, Connection, {"host": "h", "port": 1}),
        ("redis://u:p%40ss@h:1", RedisStorage, Connection, {"username": "u", "password": "p@ss"}),
        ("rediss://h:1?ssl_ca_certs=/ca.pem", RedisStorage, SSLConnection, {"host": "h", "ssl_ca_certs": "/ca.pem"}),
        ("valkeys://h:1", RedisStorage, SSLConnection, {"host": "h"}),
        ("unix:///run/r.sock?db=3", RedisStorage, UnixDomainSocketConnection, {"path": "/run/r.sock", "db": 3}),
        ("redis+unix:///run/r.sock", RedisStorage, UnixDomainSocketConnection, {"path": "/run/r.sock"}),
        ("redis+sentinel://:p@h:1,i:2/main", RedisSentinelStorage, SentinelManagedConnection, {"password": "p"}),
        ("rediss+sentinel://h:1/main", RedisSentinelStorage, SentinelManagedSSLConnection, {}),
        ("valkey+sentinel://h:1/main", RedisSentinelStorage, SentinelManagedConnection, {}),
    ],
)
def test_addresses(url: str, kind: type[RedisStorage], connection: type, arguments: dict[str, Any]) -> None:
    storage = open_storage(url)
    pool = pool_of(storage)
    assert type(storage) is kind
    assert pool.connection_class is connection
    assert arguments.items() <= pool.connection_kwargs.items()
    assert pool.connection_kwargs["socket_timeout"] is None  # with one redis-py may swallow a cancellation
    assert storage.bridge.key_prefix == PREFIX


@pytest.mark.parametrize(
    ("url", "tls"), [("redis+cluster://h:1,i:2", False), ("rediss+cluster://h:1?ssl_cert_reqs=none", True)]
)
def test_a_cluster(url: str, tls: bool) -> None:
    storage = open_storage(url)
    assert type(storage) is RedisClusterStorage
    bridge: Any = storage.bridge
    cluster = bridge.get_connection()
    assert isinstance(cluster, RedisCluster)
    assert sorted(node.name for node in cluster.startup_nodes)[0] == "h:1"
    assert ("ssl_cert_reqs" in cluster.connection_kwargs) == tls


@pytest.mark.parametrize(
    "url",
    [
        "mysql://secret@h",
        "http://secret@h",
        "redis+sentinel://:secret@h:1",
        "redis+sentinel://:secret@h/main",
        "redis+cluster://:secret@h",
        "redis+cluster://:secret@h:port",
        "redis://:secret@h:port",
    ],
)
def test_what_is_no_address_is_said_without_its_password(url: str) -> None:
    with pytest.raises(ValueError, match="expected redis://host:6379/0") as caught:
        open_storage(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("redis://h:1/2", "redis://h:1/2"),
        ("rediss://user:pass@h:1/2?password=x", "rediss://h:1/2"),
        ("redis+sentinel://:pass@h:1,i:2/main", "redis+sentinel://h:1,i:2/main"),
        ("unix:///run/r.sock?password=x", "unix:///run/r.sock"),
    ],
)
def test_prints_have_no_secrets(url: str, text: str) -> None:
    assert shown(url) == text
