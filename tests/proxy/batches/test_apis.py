"""proxy/batches/apis.py."""

from proxy.batches.apis import batch_apis
from proxy.batches.routes import ROUTES
from tests.support.batches import Bench


def test_every_route_has_who_answers_it() -> None:
    bench = Bench()
    apis = batch_apis(bench.journal, bench.clock, bench.keeper)
    assert {route for api in apis for route in api.handlers} == set(ROUTES)
