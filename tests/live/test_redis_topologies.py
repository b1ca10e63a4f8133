"""One store, whatever is behind its address: TLS, a unix socket, a cluster, a Sentinel that moves it elsewhere."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from proxy.kernel.quotas import Quota
from proxy.kernel.store import StoreUnavailable
from proxy.services.system_clock import SystemClock
from proxy.stores.open import open_store
from proxy.stores.redis import RedisStore
from tests.support.backend import eventually
from tests.support.certificates import Authority
from tests.support.process import free_port
from tests.support.redis import RedisServer, Sentinel, redis_server, started
from tests.support.stores import settle, used, windows


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[RedisStore]:
    store = open_store(url, SystemClock())
    assert isinstance(store, RedisStore)
    store._caller._within = 5.0  # what a call may cost a request is tested elsewhere; here the machine may be busy
    await store.connect()
    yield store
    await store.aclose()


async def it_counts(store: RedisStore, key: str = "q") -> None:
    # A busy machine may take longer to open all connections, with TLS, than one may take; then the store tries again.
    await eventually(lambda: store._caller.up)
    quota = Quota(key, windows("2/minute", "2/day"), windows("100/minute", "900/month"), 2)
    first, second = [await store.admit([quota], 40) for _ in range(2)]
    assert [level.used for level in second.levels] == [2, 2, 2, 80, 80]
    assert [level.unit for level in (await store.admit([quota])).full] == ["streams", "requests", "requests"]
    await settle(store, first.reservation, 10)
    await store._renew([reservation for reservation in (second.reservation,) if reservation])
    await settle(store, second.reservation, 20)
    assert await used(store, quota) == [0, 2, 2, 30, 30]


async def test_tls(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    server_files = authority.issue("localhost")
    port = free_port()
    options = (
        "--tls-port",
        str(port),
        "--tls-cert-file",
        str(server_files.cert),
        "--tls-key-file",
        str(server_files.key),
    )
    with redis_server(*options, "--tls-ca-cert-file", str(authority.cert), "--tls-auth-clients", "no"):
        async with opened(f"rediss://localhost:{port}/0?ssl_ca_certs={authority.cert}") as store:
            await it_counts(store)
        async with opened(f"rediss://localhost:{port}/0") as store:
            with pytest.raises(StoreUnavailable):
                await store.look([Quota("q", streams=1)])


async def test_a_unix_socket(tmp_path: Path) -> None:
    socket = tmp_path / "redis.sock"
    with redis_server("--unixsocket", str(socket)):
        async with opened(f"unix://{socket}") as store:
            await it_counts(store)


async def test_a_password() -> None:
    with redis_server() as server:
        server.command("CONFIG", "SET", "requirepass", "pa:ss")
        async with opened(f"redis://:pa%3Ass@127.0.0.1:{server.port}/0") as store:
            await it_counts(store)


async def test_a_cluster(tmp_path: Path) -> None:
    config = ("--cluster-config-file", str(tmp_path / "nodes.conf"), "--cluster-port", str(free_port()))
    with redis_server("--cluster-enabled", "yes", *config) as node:
        assert node.command("CLUSTER", "ADDSLOTSRANGE", "0", "16383") == b"+OK\r\n"
        await eventually(lambda: b"cluster_state:ok" in node.command("CLUSTER", "INFO"))
        async with opened(f"redis+cluster://127.0.0.1:{node.port}") as store:
            await it_counts(store)


async def test_a_sentinel_moves_the_store_to_the_replica(tmp_path: Path) -> None:
    with redis_server() as primary, redis_server("--replicaof", "127.0.0.1", str(primary.port)) as replica:
        await eventually(lambda: b"master_link_status:up" in replica.command("INFO", "replication"))
        with started(Sentinel(tmp_path, primary)) as sentinel:
            await eventually(lambda: knows_of(sentinel, replica))
            async with opened(f"redis+sentinel://127.0.0.1:{sentinel.port}/main") as store:
                await it_counts(store, "before")
                await eventually(lambda: b"before" in replica.command("KEYS", "*"))
                primary.kill()
                with pytest.raises(StoreUnavailable):
                    await store.look([Quota("q", streams=1)])
                await eventually(lambda: " up " in repr(store))
                await it_counts(store, "after")
                before = Quota("before", requests=windows("2/minute"))
                assert (await store.admit([before])).full  # the replica has counted along


def knows_of(sentinel: Sentinel, replica: RedisServer) -> bool:
    return str(replica.port).encode() in sentinel.command("SENTINEL", "replicas", "main")
