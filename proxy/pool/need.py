"""What a request needs of a backend. It is found out once, however often a backend is looked for."""

from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from proxy.kernel.exchange import Exchange
from proxy.kernel.exchange_parts import PoolPart
from proxy.kernel.model_names import RUNNER_OPTIONS, ModelName
from proxy.pool.conversations import conversation

Setup = tuple[tuple[str, float], ...]
"""The runner options that a request names, in the order above; empty where it leaves them all to the host."""


@dataclass(frozen=True, slots=True)
class Need:
    """What a request needs.

    Attributes:
        model: canonical key of the model that its backend must have; None where any backend will do.
        runs: the backend runs that model for it, so that it takes a slot and memory. Cloud models run elsewhere.
        setup: how the model must be set up.
        talk: the conversation that it is part of; None where it is part of none.
    """

    model: str | None = None
    runs: bool = False
    setup: Setup = ()
    talk: int | None = None


NOTHING: Final = Need()


class _Noted(NamedTuple):
    """What was found out, and from which edition of what the request says."""

    edition: int
    need: Need


def need_of(exchange: Exchange) -> Need:
    """Return what `exchange` needs, as its route and its body say by now."""
    noted = exchange.need
    if not isinstance(noted, _Noted) or noted.edition != exchange.edition:
        need = _need(exchange, exchange.model, exchange.document)
        exchange.part(PoolPart).need = noted = _Noted(exchange.edition, need)
    return noted.need


def _need(exchange: Exchange, model: ModelName | None, document: dict[str, Any] | None) -> Need:
    route = exchange.route
    # What changes a host names models that it need not have.
    if route is None or model is None or route.kind not in ("inference", "read"):
        return NOTHING
    if route.kind == "read" or model.cloud:
        return Need(model.key)
    return Need(model.key, True, _setup(document), conversation(exchange))


def _setup(document: dict[str, Any] | None) -> Setup:
    options = document.get("options") if document else None
    if not options or not isinstance(options, dict):
        return ()
    return tuple((name, options[name]) for name in RUNNER_OPTIONS if isinstance(options.get(name), int | float))
