"""The test kit for plugins: what a plugin's own tests need, installed with the proxy. Nothing else in it imports this.

- ``exchanges``: `make_exchange`, a request as the frame hands it to a plugin; `suppose` notes more in it.
- ``calls``: `call` runs a plugin and returns an `Answer`; `ok` is an app to put into it.
- ``clocks``: `ManualClock`, which stands still until a test moves it.
- ``proxies``: `temporary_proxy`, a whole proxy on a free port; ``log_lines``: `LogLines`, what it logged.
- `Ollama`, a simulated host, and `Model`, one of its models, from ``proxy.simulator``.
- `MemoryStore`, the `Store` of a single process, from ``proxy.stores``.

It needs no test runner. Its coroutines run in whatever loop the test runs in.

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
