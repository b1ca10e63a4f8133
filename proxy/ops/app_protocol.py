"""What the ops routes show and steer."""

from collections.abc import Sequence
from typing import Protocol

from config.settings import Settings
from proxy.chain.build import Chain
from proxy.chain.frame import Frame
from proxy.chain.plan import Plan
from proxy.kernel.body_budget import BodyBudget
from proxy.kernel.log_sink import LogSink
from proxy.kernel.metrics import Metrics
from proxy.ops.limits_in_use import Board
from proxy.pool.pool import Pool
from proxy.queue.scheduler import FairScheduler


class Loading(Protocol):
    """What came of loading the policy file; `proxy.reload.Reloaded` is one."""

    @property
    def generation(self) -> int:
        """The one in force then."""

    @property
    def problems(self) -> Sequence[str]:
        """Why it was refused."""

    @property
    def restart(self) -> Sequence[str]:
        """Settings that changed and need a restart."""


class Loader(Protocol):
    """What loads the policy file again; `proxy.reload.Reloader` is one."""

    @property
    def last(self) -> Loading:
        """What came of it the last time."""

    def reload(self) -> Loading:
        """Load it now."""


class Engine(Protocol):
    """A configuration at work; `proxy.app.App` is one.

    Attributes:
        started_at: when the process began to serve, by the monotonic clock.
        loaded_at: when the configuration in force was put in force, likewise.
        reloader: None where there is no file, or nobody looks at it.
    """

    frame: Frame
    pool: Pool
    scheduler: FairScheduler
    bodies: BodyBudget
    board: Board
    chain: Chain
    plan: Plan
    settings: Settings
    sink: LogSink
    started_at: float
    loaded_at: float
    reloader: Loader | None

    @property
    def metrics(self) -> Metrics:
        """What counts requests."""

    @property
    def serving(self) -> bool:
        """Whether requests are taken: not before all listens, and not any more once it was told to stop."""
