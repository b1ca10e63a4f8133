"""The engine of ollama-proxy: what serves, routes and relays.

``app`` composes all parts, ``wiring`` connects them, ``reload`` exchanges them under load, ``cli`` is the command
line. Everything else is in folders, one noun each; the docstring of each says what it may import, and
``tests/test_house.py`` holds it to that.

May import: everything.
"""

from typing import Final

__version__: Final = "0.1.0"
