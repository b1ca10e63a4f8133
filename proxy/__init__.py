"""The engine of ollama-proxy: what serves, routes and relays."""

from typing import Final

__version__: Final = "0.1.0"
