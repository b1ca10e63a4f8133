"""proxy/pool.py."""

import pytest

from proxy.errors import ConnectFailed, Refused, UpstreamAnswer
from proxy.pool import Backend, Pool, make_backend
from tests.support.asgi import make_exchange


def pool(*weights: float) -> Pool:
    return Pool([make_backend(f"b{n}", f"http://127.0.0.1:{n}", weight=w) for n, w in enumerate(weights, 1)])


def lease(pool: Pool) -> Backend:
    with pool.lease(make_exchange()) as backend:
        return backend


def test_a_lease_counts_until_it_is_left_and_only_once() -> None:
    one = pool(1)
    held = one.lease(make_exchange())
    assert one.backends[0].active == 1
    with held:
        pass
    with held:
        pass
    assert one.backends[0].active == 0


def test_the_exchange_notes_where_it_went() -> None:
    two = pool(1, 1)
    exchange = make_exchange()
    with two.lease(exchange):
        assert two.untried(exchange)
    with two.lease(exchange):
        assert not two.untried(exchange)
    assert sorted(exchange.tried) == ["b1", "b2"]
    assert exchange.attempts == 2
    assert exchange.backend == exchange.tried[-1]


def test_load_is_spread_by_weight() -> None:
    two = pool(1, 3)
    held = [two.lease(make_exchange()) for _ in range(8)]
    assert [backend.active for backend in two.backends] == [2, 6]
    for one in held:
        with one:
            pass


def test_a_backend_that_refuses_connections_is_passed_over_for_a_while() -> None:
    two = pool(1, 1)
    with pytest.raises(ConnectFailed), two.lease(make_exchange()) as down:
        raise ConnectFailed("refused")
    assert all(lease(two) is not down for _ in range(20))
    assert "down" in repr(down)
    assert "refused" in repr(down)


def test_an_answer_however_bad_is_a_sign_of_life() -> None:
    two = pool(1, 1)
    with pytest.raises(UpstreamAnswer), two.lease(make_exchange()):
        raise UpstreamAnswer(500, [], b"", busy=False, missing=False)
    assert {lease(two).name for _ in range(50)} == {"b1", "b2"}


def test_no_backend_is_a_503() -> None:
    with pytest.raises(Refused) as refused:
        Pool([]).lease(make_exchange())
    assert refused.value.status == 503


def test_host_is_the_backends_own() -> None:
    assert make_backend("a", "http://127.0.0.1:11434").host == b"127.0.0.1:11434"
    assert make_backend("a", "http://[::1]:11434").host == b"[::1]:11434"
    assert make_backend("a", "https://gpu.example.com").host == b"gpu.example.com"
