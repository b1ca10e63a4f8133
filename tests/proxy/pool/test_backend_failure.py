"""proxy/pool/backend_failure.py."""

from proxy.kernel.attempts import Failure
from proxy.pool.backend_failure import BackendFailure, failures_of
from proxy.testing.exchanges import make_exchange, suppose
from tests.support.options import make_backend


def test_only_failures_at_backends_of_the_pool_are_judged() -> None:
    exchange = make_exchange("POST", "/api/chat")
    host = make_backend("b1", "http://127.0.0.1:1")
    first, second = (
        BackendFailure(backend="b1", host=host, model="m", reason="reset", said=None, broke=True, at=at)
        for at in (1.0, 2.0)
    )
    suppose(exchange, failed=(first, Failure(backend="b2", broke=False), second))
    assert failures_of(exchange) == [first, second]
