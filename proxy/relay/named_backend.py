"""Requests that change one backend, where there are several: the caller must name the backend.

``/-/backends/gpu-1/api/pull`` names it in the path, so that ``OLLAMA_HOST=http://proxy/-/backends/gpu-1`` works with
the stock CLI. The header ``X-Ollama-Backend: gpu-1`` does the same. In pulls, ``all`` stands for every backend.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final, cast

import httpx
import orjson

from proxy.kernel import error_codes as codes
from proxy.kernel import json_bounds
from proxy.kernel.asgi import UNBUFFERED, Header, Receive, Scope, Send, respond, start_response
from proxy.kernel.errors import ERROR_CODE, JSON, PullFailed, Refused, UpstreamError
from proxy.kernel.exchange import Exchange
from proxy.kernel.exchange_parts import RelayPart
from proxy.kernel.routes import ALL, Match
from proxy.pool.backend import Backend
from proxy.pool.pool import Pool
from proxy.relay.answer_stream import commit
from proxy.relay.dispatch import Dispatch
from proxy.upstream.failures import translated
from proxy.upstream.timeouts import Timeouts

NDJSON: Final = b"application/x-ndjson"
LONGEST_LINE: Final = 1 << 20

Line = dict[str, object]
Lines = asyncio.Queue[tuple[Backend, Line | None]]


class NamedBackend:
    """Passes a request to the backend that it names; raises Refused (409) where it names none."""

    def __init__(self, pool: Pool, dispatch: Dispatch) -> None:
        self._pool = pool
        self._dispatch = dispatch

    def concerns(self, exchange: Exchange) -> bool:
        """Return whether the request changes a backend, or the operator's account on one."""
        return exchange.route is not None and exchange.route.kind in ("manage", "account")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the request to the backend that it names, or to all of them."""
        exchange = Exchange.of(scope)
        self.check(exchange)
        if exchange.pinned == ALL:
            await self._everywhere(exchange, send)
        else:
            await self._dispatch(scope, receive, send)

    def check(self, exchange: Exchange) -> None:
        """Raise Refused (409) where the request does not say which backend it is for."""
        if exchange.pinned is None:
            raise _which_one(self._pool, exchange.scope["path"])
        if exchange.pinned == ALL and (exchange.route is None or not exchange.route.everywhere):
            raise Refused(409, "only a pull can be for all backends; name one of them", code=codes.BACKEND_REQUIRED)

    async def _everywhere(self, exchange: Exchange, send: Send) -> None:
        """Pull on every backend at once, and merge their progress; the pull succeeds where all of them succeed."""
        body = await exchange.body()
        target = exchange.match.target if isinstance(exchange.match, Match) else b""
        backends = tuple(self._pool.backends)
        lines: Lines = asyncio.Queue(maxsize=64)
        noted = exchange.part(RelayPart)
        noted.backend, noted.attempts, noted.committed = ALL, len(backends), True  # a pull is never retried
        async with asyncio.TaskGroup() as group:
            for backend in backends:
                group.create_task(self._pull(backend, target, body, lines))
            merged = _merged(lines, len(backends))
            if exchange.stream:
                await _relay(exchange, merged, send)
            else:
                await _answer(exchange, merged, send)

    async def _pull(self, backend: Backend, target: bytes, body: bytes, lines: Lines) -> None:
        """Put each line of one backend's progress into `lines`, an error as a line of its own, and None at the end."""
        finished = False
        with self._pool.hold(backend):
            try:
                async with aclosing(_progress(backend, target, body, self._pool.timeouts)) as progress:
                    async for line in progress:
                        finished = "error" in line or line.get("status") == "success"
                        await lines.put((backend, line))
                if not finished:
                    await lines.put((backend, {"error": "the progress ended before the pull did"}))
            except UpstreamError as error:
                await lines.put((backend, {"error": error.message}))
            finally:
                self._pool.outcomes.touch(backend)
        await lines.put((backend, None))


async def _merged(lines: Lines, left: int) -> AsyncGenerator[Line, None]:
    """Yield the merged progress of `left` backends; the last line says that all succeeded, or which ones failed."""
    failed: list[str] = []
    while left:
        backend, line = await lines.get()
        if line is None:
            left -= 1
        elif "error" in line:
            failed.append(f"{backend.name}: {line['error']}")
        elif line.get("status") != "success":
            yield {**line, "backend": backend.name}
    yield {"error": "; ".join(failed), "code": codes.PULL_FAILED} if failed else {"status": "success"}


async def _relay(exchange: Exchange, merged: AsyncGenerator[Line, None], send: Send) -> None:
    """Send each line as it comes; the response begins with the first line."""
    noted = exchange.part(RelayPart)
    async with aclosing(merged):
        async for line in merged:
            if noted.first_byte_at is None:
                commit(exchange)
                await start_response(send, 200, [(b"content-type", NDJSON), UNBUFFERED])
            last = "error" in line or line.get("status") == "success"
            noted.terminated = last
            if "error" in line:
                noted.failure = PullFailed(str(line["error"]), sent=True, received=True)
            await send({"type": "http.response.body", "body": orjson.dumps(line) + b"\n", "more_body": not last})


async def _answer(exchange: Exchange, merged: AsyncGenerator[Line, None], send: Send) -> None:
    """Answer a request that wants no stream with the last line, as Ollama does."""
    async with aclosing(merged):
        async for line in merged:
            last = line
    body = orjson.dumps(last)
    headers: list[Header] = [(b"content-type", JSON), (b"content-length", b"%d" % len(body))]
    commit(exchange)
    status = 200
    if "error" in last:
        status = 500
        exchange.part(RelayPart).failure = PullFailed(str(last["error"]), sent=True, received=True)
        headers.append((ERROR_CODE, codes.PULL_FAILED.encode()))
    await respond(send, status, headers, body)


async def _progress(backend: Backend, target: bytes, body: bytes, timeouts: Timeouts) -> AsyncGenerator[Line, None]:
    request = httpx.Request(
        "POST",
        backend.url,
        headers=[(b"host", backend.host), (b"content-length", b"%d" % len(body)), *backend.headers],
        stream=httpx.ByteStream(body),
        extensions={
            "target": target,
            "timeout": timeouts,
            "fresh": True,
        },
    )
    with translated():
        response = await backend.transport.handle_async_request(request)
        stream = cast(httpx.AsyncByteStream, response.stream)
        try:
            rest = bytearray()  # the beginning of a line that is not complete
            async for chunk in stream:
                whole, newline, begun = chunk.rpartition(b"\n")
                if newline:
                    rest += whole
                    for line in filter(None, bytes(rest).split(b"\n")):
                        yield _line(line)
                    rest.clear()
                rest += begun
                if len(rest) > LONGEST_LINE:
                    yield {"error": "a line of its progress is too long"}
                    return
            if rest:
                yield _line(bytes(rest))
        finally:
            await stream.aclose()


def _line(text: bytes) -> dict[str, object]:
    try:
        found = json_bounds.loads(text)
    except ValueError:
        found = None
    return found if isinstance(found, dict) else {"error": "its progress is not what Ollama sends"}


def _which_one(pool: Pool, path: str) -> Refused:
    first = pool.backends[0].name
    names = ", ".join(backend.name for backend in pool.backends)
    return Refused(
        409,
        f"there are several backends ({names}) and this changes one of them; name it in the path, "
        f"/-/backends/{first}{path}, or by the header X-Ollama-Backend: {first}",
        code=codes.BACKEND_REQUIRED,
    )
