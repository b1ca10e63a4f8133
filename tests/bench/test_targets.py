"""nginx and the proxy, really started, in front of the fake backend."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.plan import HOST
from bench.targets import Target, TargetFailed, Variant, backend, has_nginx, make_key, nginx, proxy, variants
from tests.conftest import Need

BODY = b'{"model":"bench:latest","stream":false}'


@pytest.fixture(scope="module")
def upstream() -> Iterator[Target]:
    with backend() as target:
        yield target


def status(target: Target, key: str) -> int:
    request = (
        f"POST /api/chat HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\nContent-Length: {len(BODY)}\r\n\r\n"
    )
    with socket.create_connection((HOST, target.port), timeout=10) as connection:
        connection.sendall(request.encode() + BODY)
        return int(connection.recv(12).split()[1])


def test_nginx_runs_with_one_worker(upstream: Target, tmp_path: Path, need: Need) -> None:
    need("nginx", has_nginx())
    with nginx(upstream, tmp_path) as target:
        assert len(target.pids) == 2  # the master and its worker
        assert status(target, "any") == 200


@pytest.mark.timeout(120)
def test_the_full_chain_of_the_shipped_file_checks_keys_and_refuses_nobody_else(
    upstream: Target, tmp_path: Path
) -> None:
    _, full, _ = variants()
    key = make_key(tmp_path)
    with proxy(full, upstream, tmp_path, key) as target:
        assert [status(target, key) for _ in range(100)] == [200] * 100
        assert status(target, key + "x") == 401


def test_variants_leave_each_plugin_out_once() -> None:
    bare, full, without = variants()
    assert bare.middleware == []
    assert len(without) == len(full.middleware)
    for number, variant in enumerate(without):
        assert variant.middleware == [*full.middleware[:number], *full.middleware[number + 1 :]]
        assert variant.name == f"full - {next(iter(full.middleware[number]))}"


@pytest.mark.timeout(120)
def test_a_target_that_does_not_start_says_why(upstream: Target, tmp_path: Path) -> None:
    broken = Variant("broken", [{"no_such_plugin": {}}])
    with pytest.raises(TargetFailed, match="no_such_plugin"), proxy(broken, upstream, tmp_path, "key"):
        pass
