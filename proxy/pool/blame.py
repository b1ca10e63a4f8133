"""Whose fault a failed request was: the backend's, the request's, or one caller's word against the backend's.

==============================================  ====================================================================
what happened                                   whose fault
==============================================  ====================================================================
the backend was not reached                     the backend's
its error is about the content of the request   the request's: see `proxy.relay.error_answers`
another backend answered the same request       the backend's
another backend gave the same error             the request's, unless the error is about the host. The proxy remembers
                                                the error, and takes it for the request's when only one backend gives
                                                it, until one backend gives it and another answers the same request
nobody else was asked, or failed otherwise      one caller's word: see `proxy.pool.reputation`
==============================================  ====================================================================

So a failure is judged when the next attempt has its answer, or at the end of the request. Until then a backend that
broke off, or said that it lacks memory or the like, is a suspect where more than one caller's word is against it, and
one that answered an error nobody knows is not: only the load counts, so that one which fails fast does not draw
everything to it. A request that names its backend is not drawn to it, so its failures are no load.

Where one caller is all alone, no other word can be had. Then what failed counts as proven as soon as another backend
serves that caller the same model, unless the request failed on two backends.

An ejected backend on trial that is not reached is ejected again at once. Any other failure of the trial is judged as
above, but AGAIN of them are enough, and whom other backends served speaks against a caller too: the ejected one serves
nobody who could.

A request at which two sends were lost (the backend, or its runner, died with it) is sent nowhere any more: it may be
what kills them.
"""

from collections.abc import Callable
from time import monotonic
from typing import Final, cast

import structlog

from proxy.kernel.attempts import Failure, broken
from proxy.kernel.errors import ConnectionLost, UpstreamAnswer, UpstreamError
from proxy.kernel.exchange import Exchange
from proxy.kernel.exchange_parts import BlamePart
from proxy.kernel.recent import Recent
from proxy.pool.backend import Backend
from proxy.pool.lease import Lease
from proxy.pool.need import need_of
from proxy.pool.reputation import Served

ALIKE: Final = 64
"""Errors that are remembered because two backends gave them."""
AGAIN: Final = 2
"""Failures that eject a backend anew which was ejected and has not served since."""
WORDS: Final = 64
"""Failures, of so many callers and models, that the next answer of another backend may prove."""
SENDS: Final = 2
"""How many times a request may be sent and lost in all."""

log = structlog.get_logger("ollama_proxy.pool")


class Blame:
    """Learns from failures, and ejects backends.

    Args:
        spare: whether the pool can do without a backend at that time.
        ejected: called with a backend that was ejected.
    """

    def __init__(self, *, spare: Callable[[Backend, float], bool], ejected: Callable[[Backend], None]) -> None:
        self._spare = spare
        self._ejected = ejected
        self._alike: Recent[tuple[int, str], None] = Recent(ALIKE)  # errors that two backends gave, the latest last
        self._served = Served()  # by any backend
        self._words: dict[tuple[str, str], list[Failure]] = {}  # what a caller who was alone said about a model

    def served(self, exchange: Exchange, lease: Lease, now: float) -> None:
        """Note that a backend answered to the end. Only where it ran a model that says much: a sick one can list."""
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
        """Note an error about the content of the request: no fault of the backend's, but load as any failure."""
        self._weigh(exchange, backend, now)

    def failed(self, exchange: Exchange, lease: Lease, error: UpstreamError, now: float) -> None:
        """Note a failure that may be the backend's, and say at `error` if the request may be sent nowhere any more."""
        backend, health = lease.backend, lease.backend.health
        backend.last_error = error.detail
        lost = isinstance(error, ConnectionLost)
        if not error.sent and not error.received:
            if not lost:  # else it was a connection at rest that the backend had closed already
                self._unreached(exchange, backend, error, now, trial=lease.trial)
            return
        failure = self._note(exchange, backend, error, now)
        stale = isinstance(error, ConnectionLost) and error.reused  # it may have been closed for being at rest
        if not stale:
            self._weigh(exchange, backend, now)
        if not stale and failure.said is None and backend.reputation.dubious(exchange.caller, now):
            exchange.part(BlamePart).doubted |= {failure}
            health.request_failed(now, error.detail)
        if failure.broke:
            _spend(exchange, error)

    def lost(self, exchange: Exchange, backend: Backend, error: ConnectionLost) -> None:
        """Note that a request was lost on a kept connection and is sent again at once: no failure yet, but a send."""
        exchange.part(BlamePart).settled |= {self._note(exchange, backend, error, monotonic())}

    def check(self, exchange: Exchange) -> None:
        """Raise ConnectionLost for a request that was lost too often to be sent again, whoever wants to."""
        if len(broken(exchange.failed)) >= SENDS:
            error = ConnectionLost("the backends broke off without an answer", sent=True, reused=False)
            _spend(exchange, error, tell=False)
            raise error

    def answered(self, exchange: Exchange, backend: Backend, status: int) -> None:
        """Judge the failures before an answer of `backend` that has begun with `status`."""
        model, now = need_of(exchange).model, monotonic()
        noted = exchange.part(BlamePart)
        for failure in noted.failed:
            if failure in noted.settled or failure.host is backend or failure.model != model:
                continue
            if status < 400:
                self._count(exchange, failure, now, proven=True)
            elif failure.said is not None:  # two backends find something wrong with it
                self._forgive(noted, failure, now)

    def settle(self, exchange: Exchange) -> None:
        """Judge what is left at the end of a request."""
        now = monotonic()
        noted = exchange.part(BlamePart)
        for failure in noted.failed:
            if failure in noted.settled:
                continue
            if failure.said is not None and self._is_alike(failure, exchange):
                self._forgive(noted, failure, now)
            else:
                self._count(exchange, failure, now, proven=False)

    def _forgive(self, noted: BlamePart, failure: Failure, now: float) -> None:
        noted.settled |= {failure}
        if failure in noted.doubted:
            cast(Backend, failure.host).health.absolve(now, failure.at)

    def _is_alike(self, failure: Failure, exchange: Exchange) -> bool:
        """Whether another backend gave the same error: to this request, or to one before which was asked of two."""
        said = failure.said
        alike = any(other.said == said and other.host is not failure.host for other in exchange.failed)
        if said is None or not (alike or said in self._alike):
            return False
        self._alike.note(said, None)
        return True

    def _note(self, exchange: Exchange, backend: Backend, error: UpstreamError, now: float) -> Failure:
        answer = error if isinstance(error, UpstreamAnswer) else None
        failure = Failure(
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

    def _count(self, exchange: Exchange, failure: Failure, now: float, *, proven: bool) -> None:
        noted = exchange.part(BlamePart)
        noted.settled |= {failure}
        backend, caller = cast(Backend, failure.host), exchange.caller
        if _is_out(backend, failure.at) or not backend.reputation.failed(caller, failure.at, proven=proven):
            return
        if proven and failure.said is not None:
            self._alike.pop(failure.said, None)
        if failure not in noted.doubted and backend.reputation.dubious(caller, now):
            backend.health.request_failed(now, failure.reason)
        self._judge(backend, failure.reason, now)
        alone = not self._served.others(caller, now)
        if alone and not proven and failure.model is not None and len({one.host for one in exchange.failed}) == 1:
            self._keep(caller, failure.model, failure)

    def _keep(self, caller: str, model: str, failure: Failure) -> None:
        words = self._words.setdefault((caller, model), [])
        words.append(failure)
        if len(words) > WORDS:
            del words[0]
        if len(self._words) > WORDS:
            del self._words[next(iter(self._words))]

    def _prove(self, caller: str, model: str, backend: Backend, now: float) -> None:
        """Count what failed for a caller who is alone as proven, as `backend` serves that caller the same model."""
        for failure in self._words.pop((caller, model), ()):
            host = cast(Backend, failure.host)
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


def _is_out(backend: Backend, at: float) -> bool:
    """Whether it was ejected and not yet to be tried again at that time: what it failed then is no news."""
    return backend.health.state == "ejected" and at < backend.health.ejected_until


def _spend(exchange: Exchange, error: UpstreamError, *, tell: bool = True) -> None:
    """Let a request that was lost often enough be sent nowhere any more, and say so where it broke two backends."""
    names = broken(exchange.failed)
    if len(names) < SENDS:
        return
    error.spent = True
    hosts = list(dict.fromkeys(names))
    if len(hosts) < SENDS:
        return
    error.code = "suspected_poison"
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
