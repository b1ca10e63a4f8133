"""The engine of ollama-proxy: what serves, routes and relays.

The kernel (``asgi``, ``unit_hints``, ``units``, ``errors``, ``routes``, ``models``, ``blobs``, ``json_bounds``,
``json_edit``, ``jsontext``, ``multipart``, ``off_loop``, ``content``, ``naming``, ``prompt_size``, ``body``,
``body_contents``, ``attempts``, ``exchange``, ``quotas``, ``services``, ``dialects``, ``lines``, ``explain``,
``genai``, ``address``, ``hosts``, ``cross_origin``, ``file_stamp``, ``recent``, ``seldom``) is what plugins import; it
imports nothing else of ours.
"""

from typing import Final

__version__: Final = "0.1.0"
