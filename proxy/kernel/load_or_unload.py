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


def bare_member(route: Route | None) -> str | None:
    """Return the member without which a request of `route` only loads or unloads a model; None for none."""
    parameters = None if route is None or route.run is None else route.run.parameters
    return None if parameters is None else parameters.bare


def load_or_unload(exchange: Exchange) -> LoadOrUnload | None:
    """Return which of the two `exchange` asks for by its body, as far as that was read; None where it asks for more.

    None as well where Ollama might read the body in another way, and find a prompt in it: such a request takes a slot.
    """
    bare = bare_member(exchange.route)
    document = None if bare is None else exchange.document
    if bare is None or document is None or document.get(bare) or not exchange.unambiguous:
        return None
    lifetime = document.get(_KEEP_ALIVE)
    try:
        return "unload" if lifetime is not None and read_lifetime(lifetime) == 0 else "load"
    except ValueError:  # Ollama refuses it at once
        return "load"
