"""What the policy file's defaults come to, for a test that needs one part of the proxy; changes by keyword."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from proxy import wiring
from proxy.kernel.body_budget import BodyBounds, BodyBudget
from proxy.pool import backend as backends
from proxy.pool.backend import Backend
from proxy.pool.health import Rules
from proxy.pool.pool import Pool, PoolOptions
from proxy.server.listening import ServerOptions
from proxy.testing.exchanges import SETTINGS


def server_options(**changes: Any) -> ServerOptions:
    """By default on any free port of this machine."""
    return replace(wiring.server_options(SETTINGS), **({"listen": ["127.0.0.1:0"]} | changes))


def pool_options(**changes: Any) -> PoolOptions:
    return replace(wiring.pool_options(SETTINGS), **changes)


def health_rules(**changes: Any) -> Rules:
    return replace(pool_options().rules, **changes)


def make_backend(name: str, url: str, **options: Any) -> Backend:
    return backends.make_backend(name, url, **({"rules": health_rules()} | options))


def make_pool(backends: Sequence[Backend] = (), **options: Any) -> Pool:
    return Pool(backends, pool_options(**options))


def body_budget(**changes: Any) -> BodyBudget:
    bounds: BodyBounds = {**wiring.body_bounds(SETTINGS), **changes}  # type: ignore[typeddict-item]
    return BodyBudget(**bounds)
