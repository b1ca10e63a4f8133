"""Other models that may stand in for the one that was asked for."""

from collections.abc import Mapping, Sequence
from typing import Final

from proxy.kernel.errors import Refused
from proxy.kernel.exchange import Exchange
from proxy.kernel.exchange_parts import RetryPart
from proxy.kernel.model_names import ModelName, parse

HEADER: Final = b"x-ollama-proxy-model"
"""Says which model answered in place of the one that was asked for."""


class Fallbacks:
    """Which models stand in for which; raises ValueError for a name that is none."""

    def __init__(self, names: Mapping[str, Sequence[str]]) -> None:
        self._models = {_parsed(asked).key: tuple(map(_parsed, others)) for asked, others in names.items()}

    def of(self, exchange: Exchange) -> tuple[ModelName, ...]:
        """Return what may stand in for the model of `exchange`, the best first: only where a JSON body names it."""
        model, route = exchange.model, exchange.route
        if not self._models or model is None or route is None or route.kind != "inference" or route.body != "json":
            return ()
        return self._models.get(model.key, ())


async def stand_in(exchange: Exchange, other: ModelName) -> bool:
    """Let `other` be the model that `exchange` asks for from now on; returns whether its body could be changed.

    Of the body only the name changes. What was tried for the model before says nothing about this one.
    """
    try:
        await exchange.json()
    except Refused:
        return False  # it could be read in two ways, so that nobody can tell what a change of it does
    noted = exchange.part(RetryPart)
    noted.asked = noted.asked or exchange.model
    exchange.edit({"model": other.short})
    exchange.forget_tried()
    withdraw(exchange)
    exchange.response_headers.append((HEADER, other.short.encode()))
    return True


def withdraw(exchange: Exchange) -> None:
    """Announce no other model, as none answers."""
    exchange.response_headers[:] = [pair for pair in exchange.response_headers if pair[0] != HEADER]


def _parsed(name: str) -> ModelName:
    model = parse(name)
    if model is None:
        raise ValueError(f"fallback: '{name}' is not the name of a model")
    return model
