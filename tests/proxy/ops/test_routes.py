"""proxy/ops/routes.py: what is documented exists, and the other way round."""

import inspect

from proxy.kernel.routes import Match, RouteTable
from proxy.ops.actions import Actions
from proxy.ops.app import Ops
from proxy.ops.routes import HEALTH, OPERATIONS, ROUTES
from proxy.simulator import Ollama
from tests.support.proxy import running


def handlers(kind: type) -> set[str]:
    return {
        name for name, member in vars(kind).items() if inspect.iscoroutinefunction(member) and not name.startswith("_")
    }


def test_every_operation_has_a_handler_and_every_handler_an_operation() -> None:
    assert {operation.name for operation in OPERATIONS if operation.changes} == handlers(Actions)
    assert {operation.name for operation in OPERATIONS if not operation.changes} == handlers(Ops)


def test_all_are_of_class_ops_and_found_by_the_route_table() -> None:
    table = RouteTable(ROUTES)
    for route in ROUTES:
        assert route.kind == "ops"
        assert route.path.startswith("/-")
        for method in route.methods:
            match = table.match(method, route.path.replace("{", "").replace("}", ""))
            assert isinstance(match, Match)
            assert match.route is route


def test_what_changes_something_is_a_post_and_nothing_open_changes_anything() -> None:
    for operation in OPERATIONS:
        assert not (operation.changes and operation.route.methods != ("POST",))
        assert not (operation.changes and operation.route.open)


def test_the_parameters_are_those_of_the_path_and_the_query() -> None:
    for operation in OPERATIONS:
        inside = operation.route.path.partition("{")[2].partition("}")[0]
        named = {(parameter.place, parameter.name) for parameter in operation.parameters}
        assert named == {("path", inside)} - {("path", "")} | {("query", name) for name in operation.route.query}


def test_health_is_what_probes_ask() -> None:
    assert [route.path for route in HEALTH] == ["/-/healthz", "/-/readyz"]


async def test_the_main_table_has_them_all() -> None:
    async with Ollama() as sim, running(sim.url) as proxy:
        assert set(ROUTES) <= set(proxy.app.frame.current.routes.routes)
