"""The innermost ASGI app: lease a backend, send the request, relay the answer.

The commit point is here: the first chunk of an answer is in hand before ``http.response.start`` goes out. Until then
every failure is raised and can still be retried or answered with a real status; afterwards nothing is retried, and a
stream that breaks ends broken.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Final, cast

import httpx

from proxy.kernel import error_codes as codes
from proxy.kernel.asgi import Header, Receive, Scope, Send, header, without
from proxy.kernel.errors import (
    BadAnswer,
    ClientGone,
    NotRouted,
    ProxyError,
    Refused,
    Truncated,
    UpstreamAnswer,
    UpstreamError,
    UpstreamTimeout,
    let_go,
    render_record,
)
from proxy.kernel.exchange import Exchange, Usage
from proxy.kernel.routes import Match, NoMatch, Route
from proxy.kernel.server_extensions import gone_because
from proxy.kernel.services import Scheduler
from proxy.pool.lease import Lease
from proxy.pool.need import need_of
from proxy.pool.pool import Pool, Timeouts
from proxy.relay.ending import Ending, Format, Tail, format_of
from proxy.relay.error_answers import error_answer
from proxy.relay.hop_headers import downstream_headers, upstream_headers, via_names
from proxy.upstream.answer import Answer
from proxy.upstream.failures import Caught, translated, unbegun
from proxy.upstream.sending import at_once
from proxy.upstream.sending import send as send_once_more

ERROR_BODY: Final = 64 * 1024
"""Error answers that another backend might better are held back whole; longer ones do not exist in Ollama."""
LAST_WORD: Final = 1.0
"""Seconds that a client may take to read why its stream breaks off."""

_WORTH_ANOTHER_TRY: Final = frozenset({500, 502, 503, 504})
_BODILESS: Final = frozenset({204, 304})
"""What a length says in these is no length of theirs (RFC 9110, section 8.6), and uvicorn would wait for a body."""
_LENGTH: Final = frozenset({b"content-length"})

Read = Callable[[], Awaitable[bytes]]


@dataclass(slots=True)
class _Answer:
    """A backend's answer up to its first chunk."""

    status: int
    headers: list[Header]
    chunk: bytes
    read: Read
    stream: httpx.AsyncByteStream
    layout: Format


class Dispatch:
    """Relays one request to one backend.

    Args:
        pool: where the backends are.
        timeouts: how long each part of a request may take.
        pseudonym: how this process calls itself in Via; a request that brings it back is a loop.
        scheduler: where further attempts wait of requests that came through the queue.
    """

    def __init__(self, pool: Pool, timeouts: Timeouts, *, pseudonym: str, scheduler: Scheduler | None = None) -> None:
        self._pool = pool
        self._scheduler = scheduler
        self._via = pseudonym.encode("latin-1")
        self._total = timeouts.total
        self._warm = {
            "connect": timeouts.connect,
            "first_byte": timeouts.first_byte,
            "read": timeouts.idle,
            "write": timeouts.write,
            "pool": timeouts.connect,
        }
        self._cold = {**self._warm, "first_byte": timeouts.load}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request from a backend; raises UpstreamError before the commit point, Truncated behind it."""
        exchange = Exchange.of(scope)
        match = exchange.match
        if isinstance(match, NoMatch):
            raise not_routed(match, scope)
        if via_names(scope["headers"], self._via):
            raise Refused(508, "this request came from this proxy: a backend or a proxy behind it points back here")
        body: httpx.AsyncByteStream
        framing: Header | None
        if match.route.body == "raw":
            body, framing = _Upload(receive), _framing_of(scope)
        else:
            body, size = await _read(exchange, receive)
            framing = (b"content-length", b"%d" % size) if size or scope["method"] == "POST" else None
        if exchange.failed:
            self._pool.blame.check(exchange)
        deadline = self._deadline(exchange, match.route)
        with await self._lease(exchange) as lease:
            _note(exchange, lease)
            request = self._request(exchange, match, lease, framing, body)
            try:
                answer = await self._open(exchange, lease, request, match.route, deadline)
                del request, body  # it was sent; the answer may go on for an hour
                try:
                    if exchange.failed:
                        self._pool.blame.answered(exchange, lease.backend, answer.status)
                    lease.first_byte(served=answer.status < 400, streamed=exchange.stream)
                    await self._relay(exchange, answer, send, deadline)
                finally:
                    await answer.stream.aclose()
            except BaseException as error:
                if isinstance(error, UpstreamError):
                    error.at(lease.backend.name)
                self._pool.finished(exchange, lease, error)
                raise
            self._pool.finished(exchange, lease, None)

    async def _lease(self, exchange: Exchange) -> Lease:
        """Return the lease that the queue got for this request; one of now for those that do not queue."""
        if self._scheduler is None or exchange.ticket is None:
            return self._pool.lease(exchange)
        lease, exchange.lease = cast(Lease | None, exchange.lease), None
        if lease is not None and lease.need != need_of(exchange):
            lease.give_back()  # another model stands in for the one that it was got for
            lease = None
        if lease is None:
            await self._scheduler.again(exchange)
            lease, exchange.lease = cast(Lease, exchange.lease), None
        return lease

    def _deadline(self, exchange: Exchange, route: Route) -> float | None:
        """Return when the answer has to be complete; a pull or an upload takes as long as it takes."""
        if route.kind == "manage":
            return None
        return asyncio.get_running_loop().time() + self._total - (time.monotonic() - exchange.started_at)

    def _timeouts(self, exchange: Exchange, lease: Lease) -> Mapping[str, float]:
        if lease.cold:
            return self._cold  # a load that was given up would only be begun again elsewhere
        if exchange.hurry is not None and exchange.hurry < self._warm["first_byte"] and self._pool.untried(exchange):
            return {**self._warm, "first_byte": exchange.hurry}
        return self._warm

    def _request(
        self, exchange: Exchange, match: Match, lease: Lease, framing: Header | None, body: httpx.AsyncByteStream
    ) -> httpx.Request:
        scope, backend = exchange.scope, lease.backend
        headers = upstream_headers(
            scope,
            host=backend.host,
            via=self._via,
            client=exchange.client,
            request_id=exchange.id,
            added=backend.headers,
        )
        if framing is not None:
            headers.append(framing)
        extensions = {
            "target": match.target,
            "timeout": self._timeouts(exchange, lease),
            "fresh": match.route.repeat == "never" or bool(exchange.failed),
        }
        return httpx.Request(scope["method"], backend.url, headers=headers, stream=body, extensions=extensions)

    async def _open(
        self, exchange: Exchange, lease: Lease, request: httpx.Request, route: Route, deadline: float | None
    ) -> _Answer:
        """Send `request` and wait for the first chunk; an error answer that may be better elsewhere is raised."""
        try:
            async with asyncio.timeout_at(deadline):
                repeat = partial(at_once, exchange, route)
                lost = partial(self._pool.blame.lost, exchange, lease.backend)
                response = await send_once_more(lease.backend.transport, request, repeat=repeat, lost=lost)
                stream = cast(httpx.AsyncByteStream, response.stream)
                try:
                    with translated(received=True):
                        headers = downstream_headers(response.headers.raw)
                        read = _reader(stream)
                        chunk = await read()
                        status = response.status_code
                        if status in _BODILESS:
                            headers = without(headers, _LENGTH)
                        if not chunk and status == 200 and _must_speak(route, request):
                            raise BadAnswer("the backend's answer is empty", sent=True, received=True)
                        if status in _WORTH_ANOTHER_TRY or (status == 404 and exchange.model is not None):
                            raise await _error_answer(status, headers, chunk, read)
                except BaseException:
                    await stream.aclose()
                    raise
        except TimeoutError as error:
            raise self._out_of_time() from error
        except (Truncated, UpstreamTimeout) as error:
            let_go(error)
            raise unbegun(error, cold=lease.cold) from None
        layout = format_of(header(headers, b"content-type")) if route.kind in ("inference", "manage") else "other"
        return _Answer(status, headers, chunk, read, stream, layout)

    async def _relay(self, exchange: Exchange, answer: _Answer, send: Send, deadline: float | None) -> None:
        """Send the answer on, chunk by chunk, and see that its end is an honest one."""
        exchange.release_body()
        exchange.committed = True  # The commit point.
        exchange.first_byte_at = time.monotonic()
        must_terminate = answer.status == 200 and answer.layout in ("ndjson", "sse")
        tail = Tail(answer.layout)
        failure: UpstreamError | None = None
        chunk, read = answer.chunk, answer.read
        last = b""  # a chunk that is known to be the last one and goes out together with the end
        left = int(header(answer.headers, b"content-length") or -1)
        flow = _flow(exchange, answer.stream, send, tail) if left < 0 else None
        try:
            async with asyncio.timeout_at(deadline):
                with Caught() as caught:
                    await send({"type": "http.response.start", "status": answer.status, "headers": answer.headers})
                    while chunk:
                        tail.add(chunk)
                        left -= len(chunk)
                        if left == 0:
                            last = chunk
                            break
                        await send({"type": "http.response.body", "body": chunk, "more_body": True})
                        if flow is not None:
                            await flow()
                        chunk = await read()
                failure = caught.failure
        except TimeoutError:
            failure = self._out_of_time()
        except asyncio.CancelledError:
            await answer.stream.aclose()  # before anything else, as this is what makes the backend stop
            if must_terminate and not exchange.gone and (why := exchange.error or gone_because(exchange.scope)):
                await _say(why, tail.read(), exchange, send)
            raise
        finally:
            ending = tail.read()
            exchange.terminated = ending.terminated and must_terminate
            exchange.usage = _usage(ending, exchange) if must_terminate else ending.usage
        if must_terminate and not ending.terminated and failure is None:
            failure = Truncated("the backend ended the stream without its terminator", clean=True)
        if failure is not None and (left > 0 or not exchange.terminated):
            await answer.stream.aclose()
            broken = failure if isinstance(failure, Truncated) else Truncated.after(failure)
            if must_terminate:
                await _say(broken, ending, exchange, send)
            raise broken
        await send({"type": "http.response.body", "body": last, "more_body": False})
        if ending.error is not None:
            exchange.reason = f"{exchange.reason}; the backend ended with an error"

    def _out_of_time(self) -> UpstreamTimeout:
        return UpstreamTimeout(
            f"the request took longer than the {self._total:g} s that one may take in all", timer="total", sent=True
        )


def _reader(stream: httpx.AsyncByteStream) -> Read:
    """Return what reads the next chunk, ``b""`` at the end: our transport's own way, or one around any other's."""
    if isinstance(stream, Answer):
        return stream.read
    chunks = aiter(stream)

    async def read() -> bytes:
        return await anext(chunks, b"")

    return read


def _flow(
    exchange: Exchange, stream: httpx.AsyncByteStream, send: Send, tail: Tail
) -> Callable[[], Awaitable[None]] | None:
    """Return what lets chunks pass while this task sleeps; None where a plugin wraps `send` and wants to see them."""
    if exchange.shortcut is None or exchange.shortcut[0] != send or not isinstance(stream, Answer):
        return None
    write = exchange.shortcut[1]

    def sink(chunk: bytes) -> bool:
        tail.add(chunk)
        return write(chunk)

    return partial(stream.flow, sink)


def _must_speak(route: Route, request: httpx.Request) -> bool:
    """Whether a 200 without a byte is no answer, as a model always says something."""
    return route.kind == "inference" and bool(route.models) and request.method != "HEAD"


def _note(exchange: Exchange, lease: Lease) -> None:
    exchange.backend = lease.backend.name
    exchange.tried.append(lease.backend.name)
    exchange.attempts += 1
    exchange.reason = lease.reason


async def _error_answer(status: int, headers: list[Header], chunk: bytes, read: Read) -> UpstreamAnswer | BadAnswer:
    held = bytearray()
    while chunk:
        held += chunk
        if len(held) > ERROR_BODY:
            return BadAnswer(f"the backend's error answer is longer than {ERROR_BODY} bytes", sent=True, received=True)
        chunk = await read()
    return error_answer(status, headers, bytes(held))


async def _read(exchange: Exchange, receive: Receive) -> tuple[httpx.ByteStream, int]:
    """Return the request body and its size: as the exchange has it, or as a middleware above rewrote it."""
    if receive == exchange.receive:
        content = await exchange.body()
        return httpx.ByteStream(content), len(content)
    parts: list[bytes] = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            content = b"".join(parts)
            return httpx.ByteStream(content), len(content)


class _Upload(httpx.AsyncByteStream):
    """A request body that is passed on as it comes; for blobs, which are unbounded."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            body: bytes = message.get("body", b"")
            if body:
                yield body
            if not message.get("more_body", False):
                return


async def _say(error: ProxyError, ending: Ending, exchange: Exchange, send: Send) -> None:
    """Send `error` as the last record of a stream that lacks its end, to a client that may have stopped reading."""
    if ending.boundary and not ending.terminated:
        record = render_record(exchange.flavor, error)
        with suppress(TimeoutError):
            async with asyncio.timeout(LAST_WORD):
                await send({"type": "http.response.body", "body": record, "more_body": True})


def _framing_of(scope: Scope) -> Header:
    length = header(scope["headers"], b"content-length")
    return (b"transfer-encoding", b"chunked") if length is None else (b"content-length", length)


def _usage(ending: Ending, exchange: Exchange) -> Usage | None:
    """Return what a stream used.

    What a backend says before the end is none of its last word (Ollama writes zeros then), and OpenAI's streams have no
    counts unless the client asks for them. One chunk is about one token: better than nothing.
    """
    reported = ending.usage
    if reported is not None and reported.tokens_out is not None and ending.terminated:
        return reported
    if not exchange.chunks or exchange.route is None or exchange.route.kind != "inference":
        return None
    return Usage(None, exchange.chunks, "estimated", reported.done_reason if reported else None)


def not_routed(found: NoMatch, scope: Scope) -> NotRouted:
    """Return the error for a request that has no route: 404, 405, or where it is found without its last slash."""
    if found.location is not None:
        # Relative, so that whatever prefix the caller used stays in front.
        location = {"location": "../" + found.location.rpartition("/")[2]}
        status = 301 if scope["method"] in ("GET", "HEAD") else 307
        return NotRouted(status, "moved", code=codes.MOVED, headers=location)
    if found.allow:
        return NotRouted(405, "405 method not allowed", headers={"allow": ", ".join(found.allow)})
    return NotRouted(404, "404 page not found")
