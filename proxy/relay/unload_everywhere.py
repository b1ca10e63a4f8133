"""Unload a model on every backend that may have it in memory: one answer for all of them.

`ollama stop` names no host, and a model may be in the memory of several.
"""

import asyncio
from dataclasses import replace
from typing import Final, NamedTuple

from proxy.kernel.asgi import Receive, Scope, Send, respond
from proxy.kernel.errors import BadAnswer, Refused, UnloadFailed, UpstreamAnswer, UpstreamError, let_go
from proxy.kernel.exchange import Exchange
from proxy.kernel.exchange_parts import RelayPart
from proxy.kernel.load_or_unload import bare_member
from proxy.kernel.routes import ALL, Match
from proxy.pool.backend import Backend
from proxy.pool.pool import Pool
from proxy.pool.request_needs import need_of
from proxy.relay.answer_stream import commit
from proxy.relay.backend_answer import ERROR_BODY, BackendAnswer, open_answer
from proxy.relay.backend_request import Body, backend_request, read_body
from proxy.relay.error_classifier import text_of
from proxy.relay.hop_headers import via_names

REASON: Final = "unload"
"""The log's `reason` for a request that went to every backend with the model."""
AT_ONCE: Final = 10.0
"""Most seconds that a backend may take to answer an unload, unless it loads the model: Ollama waits for nothing else.
So one that is frozen does not hold up the answer of the others."""


class _Told(NamedTuple):
    """What one backend answered: an answer with its whole body, or an error."""

    backend: Backend
    answer: BackendAnswer | None = None
    body: bytes = b""
    error: UpstreamError | None = None


class UnloadEverywhere:
    """Passes an unload on to every backend that may have the model in memory.

    Args:
        pool: holds the backends.
        pseudonym: the name of this process in the Via field.
    """

    def __init__(self, pool: Pool, *, pseudonym: str) -> None:
        self._pool = pool
        self._via = pseudonym.encode("latin-1")

    async def concerns(self, exchange: Exchange) -> bool:
        """Return whether the request unloads a model on several backends; reads its body where it may be one."""
        if exchange.pinned is not None or bare_member(exchange.route) is None:
            return False
        if via_names(exchange.scope["headers"], self._via):  # it came back, which dispatch refuses
            return False
        await exchange.body()
        return need_of(exchange).only == "unload" and bool(self.backends(exchange))

    def backends(self, exchange: Exchange) -> list[Backend]:
        """Return the backends to tell: those that are not down and have, or may have, the model.

        What is in memory is known only as of the last probe, and a backend without it answers just the same.
        """
        model = need_of(exchange).model
        return [
            backend
            for backend in self._pool.backends
            if backend.health.state != "down" and backend.has(model) is not False
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Tell them all, and answer as one of them did; raises UpstreamError where one failed."""
        exchange = Exchange.of(scope)
        match, model = exchange.match, need_of(exchange).model
        assert isinstance(match, Match) and model is not None  # noqa: S101, PT018 (`concerns` has seen both)
        backends = self.backends(exchange)
        body = await read_body(exchange, match, receive)
        noted = exchange.part(RelayPart)
        for backend in backends:
            noted.sent_to(backend.name, REASON)
        if len(backends) > 1:
            noted.backend = ALL
        told = await asyncio.gather(*(self._tell(backend, exchange, match, body, model) for backend in backends))
        answers = [one for one in told if one.answer is not None]
        done = [one for one in answers if one.answer is not None and one.answer.status < 400]
        failed = [one for one in told if one not in done and not _has_none(one)]
        if failed and (done or len(answers) < len(failed)):
            raise _failure(exchange, failed, done)
        if not answers:  # none has the model, and each said so
            raise told[0].error or Refused(404, "no backend has the model")
        await _respond(exchange, (done or answers)[0], send)

    async def _tell(self, backend: Backend, exchange: Exchange, match: Match, body: Body, model: str) -> _Told:
        timeouts = self._pool.timeouts
        if model in backend.loading:  # Ollama ends the load first
            timeouts = timeouts.for_cold()
        else:
            timeouts = replace(timeouts, first_byte=min(AT_ONCE, timeouts.first_byte))
        request = backend_request(exchange, match, backend, body, via=self._via, timeouts=timeouts)
        with self._pool.hold(backend) as lease:
            try:
                answer = await open_answer(exchange, lease, request, match.route, self._pool.blame)
                try:
                    whole = await _read(answer)
                finally:
                    await answer.stream.aclose()
            except UpstreamError as error:
                let_go(error)
                error.at(backend.name)
                self._pool.outcomes.touch(backend)
                return _Told(backend, error=error)
        if answer.status < 400:
            self._pool.outcomes.unloaded(backend, model)
        return _Told(backend, answer, whole)


async def _read(answer: BackendAnswer) -> bytes:
    whole, chunk = bytearray(), answer.chunk
    while chunk:
        whole += chunk
        if len(whole) > ERROR_BODY:
            raise BadAnswer(f"the answer to an unload is longer than {ERROR_BODY} bytes", sent=True, received=True)
        chunk = await answer.read()
    return bytes(whole)


def _has_none(one: _Told) -> bool:
    """Return whether a backend said that it does not have the model: then it has not got it in memory either."""
    return isinstance(one.error, UpstreamAnswer) and one.error.missing


def _failure(exchange: Exchange, failed: list[_Told], done: list[_Told]) -> UnloadFailed:
    """Return the error that says which backends failed, and which did not."""
    model = exchange.model.short if exchange.model is not None else "the model"
    reasons = "; ".join(f"{one.backend.name}: {_reason(one)}" for one in failed)
    names = ", ".join(one.backend.name for one in done)
    error = UnloadFailed(
        f"{model} may still be in memory, as not every backend unloaded it: {reasons}"
        + (f" (unloaded at {names})" if names else ""),
        sent=True,
        received=True,
    )
    error.at(", ".join(one.backend.name for one in failed))
    return error


def _reason(one: _Told) -> str:
    """Return what a backend said, or else what went wrong."""
    if one.answer is not None:
        return text_of(one.body) or f"it answered {one.answer.status}"
    said = text_of(one.error.body) if isinstance(one.error, UpstreamAnswer) else None
    return said or (one.error.message if one.error is not None else "")


async def _respond(exchange: Exchange, told: _Told, send: Send) -> None:
    assert told.answer is not None  # noqa: S101 (only an answer gets here)
    commit(exchange)
    await respond(send, told.answer.status, told.answer.headers, told.body)
