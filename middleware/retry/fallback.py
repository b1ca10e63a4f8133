"""Fallback models, used in place of the model that a request asked for."""

from collections.abc import Mapping, Sequence
from typing import Final

from proxy.kernel.body_models import model_member
from proxy.kernel.errors import Refused
from proxy.kernel.exchange import Exchange
from proxy.kernel.exchange_parts import RetryPart
from proxy.kernel.load_or_unload import load_or_unload
from proxy.kernel.model_names import ModelName, parse
from proxy.kernel.retrying import forget_tried

HEADER: Final = b"x-ollama-proxy-model"
"""The header that names the fallback model that answered."""


class Fallbacks:
    """The fallback models of each model. Raises ValueError for an invalid model name."""

    def __init__(self, names: Mapping[str, Sequence[str]]) -> None:
        self._models = {_parsed(asked).key: tuple(map(_parsed, others)) for asked, others in names.items()}

    def of(self, exchange: Exchange) -> tuple[ModelName, ...]:
        """Return the fallbacks for the model of `exchange`, the best first; none unless a JSON body names it."""
        model, route = exchange.model, exchange.route
        if not self._models or model is None or route is None or route.kind != "inference":
            return ()
        if route.body != "json" or not route.models or route.model_in_path:
            return ()
        if load_or_unload(exchange) == "unload":  # it is about this model, and no other
            return ()
        return self._models.get(model.key, ())


async def stand_in(exchange: Exchange, other: ModelName) -> bool:
    """Replace the model that `exchange` asks for by `other`; return whether the body could be changed.

    Only the name in the body changes. The backends tried for the previous model count as untried for this one.
    """
    try:
        document = await exchange.json()
    except Refused:
        return False  # the body is ambiguous, so the effect of a change is unknown
    noted = exchange.part(RetryPart)
    noted.asked = noted.asked or exchange.model
    exchange.edit({model_member(exchange.route, document): other.short})
    forget_tried(exchange)
    withdraw(exchange)
    exchange.response_headers.append((HEADER, other.short.encode()))
    return True


def withdraw(exchange: Exchange) -> None:
    """Remove the header that names a fallback model, because none answers."""
    exchange.response_headers[:] = [pair for pair in exchange.response_headers if pair[0] != HEADER]


def _parsed(name: str) -> ModelName:
    model = parse(name)
    if model is None:
        raise ValueError(f"fallback: '{name}' is not the name of a model")
    return model
