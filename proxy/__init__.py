"""The engine of ollama-proxy: what serves, routes and relays.

The kernel (``asgi``, ``units``, ``errors``, ``routes``, ``models``, ``body``, ``exchange``, ``quotas``,
``services``, ``lines``) is what plugins import; it imports nothing else of ours.
"""

from typing import Final

__version__: Final = "0.1.0"
