"""The parts of the application that the ops routes show and change, as protocols."""

from collections.abc import Sequence
from typing import Protocol

from config.settings import Settings
from proxy.chain.build import Chain
from proxy.chain.frame import Frame
from proxy.chain.plan import Plan
from proxy.kernel.body_budget import BodyBudget
from proxy.kernel.journal import Journal
from proxy.kernel.log_sink import LogSink
from proxy.kernel.metrics import Metrics
from proxy.kernel.peers import Peers
from proxy.kernel.shared_line import SharedLine
from proxy.kernel.webhooks import Webhooks
from proxy.ops.limits_in_use import Board
from proxy.ops.stored_entries import StoredEntries
from proxy.pool.pool import Pool
from proxy.queue.scheduler import FairScheduler


class Loading(Protocol):
    """The result of loading the policy file; `proxy.reload.Reloaded` implements it."""

    @property
    def generation(self) -> int:
        """The number of the configuration in force after it."""

    @property
    def problems(self) -> Sequence[str]:
        """The reasons why the file was refused; empty where it is in force."""

    @property
    def restart(self) -> Sequence[str]:
        """The settings that changed and need a restart."""


class Loader(Protocol):
    """Loads the policy file again; `proxy.reload.Reloader` implements it."""

    @property
    def last(self) -> Loading:
        """The result of the last load."""

    async def ask(self) -> Loading:
        """Load the policy file now, in every process that serves with this one, and return the result."""


class Serving(Protocol):
    """A running server; `proxy.server.server.Server` implements it."""

    @property
    def open_connections(self) -> int:
        """The number of connections of its clients."""


class Engine(Protocol):
    """A running configuration; `proxy.app.App` implements it.

    Attributes:
        started_at: when the process began to serve, in seconds of the monotonic clock.
        loaded_at: when the configuration in force was loaded, in seconds of the monotonic clock.
        reloader: loads the policy file again; None where the proxy runs without a policy file.
    """

    frame: Frame
    pool: Pool
    scheduler: FairScheduler
    bodies: BodyBudget
    board: Board
    journal: Journal
    stored_entries: StoredEntries
    chain: Chain
    plan: Plan
    settings: Settings
    sink: LogSink
    peers: Peers
    started_at: float
    loaded_at: float
    reloader: Loader | None

    @property
    def fleet(self) -> SharedLine | None:
        """Shares the slots with other proxies; None where it has them for itself."""

    @property
    def webhooks(self) -> Webhooks:
        """The sender that tells clients that their deferred requests are over."""

    @property
    def server(self) -> Serving | None:
        """The server of the main listeners; None before it runs."""

    @property
    def metrics(self) -> Metrics:
        """The metrics of the requests."""

    @property
    def serving(self) -> bool:
        """Return whether the proxy takes requests: not before all listeners are open, nor after it was told to stop."""
