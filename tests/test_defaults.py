"""A default stands in one place: the schema of the policy file, or a plugin's signature. Two places drift apart."""

import ast
import inspect
from collections.abc import Callable
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from config.settings import LISTEN, Settings
from middleware.cors import Cors
from proxy import wiring
from proxy.commands.remote import URL
from proxy.kernel.body_budget import BodyBounds, BodyBudget
from proxy.kernel.cross_origin import CrossOrigin
from proxy.kernel.slot_scheduling import Terms
from proxy.kernel.websocket import SocketOptions
from proxy.pool.backend import make_backend
from proxy.pool.backend_api import fetch_json, inspect_backend
from proxy.pool.health import Rules
from proxy.pool.pool import Pool, PoolOptions
from proxy.pool.probes import Probes
from proxy.server.listeners import TlsOptions
from proxy.server.listening import ServerOptions
from proxy.telemetry.log_setup import configure
from proxy.testing.exchanges import SETTINGS
from proxy.upstream.timeouts import Timeouts

ROOT: Final = Path(__file__).parents[1]
PARTS: Final[dict[Callable[..., Any], set[str]]] = {
    ServerOptions: {"local_only", "backlog"},
    TlsOptions: set(),
    PoolOptions: set(),
    Rules: set(),
    Timeouts: set(),
    BodyBounds: set(),
    SocketOptions: set(),
    BodyBudget: set(),
    Pool: set(),
    Probes: set(),
    configure: set(),
    inspect_backend: set(),
    fetch_json: {"document"},
    make_backend: {
        *("transport", "tls", "server_name", "uds", "shown", "headers", "weight"),
        *("slots", "slots_per_model", "model_slots"),
    },
    Terms: {"weight", "priority", "depth_per_tenant", "deadline", "person"},
}
"""The parts that settings describe, and which of their options may be left out: those that say *nothing* or *none*."""


def optional(part: Callable[..., Any]) -> set[str]:
    left_out = getattr(part, "__optional_keys__", None)
    if left_out is not None:  # a TypedDict
        return set(left_out)
    if is_dataclass(part):
        return {f.name for f in fields(part) if f.default is not MISSING or f.default_factory is not MISSING}
    parameters = inspect.signature(part).parameters.values()
    return {parameter.name for parameter in parameters if parameter.default is not parameter.empty}


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.__name__)
def test_a_part_has_no_defaults_beside_the_policy_file(part: Callable[..., Any]) -> None:
    assert optional(part) == PARTS[part]


def test_what_wiring_makes_is_in_the_list() -> None:
    """A new part is looked at, too."""
    made = {
        ast.unparse(node.func)
        for node in ast.walk(ast.parse(inspect.getsource(wiring)))
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("Options", "Rules", "Timeouts", "Bounds"))
    }
    assert made == {"ServerOptions", "TlsOptions", "PoolOptions", "Rules", "Timeouts", "BodyBounds", "SocketOptions"}
    assert made <= {part.__name__ for part in PARTS}


def test_the_weight_of_a_backend_is_none_of_its_own() -> None:
    """Left out it is 1, which changes nothing; the policy file says the same."""
    default = inspect.signature(make_backend).parameters["weight"].default
    assert default == SETTINGS.backends[0].weight == 1.0


def test_without_cors_pages_are_admitted_as_by_an_empty_one() -> None:
    known = inspect.signature(CrossOrigin).parameters
    options = inspect.signature(Cors).parameters
    assert {name: option.default for name, option in options.items() if name != "app"} == {
        name: parameter.default for name, parameter in known.items()
    }


def test_the_commands_ask_where_the_proxy_listens() -> None:
    assert Settings.model_fields["listen"].default == (LISTEN,)
    assert f"http://{LISTEN}" == URL


def test_the_port_is_written_once() -> None:
    found = []
    for path in (path for package in ("proxy", "config", "middleware") for path in (ROOT / package).rglob("*.py")):
        tree = ast.parse(path.read_text())
        docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and "11435" in str(node.value) and id(node) not in docstrings:
                found.append(str(path.relative_to(ROOT)))
    assert found == ["config/addresses.py"]
