"""The test kit for authors of plugins. It is installed with the proxy; no other part of the proxy imports it.

- ``exchanges``: `make_exchange` makes a request as the frame passes it to a plugin; `suppose` sets more of its fields.
- ``calls``: `call` runs a plugin and returns an `Answer`; `ok` is an application that a plugin can wrap.
- ``clocks``: `ManualClock`, a clock that only a test moves.
- ``proxies``: `temporary_proxy` runs a whole proxy on a free port; ``log_lines``: `LogLines` holds its log.
- ``proxy.simulator``: `Ollama` is a simulated host, and `Model` a model on it.
- ``proxy.stores``: `MemoryStore` is the `Store` of a single process.

The kit works with any test runner. Its coroutines run in the event loop of the test.

May import: everything.
"""

from proxy.simulator import Model, Ollama
from proxy.stores.memory import MemoryStore
from proxy.testing.calls import Answer, call, ok
from proxy.testing.clocks import ManualClock
from proxy.testing.exchanges import make_exchange, suppose
from proxy.testing.log_lines import LogLines
from proxy.testing.proxies import TemporaryProxy, temporary_proxy

__all__ = [
    "Answer",
    "LogLines",
    "ManualClock",
    "MemoryStore",
    "Model",
    "Ollama",
    "TemporaryProxy",
    "call",
    "make_exchange",
    "ok",
    "suppose",
    "temporary_proxy",
]
