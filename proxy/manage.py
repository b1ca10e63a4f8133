"""Calls that change one host, where there are several: which one is meant must be said.

``/-/backends/gpu-1/api/pull`` says it in the path, so that ``OLLAMA_HOST=http://proxy/-/backends/gpu-1`` works with the
stock CLI; the header ``X-Ollama-Backend: gpu-1`` says it without. ``all`` is a name of its own, for pull.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Final, cast

import httpx
import orjson

from proxy.asgi import Header, Receive, Scope, Send
from proxy.backend import Backend
from proxy.dispatch import Dispatch
from proxy.errors import ProxyError, Refused, UpstreamError, render_record
from proxy.exchange import Exchange
from proxy.pool import Pool
from proxy.transport import translate

ALL: Final = "all"
NDJSON: Final = b"application/x-ndjson"
LONGEST_LINE: Final = 1 << 20


class Manage:
    """Passes on what names its backend, and answers 409 to what does not."""

    def __init__(self, pool: Pool, dispatch: Dispatch) -> None:
        self._pool = pool
        self._dispatch = dispatch

    def concerns(self, exchange: Exchange) -> bool:
        """Whether `exchange` changes a host, or the operator's account on one."""
        return exchange.route is not None and exchange.route.kind in ("manage", "account")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it to the backend that was named."""
        exchange = Exchange.of(scope)
        if exchange.pinned == ALL:
            await self._everywhere(exchange, send)
            return
        if exchange.pinned is None:
            raise _which_one(self._pool, scope["path"])
        await self._dispatch(scope, receive, send)

    async def _everywhere(self, exchange: Exchange, send: Send) -> None:
        """Pull on every backend at once; their progress is one stream, and it succeeds when all of them have."""
        if exchange.route is None or exchange.route.path != "/api/pull":
            raise Refused(409, "only a pull can be for all backends; name one of them", code="backend_required")
        body = await exchange.body()
        lines: asyncio.Queue[tuple[Backend, dict[str, object] | None]] = asyncio.Queue(maxsize=64)
        async with asyncio.TaskGroup() as group:
            for backend in self._pool.backends:
                group.create_task(_pull(backend, body, lines, self._pool.timeouts.idle))
            await self._merge(exchange, lines, send)

    async def _merge(
        self, exchange: Exchange, lines: "asyncio.Queue[tuple[Backend, dict[str, object] | None]]", send: Send
    ) -> None:
        failed: list[str] = []
        left = len(self._pool.backends)
        headers: list[Header] = [(b"content-type", NDJSON)]
        exchange.backend = ALL
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        while left:
            backend, line = await lines.get()
            if line is None:
                left -= 1
                self._pool.refresh(backend)
                continue
            if "error" in line:
                failed.append(f"{backend.name}: {line['error']}")
            elif line.get("status") != "success":
                record = orjson.dumps({**line, "backend": backend.name}) + b"\n"
                await send({"type": "http.response.body", "body": record, "more_body": True})
        if failed:
            last = render_record("ollama", ProxyError(502, "; ".join(failed), code="pull_failed"))
        else:
            last = orjson.dumps({"status": "success"}) + b"\n"
        exchange.terminated = True
        await send({"type": "http.response.body", "body": last, "more_body": False})


async def _pull(
    backend: Backend, body: bytes, lines: "asyncio.Queue[tuple[Backend, dict[str, object] | None]]", idle: float
) -> None:
    """Put each line of one backend's progress into `lines`, an error as a line of its own, and None behind the last."""
    finished = False
    try:
        async for line in _progress(backend, body, idle):
            finished = "error" in line or line.get("status") == "success"
            await lines.put((backend, line))
        if not finished:
            await lines.put((backend, {"error": "the progress ended before the pull did"}))
    except UpstreamError as error:
        await lines.put((backend, {"error": error.message}))
    await lines.put((backend, None))


async def _progress(backend: Backend, body: bytes, idle: float) -> AsyncIterator[dict[str, object]]:
    request = httpx.Request(
        "POST",
        backend.url,
        headers=[(b"host", backend.host), (b"content-length", b"%d" % len(body)), *backend.headers],
        stream=httpx.ByteStream(body),
        extensions={
            "target": b"/api/pull",
            "timeout": {"connect": 5.0, "first_byte": idle, "read": idle},
            "fresh": True,
        },
    )
    try:
        response = await backend.transport.handle_async_request(request)
        stream = cast(httpx.AsyncByteStream, response.stream)
        try:
            rest = b""
            async for chunk in stream:
                *whole, rest = (rest + chunk).split(b"\n")
                for line in filter(None, whole):
                    yield _line(line)
                if len(rest) > LONGEST_LINE:
                    yield {"error": "a line of its progress is too long"}
                    return
            if rest:
                yield _line(rest)
        finally:
            await stream.aclose()
    except (httpx.HTTPError, OSError) as error:
        raise translate(error) from error


def _line(text: bytes) -> dict[str, object]:
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError:
        found = None
    return found if isinstance(found, dict) else {"error": "its progress is not what Ollama sends"}


def _which_one(pool: Pool, path: str) -> Refused:
    first = pool.backends[0].name
    names = ", ".join(backend.name for backend in pool.backends)
    return Refused(
        409,
        f"there are several backends ({names}) and this changes one of them; name it in the path, "
        f"/-/backends/{first}{path}, or by the header X-Ollama-Backend: {first}",
        code="backend_required",
    )
