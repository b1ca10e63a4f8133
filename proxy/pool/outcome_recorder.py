"""Learn from how each request to a backend ended.

`OutcomeRecorder` takes the end of every request, notes the attempt in the exchange, keeps the moving averages of
service and load times, and passes failures on to `proxy.pool.blame`, which decides whose fault they are.
"""

import asyncio
from collections.abc import Callable, Sequence
from time import monotonic

from proxy.kernel.attempts import Attempt
from proxy.kernel.derived_models import base_key
from proxy.kernel.errors import (
    BackendDown,
    ConnectFailed,
    ConnectionLost,
    ErrorRecord,
    ProxyError,
    UpstreamAnswer,
    UpstreamError,
    UpstreamTimeout,
)
from proxy.kernel.exchange import Exchange
from proxy.kernel.exchange_parts import PoolPart
from proxy.pool.affinity import Affinity
from proxy.pool.backend import Backend
from proxy.pool.blame import Blame
from proxy.pool.lease import Lease
from proxy.pool.moving_averages import MovingAverages
from proxy.pool.request_needs import need_of


class OutcomeRecorder:
    """Learns about the backends of one pool from the ends of requests.

    Args:
        affinity: forgets a conversation whose request failed.
        changed: called when an ejected backend may get a request again.
        stale: called with a backend whose list of models or memory may differ from what is known.

    Attributes:
        blame: judges failures and ejects backends.
        service_times: moving average of the seconds that a request holds its slot, by model.
        load_times: moving average of the seconds that it takes to load a model.
    """

    def __init__(self, affinity: Affinity, *, changed: Callable[[], None], stale: Callable[[Backend], object]) -> None:
        self.blame = Blame(spare=self._can_spare, ejected=self._was_ejected)
        self.service_times = MovingAverages()
        self.load_times = MovingAverages()
        self._affinity = affinity
        self._changed = changed
        self._stale = stale
        self._backends: Sequence[Backend] = ()
        self._eject_share = 0.0

    def watch(self, backends: Sequence[Backend], eject_share: float) -> None:
        """Judge `backends` from now on; at most the share `eject_share` of them may be ejected at once."""
        self._backends, self._eject_share = backends, eject_share

    def finished(self, exchange: Exchange, lease: Lease, error: BaseException | None) -> None:
        """Learn from the end of a request to a backend: a whole response (None), or `error`.

        A response without its terminator (`Exchange.terminated` is False) is nobody's fault, and no proof of health.
        """
        backend, now = lease.backend, monotonic()
        attempt = Attempt(
            backend=backend.name,
            began=lease.began,
            ended=now,
            cold=lease.cold,
            error=word_for(error),
            silent=is_silence(error),
        )
        exchange.part(PoolPart).history += (attempt,)
        if error is None:
            self._served(exchange, lease, now)
        elif isinstance(error, UpstreamError):
            self._failed(exchange, lease, error, now)
        if exchange.route is not None and exchange.route.kind == "manage":
            self.touch(backend)

    def touch(self, backend: Backend) -> None:
        """Note that a request through the proxy may have changed the models of `backend`."""
        backend.changed_at = monotonic()
        self._stale(backend)

    def unloaded(self, backend: Backend, model: str) -> None:
        """Note that `backend` was told to unload `model`, and did not refuse."""
        backend.residency.unloaded(base_key(model))
        self.touch(backend)

    def _served(self, exchange: Exchange, lease: Lease, now: float) -> None:
        if exchange.terminated is False:
            lease.served = False
        self.blame.served(exchange, lease, now)
        if lease.served and lease.need.only == "unload" and lease.need.model is not None:
            self.unloaded(lease.backend, lease.need.model)
        if lease.served and lease.model is not None:
            if lease.need.only is None:
                self.service_times.note(lease.model, lease.held, now)
            if lease.cold and lease.waited is not None:
                self.load_times.note(lease.model, lease.waited, now)

    def _failed(self, exchange: Exchange, lease: Lease, error: UpstreamError, now: float) -> None:
        backend, need = lease.backend, need_of(exchange)
        if is_failure(error):
            self.blame.failed(exchange, lease, error, now)
            self._stale(backend)
        elif isinstance(error, UpstreamAnswer):
            if error.busy:
                backend.failed(now)  # this counts as load only: a full backend is not sick
            elif error.about == "request":
                self.blame.refused(exchange, backend, now)
            elif error.missing and need.model is not None:
                backend.lacks(need.model)
                self._stale(backend)
        if need.conversation is not None:
            self._affinity.drop(need.conversation, backend.name)

    def _was_ejected(self, backend: Backend) -> None:
        delay = max(0.0, backend.health.ejected_until - monotonic())
        asyncio.get_running_loop().call_later(delay, self._changed)

    def _can_spare(self, backend: Backend, now: float) -> bool:
        """Return whether enough usable backends are left without `backend`; the last one is never ejected."""
        ejected = sum(other.health.state == "ejected" for other in self._backends if other is not backend)
        others = any(other.health.usable(now) for other in self._backends if other is not backend)
        return others and (ejected + 1) / len(self._backends) <= self._eject_share


def is_failure(error: UpstreamError) -> bool:
    """Return whether `error` may be a sign that the backend is sick.

    No such sign are: a full backend (503, maximum pending requests), a model that it does not have, an error about the
    content of the request, a request that could not be written, and a request that took the whole time it may take.
    """
    if isinstance(error, UpstreamAnswer):
        return error.status >= 500 and not error.busy and error.about != "request"
    return error.status >= 500 and not (isinstance(error, UpstreamTimeout) and error.timer == "total")


def is_silence(error: BaseException | None) -> bool:
    """Return whether `error` means that the backend gave no answer at all."""
    if isinstance(error, UpstreamTimeout):
        return error.timer != "total"
    return isinstance(error, ConnectFailed | ConnectionLost | BackendDown)


def word_for(error: BaseException | None) -> str | None:
    """Return the value of `Attempt.error` for an attempt that ended with `error`."""
    match error:
        case None:
            return None
        case UpstreamAnswer():
            if error.about == "request":
                return "content"
            if isinstance(error, ErrorRecord):
                return error.code
            return "busy" if error.busy else "missing" if error.missing else f"status_{error.status}"
        case ProxyError():
            return error.code
    return "cancelled"
