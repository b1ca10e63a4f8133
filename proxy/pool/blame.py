"""Decide whose fault a failed request was: the backend's, the request's, or undecided, on one caller's word.

==============================================  ====================================================================
what happened                                   whose fault
==============================================  ====================================================================
the backend could not be reached                the backend's
its error is about the content of the request   the request's: see `proxy.relay.error_classifier`
another backend served the same request         the backend's
another backend gave the same error             the request's, unless the error is about the host. The proxy remembers
                                                such an error. While it does, the error counts as the request's even
                                                where only one backend gives it, until another backend serves a request
                                                that got this error
no other backend was asked, or it failed too    undecided, one caller's word: see `proxy.pool.reputation`
==============================================  ====================================================================

So a failure is judged when the next attempt has its response, or at the end of the request. Until then a backend that
broke off, or that reported lack of memory or the like, is a suspect where more than one caller's word is against it. A
backend that returned an unknown error is no suspect: the error counts only as load, so that a backend which fails fast
does not attract every request. A request that names its backend is not attracted by load, so its failures are no load.

Where only one caller uses the proxy, nobody else can confirm a failure. Then the failure counts as proven as soon as
another backend serves this caller the same model, unless the request failed on two backends.

An ejected backend gets one request on trial. If the trial cannot reach it, it is ejected again at once. Any other
failure of the trial is judged as above, except that AGAIN failures are enough, and that a caller's word also loses
weight while other backends serve other callers: an ejected backend serves nobody who could speak for it.

A request that was sent and lost twice (the backend, or its runner, died with it) is sent to no backend any more: the
request may be what kills them.
"""

from collections.abc import Callable
from time import monotonic
from typing import Final

import structlog

from proxy.kernel import error_codes as codes
from proxy.kernel.attempts import broken
from proxy.kernel.errors import ConnectionLost, UpstreamAnswer, UpstreamError
from proxy.kernel.exchange import Exchange
from proxy.kernel.exchange_parts import BlamePart
from proxy.kernel.lru import Recent
from proxy.pool.backend import Backend
from proxy.pool.backend_failure import BackendFailure, failures_of
from proxy.pool.lease import Lease
from proxy.pool.reputation import Served
from proxy.pool.request_needs import need_of

ALIKE: Final = 64
"""Largest number of remembered errors that two backends gave alike."""
AGAIN: Final = 2
"""Failures that eject a backend again that has served nothing since its last ejection."""
WORDS: Final = 64
"""Largest number of callers and models, and of failures for each, that a later response may prove."""
SENDS: Final = 2
"""The number of times that a request may be sent and lost, the first time included."""

log = structlog.get_logger("ollama_proxy.pool")


class Blame:
    """Judges failures, and ejects backends.

    Args:
        spare: returns whether the pool can do without a backend at a time (seconds of the monotonic clock).
        ejected: called with each backend that was ejected.
    """

    def __init__(self, *, spare: Callable[[Backend, float], bool], ejected: Callable[[Backend], None]) -> None:
        self._spare = spare
        self._ejected = ejected
        self._alike: Recent[tuple[int, str], None] = Recent(ALIKE)  # errors that two backends gave alike
        self._served = Served()  # callers served by any backend
        self._words: dict[tuple[str, str], list[BackendFailure]] = {}  # by lone caller and model

    def served(self, exchange: Exchange, lease: Lease, now: float) -> None:
        """Note a whole response. It clears the backend only if a model ran: a sick backend can still list models."""
        backend, caller, model = lease.backend, exchange.caller, lease.model
        if not lease.served or model is None:
            if backend.health.state == "down":
                backend.health.request_succeeded(now, lease.began)
            return
        backend.health.request_succeeded(now, lease.began)
        backend.reputation.served(caller, now)
        self._served.note(caller, now)
        if self._words:
            self._prove(caller, model, backend, now)

    def refused(self, exchange: Exchange, backend: Backend, now: float) -> None:
        """Note an error about the content of the request: it counts as load, and is not the backend's fault."""
        self._weigh(exchange, backend, now)

    def failed(self, exchange: Exchange, lease: Lease, error: UpstreamError, now: float) -> None:
        """Note a failure that may be the backend's fault; set `error.spent` if the request may not be sent again."""
        backend, health = lease.backend, lease.backend.health
        backend.last_error = error.detail
        lost = isinstance(error, ConnectionLost)
        if not error.sent and not error.received:
            if not lost:  # else the backend had closed this idle connection already
                self._unreached(exchange, backend, error, now, trial=lease.trial)
            return
        failure = self._note(exchange, backend, error, now)
        stale = isinstance(error, ConnectionLost) and error.reused  # the backend may have closed the connection as idle
        if not stale:
            self._weigh(exchange, backend, now)
        if not stale and failure.said is None and backend.reputation.dubious(exchange.caller, now):
            exchange.part(BlamePart).doubted |= {failure}
            health.request_failed(now, error.detail)
        if failure.broke:
            _spend(exchange, error)

    def lost(self, exchange: Exchange, backend: Backend, error: ConnectionLost) -> None:
        """Count a send that was lost on a reused connection; the request is sent again at once and has not failed."""
        exchange.part(BlamePart).settled |= {self._note(exchange, backend, error, monotonic())}

    def check(self, exchange: Exchange) -> None:
        """Raise ConnectionLost for a request that was lost too often to be sent once more."""
        if len(broken(exchange.failed)) >= SENDS:
            error = ConnectionLost("the backends broke off without an answer", sent=True, reused=False)
            _spend(exchange, error, tell=False)
            raise error

    def answered(self, exchange: Exchange, backend: Backend, status: int) -> None:
        """Judge the earlier failures of a request, now that `backend` answers it with `status`."""
        model, now = need_of(exchange).model, monotonic()
        for failure in unsettled(exchange):
            if failure.host is backend or failure.model != model:
                continue
            if status < 400:
                self._count(exchange, failure, now, proven=True)
            elif failure.said is not None:  # two backends object to the request
                self._forgive(exchange, failure, now)

    def settle(self, exchange: Exchange) -> None:
        """Judge the failures that are left at the end of a request."""
        now = monotonic()
        for failure in unsettled(exchange):
            if failure.said is not None and self._is_alike(failure, exchange):
                self._forgive(exchange, failure, now)
            else:
                self._count(exchange, failure, now, proven=False)

    def _forgive(self, exchange: Exchange, failure: BackendFailure, now: float) -> None:
        noted = exchange.part(BlamePart)
        noted.settled |= {failure}
        if failure in noted.doubted:
            failure.host.health.absolve(now, failure.at)

    def _is_alike(self, failure: BackendFailure, exchange: Exchange) -> bool:
        """Return whether another backend gave the same error, to this request or to a remembered earlier one."""
        said = failure.said
        alike = any(other.said == said and other.host is not failure.host for other in failures_of(exchange))
        if said is None or not (alike or said in self._alike):
            return False
        self._alike.note(said, None)
        return True

    def _note(self, exchange: Exchange, backend: Backend, error: UpstreamError, now: float) -> BackendFailure:
        answer = error if isinstance(error, UpstreamAnswer) else None
        failure = BackendFailure(
            backend=backend.name,
            host=backend,
            model=need_of(exchange).model,
            reason=error.detail,
            said=None if answer is None else answer.answer,
            broke=isinstance(error, ConnectionLost) if answer is None else answer.about == "crash",
            at=now,
        )
        if not exchange.failed:
            exchange.on_finish(self.settle)
        exchange.part(BlamePart).failed += (failure,)
        return failure

    def _unreached(
        self, exchange: Exchange, backend: Backend, error: UpstreamError, now: float, *, trial: bool
    ) -> None:
        self._weigh(exchange, backend, now)
        backend.health.request_failed(now, error.detail)
        if trial and backend.health.state == "ejected":
            self._eject(backend, f"not reached when it was tried again: {error.detail}", now)
        elif not _is_out(backend, now):
            backend.reputation.unreached()
            self._judge(backend, error.detail, now)

    def _weigh(self, exchange: Exchange, backend: Backend, now: float) -> None:
        if exchange.pinned is None:
            backend.failed(now)

    def _count(self, exchange: Exchange, failure: BackendFailure, now: float, *, proven: bool) -> None:
        noted = exchange.part(BlamePart)
        noted.settled |= {failure}
        backend, caller = failure.host, exchange.caller
        if _is_out(backend, failure.at) or not backend.reputation.failed(caller, failure.at, proven=proven):
            return
        if proven and failure.said is not None:
            self._alike.pop(failure.said, None)
        if failure not in noted.doubted and backend.reputation.dubious(caller, now):
            backend.health.request_failed(now, failure.reason)
        self._judge(backend, failure.reason, now)
        alone = not self._served.others(caller, now)
        if alone and not proven and failure.model is not None and len({one.host for one in failures_of(exchange)}) == 1:
            self._keep(caller, failure.model, failure)

    def _keep(self, caller: str, model: str, failure: BackendFailure) -> None:
        words = self._words.setdefault((caller, model), [])
        words.append(failure)
        if len(words) > WORDS:
            del words[0]
        if len(self._words) > WORDS:
            del self._words[next(iter(self._words))]

    def _prove(self, caller: str, model: str, backend: Backend, now: float) -> None:
        """Count as proven what failed elsewhere for a caller who is alone, as `backend` serves it the same model."""
        for failure in self._words.pop((caller, model), ()):
            host = failure.host
            if host is not backend and not self._served.others(caller, now):
                host.reputation.proven(caller)
                self._judge(host, failure.reason, now)

    def _judge(self, backend: Backend, reason: str, now: float) -> None:
        health, reputation = backend.health, backend.reputation
        if health.state == "down" or _is_out(backend, now):
            return
        tried = health.state == "ejected"
        enough = min(AGAIN, health.rules.eject_after) if tried else health.rules.eject_after
        weight = reputation.weight(enough, now, elsewhere=self._served if tried else None)
        if weight >= enough and self._spare(backend, now):
            self._eject(
                backend, f"failed {reputation.failures} requests and served none since, the last: {reason}", now
            )

    def _eject(self, backend: Backend, reason: str, now: float) -> None:
        backend.health.eject(now, reason)
        backend.reputation.forget()
        self._ejected(backend)


def unsettled(exchange: Exchange) -> list[BackendFailure]:
    """Return the failures of a request that are not judged yet, the earliest first."""
    settled = exchange.part(BlamePart).settled
    return [failure for failure in failures_of(exchange) if failure not in settled]


def _is_out(backend: Backend, at: float) -> bool:
    """Return whether `backend` was ejected and not on trial yet at that time: such a failure is no news."""
    return backend.health.state == "ejected" and at < backend.health.ejected_until


def _spend(exchange: Exchange, error: UpstreamError, *, tell: bool = True) -> None:
    """Set `error.spent` where a request was lost SENDS times; report it as poison where two backends broke."""
    names = broken(exchange.failed)
    if len(names) < SENDS:
        return
    error.spent = True
    hosts = list(dict.fromkeys(names))
    if len(hosts) < SENDS:
        return
    error.code = codes.SUSPECTED_POISON
    if isinstance(error, ConnectionLost):
        error.message = (
            f"the backends {' and '.join(hosts)} broke off without an answer when they got this request, one after the "
            "other; it is sent to no other one, as it may be what breaks them: change it before you try again"
        )
    if not tell:
        return
    model = exchange.model
    log.warning(
        "suspected_poison",
        request_id=exchange.id,
        identity=exchange.identity,
        client_address=exchange.client,
        model=None if model is None else model.short,
        backends=hosts,
        error=error.detail,
    )
