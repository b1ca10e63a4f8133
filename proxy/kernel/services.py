"""The index of services: a plugin's parameter of one of these types is handed in, not configured.

Each service is a contract in a small file of its own. ``proxy/app.py`` makes the implementations and hands them in;
plugins know only these names. State that several instances of a plugin share (one per policy) lives in a service.

Plugins of other packages import the contracts from here; the proxy's own files import each from where it is defined.
"""

from typing import Final

from proxy.kernel.backends import Backends
from proxy.kernel.background import Background
from proxy.kernel.clock import Clock
from proxy.kernel.defined_policies import EntryName, Policies
from proxy.kernel.journal import Journal
from proxy.kernel.keepsakes import Keepsakes
from proxy.kernel.known_hosts import KnownHosts
from proxy.kernel.log_sink import LogSink
from proxy.kernel.metrics import Metrics
from proxy.kernel.retry_budget import RetryBudget
from proxy.kernel.slot_scheduling import Outlook, Scheduler, Slots, Terms
from proxy.kernel.store import Store, StoreUnavailable
from proxy.kernel.traces import Collector, Traces
from proxy.kernel.webhooks import Webhooks

__all__ = [
    "SERVICES",
    "Backends",
    "Background",
    "Clock",
    "Collector",
    "EntryName",
    "Journal",
    "Keepsakes",
    "KnownHosts",
    "LogSink",
    "Metrics",
    "Outlook",
    "Policies",
    "RetryBudget",
    "Scheduler",
    "Slots",
    "Store",
    "StoreUnavailable",
    "Terms",
    "Traces",
    "Webhooks",
]

SERVICES: Final[tuple[type, ...]] = (
    Clock,
    Policies,
    EntryName,
    KnownHosts,
    Keepsakes,
    Store,
    Journal,
    Background,
    Webhooks,
    Backends,
    Slots,
    Scheduler,
    RetryBudget,
    LogSink,
    Metrics,
    Traces,
)
"""The types that a plugin may ask for."""
