"""A simulated Ollama on a real socket, for tests, demo and benchmark.

It imports nothing of the proxy, so that what it believes about Ollama's protocol is a second opinion.

- ``server``: `Ollama`, the object that tests hold; ``settings``: its `Settings` and `Model`.
- ``listener``: the port; ``wire``: HTTP/1.1 on one connection; ``reply``: one response.
- ``records``: `Request` and `Counters`, what tests see.
- ``faults``, ``faulty``: what can be made to go wrong, and how it does.
- ``routes``, ``guard``: routing, Host and Origin; ``reads``, ``manage``, ``embeddings``, ``transcription``: handlers.
- ``inference``, ``jobs``, ``words``: generation; ``flavor_*``: the four ways it is spoken.
- ``engine``, ``store``: models in memory and on disk; ``names``, ``gojson``: reading as Ollama reads.

May import: nothing.
"""

from proxy.simulator.faults import Fault
from proxy.simulator.records import Counters, Request
from proxy.simulator.server import Ollama
from proxy.simulator.settings import Model, Settings

__all__ = ["Counters", "Fault", "Model", "Ollama", "Request", "Settings"]
