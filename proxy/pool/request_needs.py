"""What a request needs from a backend: the model, whether it runs, its options, and the conversation.

The needs are derived once for each version of the request, however often a backend is selected for it.
"""

from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from proxy.kernel.exchange import Exchange
from proxy.kernel.exchange_parts import PoolPart
from proxy.kernel.model_names import RUNNER_OPTIONS, ModelName
from proxy.kernel.route import Route
from proxy.pool.affinity import conversation_of

Setup = tuple[tuple[str, float], ...]
"""The runner options that a request names, in the order of `RUNNER_OPTIONS`; empty where it names none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """What a request needs from a backend.

    Attributes:
        model: canonical key of the model that the backend must have; None where any backend will do.
        runs: the backend runs the model, so the request takes a slot and memory. Cloud models run elsewhere.
        setup: the runner options that the model must be loaded with.
        embeds: it asks for embeddings, which a runner makes one request at a time.
        conversation: key of the conversation that the request belongs to; None where it belongs to none.
    """

    model: str | None = None
    runs: bool = False
    setup: Setup = ()
    embeds: bool = False
    conversation: int | None = None


NOTHING: Final = Need()
"""The needs of a request that any backend can answer."""


class _Noted(NamedTuple):
    """Needs, and the edition of the request that they were derived from."""

    edition: int
    need: Need


def need_of(exchange: Exchange) -> Need:
    """Return what `exchange` needs, by its current route and body."""
    noted = exchange.need
    if not isinstance(noted, _Noted) or noted.edition != exchange.edition:
        need = _need(exchange, exchange.model, exchange.document)
        exchange.part(PoolPart).need = noted = _Noted(exchange.edition, need)
    return noted.need


def _need(exchange: Exchange, model: ModelName | None, document: dict[str, Any] | None) -> Need:
    route = exchange.route
    # A request that changes a backend (pull, create) names a model that the backend need not have.
    if route is None or model is None or route.kind not in ("inference", "read"):
        return NOTHING
    if route.kind == "read" or model.cloud:
        return Need(model=model.key)
    embeds = route.run is not None and route.run.operation == "embeddings"
    setup, conversation = _setup(route, document), conversation_of(exchange)
    return Need(model=model.key, runs=True, setup=setup, embeds=embeds, conversation=conversation)


def _setup(route: Route, document: dict[str, Any] | None) -> Setup:
    if route.run is not None and route.run.parameters is not None and not route.run.parameters.options:
        return ()  # Ollama reads no options there
    options = document.get("options") if document else None
    if not options or not isinstance(options, dict):
        return ()
    return tuple((name, options[name]) for name in RUNNER_OPTIONS if isinstance(options.get(name), int | float))
