"""What a request needs from a backend: the model, whether it runs, its options, and the conversation.

The needs are derived once for each version of the request, however often a backend is selected for it.
"""

from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from proxy.kernel.derived_models import base_key
from proxy.kernel.exchange import Exchange
from proxy.kernel.exchange_parts import PoolPart
from proxy.kernel.load_or_unload import LoadOrUnload, load_or_unload
from proxy.kernel.model_names import RUNNER_OPTIONS, ModelName
from proxy.kernel.route import Route
from proxy.pool.affinity import conversation_of

Setup = tuple[tuple[str, float], ...]
"""What a request names of what makes Ollama load a model anew where it differs: the runner options, in the order of
`RUNNER_OPTIONS`, and ``shift``. Empty where it names none of it."""

_SHIFT: Final = "shift"


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """What a request needs from a backend.

    Attributes:
        model: canonical key of the model that the backend must have; None where any backend will do.
        runs: the backend has the model in memory for the request. Cloud models run elsewhere.
        only: the request only loads the model, or unloads it, and so takes no slot; None of any other request.
        setup: the runner options that the model must be loaded with.
        embeds: it asks for embeddings, which a runner makes one request at a time.
        conversation: key of the conversation that the request belongs to; None where it belongs to none.
    """

    model: str | None = None
    runs: bool = False
    only: LoadOrUnload | None = None
    setup: Setup = ()
    embeds: bool = False
    conversation: int | None = None

    @property
    def runner(self) -> str | None:
        """The model whose runner the request takes, for a derived one that which it was derived from; None for none."""
        return base_key(self.model) if self.model is not None and self.runs else None

    @property
    def slot_of(self) -> str | None:
        """The model of which the request takes a slot; None where it takes none."""
        return self.runner if self.only is None else None


NOTHING: Final = Need()
"""The needs of a request that any backend can answer."""


class _Noted(NamedTuple):
    """Needs, and the edition of the request and the context that they were derived from."""

    edition: int
    num_ctx: int | None
    need: Need


def need_of(exchange: Exchange) -> Need:
    """Return what `exchange` needs, by its current route and body."""
    noted = exchange.need
    if not isinstance(noted, _Noted) or noted.edition != exchange.edition or noted.num_ctx != exchange.num_ctx:
        need = _need(exchange, exchange.model, exchange.document)
        exchange.part(PoolPart).need = noted = _Noted(exchange.edition, exchange.num_ctx, need)
    return noted.need


def _need(exchange: Exchange, model: ModelName | None, document: dict[str, Any] | None) -> Need:
    route = exchange.route
    # A request that changes a backend (pull, create) names a model that the backend need not have.
    if route is None or model is None or route.kind not in ("inference", "read"):
        return NOTHING
    if route.kind == "read" or model.cloud:
        return Need(model=model.key)
    only = load_or_unload(exchange)
    if only == "unload":
        return Need(model=model.key, only=only)
    embeds = route.run is not None and route.run.operation == "embeddings"
    setup = _setup(route, document) if exchange.num_ctx is None else (("num_ctx", exchange.num_ctx),)
    conversation = conversation_of(exchange)
    return Need(model=model.key, runs=True, only=only, setup=setup, embeds=embeds, conversation=conversation)


def _setup(route: Route, document: dict[str, Any] | None) -> Setup:
    parameters = None if route.run is None else route.run.parameters
    if not document or (parameters is not None and not parameters.options):
        return ()  # Ollama reads no options there
    options = document.get("options")
    named: Setup = ()
    if options and isinstance(options, dict):
        named = tuple((name, options[name]) for name in RUNNER_OPTIONS if _differs(name, options.get(name)))
    if document.get(_SHIFT) is False and (parameters is None or parameters.places(_SHIFT)):
        named += ((_SHIFT, False),)
    return named


def _differs(name: str, value: object) -> bool:
    """Return whether a request with this option may want another runner than one without it.

    A negative ``num_gpu`` takes whatever runner there is; so does ``shift`` where it is true, as it is by itself.
    """
    return isinstance(value, int | float) and not (name == "num_gpu" and value < 0)
