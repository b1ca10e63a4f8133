"""A simulated Ollama on a real socket, for tests, demo and benchmark.

It imports nothing of the proxy, so that what it believes about Ollama's protocol is a second opinion.

- ``simulated_ollama``: `Ollama`, which tests hold; ``host``: its state for handlers; ``settings``; ``counters``;
  ``tiny_models``: models like those that a real one was recorded with.
- ``listener``: the port; ``client_socket``, ``http_connection``, ``http_parser``, ``request``, ``http_reply``: HTTP.
- ``request_handler``: answers every request; ``faults``, ``faulty_replies``: what can go wrong on command, and how.
- ``routes``: the table; ``routes_*``: its handlers; ``host_and_origin``: checks before them.
- ``refusals``: errors; ``offline``: those of a host without a network; ``runner_checks``, ``templates``: late ones.
- ``inference``, ``generation_job``, ``made_up_text``: generation; ``flavor_*``: the four APIs it is spoken in;
  ``repeat_guard``, ``held_text``: what Ollama does not let through.
- ``loaded_models``, ``disk``: models in memory and on disk; ``model_names``, ``go_json``, ``go_syntax``: reading as
  Ollama reads.

May import: nothing.
"""

from proxy.simulator.counters import Counters
from proxy.simulator.faults import Fault
from proxy.simulator.request import Request
from proxy.simulator.settings import Model, Settings
from proxy.simulator.simulated_ollama import Ollama
from proxy.simulator.tiny_models import TINY_MODELS

__all__ = ["TINY_MODELS", "Counters", "Fault", "Model", "Ollama", "Request", "Settings"]
