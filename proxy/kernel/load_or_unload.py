"""Requests that only load a model, or unload it: those without a prompt.

Ollama answers them without a turn of the model: a load as soon as the model is in memory, an unload at once, whatever
runs. So they wait for no slot, and take none.
"""

from typing import Final, Literal

from proxy.kernel.exchange import Exchange
from proxy.kernel.keep_alive import read_lifetime
from proxy.kernel.route import Route

LoadOrUnload = Literal["load", "unload"]

_KEEP_ALIVE: Final = "keep_alive"


def can_be_without_a_prompt(route: Route | None) -> bool:
    """Return whether a request of `route` may be one that only loads or unloads a model."""
    return (
        route is not None and route.run is not None and route.run.parameters is not None
    ) and route.run.parameters.bare is not None


def load_or_unload(exchange: Exchange) -> LoadOrUnload | None:
    """Return which of the two `exchange` asks for by its body, as far as that was read; None where it asks for more.

    None as well where Ollama might read the body in another way, and find a prompt in it: such a request takes a slot.
    """
    route, document = exchange.route, exchange.document
    if document is None or route is None or route.run is None or route.run.parameters is None:
        return None
    bare = route.run.parameters.bare
    if bare is None or document.get(bare) or not exchange.unambiguous:
        return None
    lifetime = document.get(_KEEP_ALIVE)
    try:
        return "unload" if lifetime is not None and read_lifetime(lifetime) == 0 else "load"
    except ValueError:  # Ollama refuses it at once
        return "load"
