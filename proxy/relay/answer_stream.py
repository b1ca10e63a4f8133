"""Relay a backend's answer to the client, chunk by chunk, up to its end.

`commit` is the commit point: the first chunk has arrived, and ``http.response.start`` goes out next. After it nothing
is retried, and an answer that breaks off is never ended as if it were complete.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Final

import httpx

from proxy.kernel.asgi import Send, header, start_response
from proxy.kernel.attempts import Usage
from proxy.kernel.error_rendering import render_record
from proxy.kernel.errors import ProxyError, Truncated, UpstreamError, UpstreamTimeout
from proxy.kernel.exchange import Exchange
from proxy.kernel.exchange_parts import RelayPart
from proxy.kernel.server_extensions import gone_because
from proxy.relay.answer_end import Ending, Tail
from proxy.relay.backend_answer import BackendAnswer
from proxy.relay.error_classifier import error_record
from proxy.relay.unterminated import is_passed_on, terminated
from proxy.relay.usage_removal import UsageRemoval, usage_removal
from proxy.upstream.answer import Answer
from proxy.upstream.failures import FOREIGN, broke_off

LAST_WORD: Final = 1.0
"""Seconds that a client may take to read the last record, which says why its stream breaks off."""


def commit(exchange: Exchange) -> None:
    """Pass the commit point: the answer is about to begin, and the request body is no longer needed."""
    exchange.release_body()
    noted = exchange.part(RelayPart)
    noted.committed = True
    noted.first_byte_at = time.monotonic()


async def relay_answer(
    exchange: Exchange,
    answer: BackendAnswer,
    send: Send,
    *,
    deadline: float | None,
    out_of_time: Callable[[], UpstreamTimeout],
) -> None:
    """Send `answer` to the client; raises Truncated where it breaks off.

    Args:
        exchange: the request that is answered.
        answer: the backend's answer, with its first chunk.
        send: sends messages to the client.
        deadline: the loop's time at which the answer must be complete; None for no deadline.
        out_of_time: makes the error for an answer that misses the deadline.
    """
    commit(exchange)
    noted = exchange.part(RelayPart)
    tail = Tail(answer.layout)
    failure: UpstreamError | None = None
    chunk, read, last = answer.chunk, answer.read, b""  # a chunk known to be the last goes out in the final message
    left = int(header(answer.headers, b"content-length") or -1)
    removal = usage_removal(exchange, answer)
    flow = _flow(exchange, answer.stream, send, tail, removal) if left < 0 else None
    if removal is not None:
        send = removal.sending(send)
    try:
        async with asyncio.timeout_at(deadline) as limit:
            await start_response(send, answer.status, answer.headers)
            while chunk:
                tail.add(chunk)
                left -= len(chunk)
                if left == 0:
                    last = chunk
                    break
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
                try:  # not around `send`, which is the client's side
                    if flow is not None:
                        await flow()
                    chunk = await read()
                except FOREIGN as error:
                    failure = broke_off(error)
                    break
    except TimeoutError:
        if not limit.expired():  # it is one of `send`
            raise
        failure = out_of_time()
    except asyncio.CancelledError:
        await _cut_off(exchange, answer, send, tail if answer.streams else None)
        raise
    finally:
        ending = tail.read()
        _note(exchange, answer, ending)
    if failure is None and noted.terminated is False and not is_passed_on(exchange, answer, tail, ending):
        failure = Truncated("the backend ended the answer without its terminator", clean=True)
    if failure is not None and (left > 0 or not noted.terminated):
        noted.failure = None
        raise await _broken_off(failure, exchange, answer, send, ending if answer.streams else None)
    await send({"type": "http.response.body", "body": last, "more_body": False})


def _note(exchange: Exchange, answer: BackendAnswer, ending: Ending) -> None:
    """Note how the backend's answer ended."""
    noted, route = exchange.part(RelayPart), exchange.route
    noted.terminated = terminated(exchange, answer, ending)
    noted.usage = _usage(ending, exchange) if answer.streams else ending.usage
    if ending.error is not None and answer.status == 200:
        noted.failure = error_record(ending.error, manages=route is not None and route.kind == "manage")


async def _cut_off(exchange: Exchange, answer: BackendAnswer, send: Send, tail: Tail | None) -> None:
    """Close the backend's answer, as the request was cancelled; tell a client that stays why. `tail`: of a stream."""
    await answer.stream.aclose()  # first of all, as this makes the backend stop
    if tail is not None and not exchange.gone and (why := exchange.error or gone_because(exchange.scope)):
        await _say(why, tail.read(), exchange, send)


async def _broken_off(
    failure: UpstreamError, exchange: Exchange, answer: BackendAnswer, send: Send, ending: Ending | None
) -> Truncated:
    """Close the backend's answer and return the error that ends the client's.

    `ending` is the ending of a stream, else None. Where the format allows, the client gets the error as a last record.
    """
    await answer.stream.aclose()
    broken = failure if isinstance(failure, Truncated) else Truncated.after(failure)
    if ending is not None:
        await _say(broken, ending, exchange, send)
    return broken


def _flow(
    exchange: Exchange, stream: httpx.AsyncByteStream, send: Send, tail: Tail, removal: UsageRemoval | None
) -> Callable[[], Awaitable[None]] | None:
    """Return a function that relays chunks while this task sleeps; None where a plugin wraps `send` to see them."""
    if exchange.shortcut is None or exchange.shortcut[0] != send or not isinstance(stream, Answer):
        return None
    write = exchange.shortcut[1] if removal is None else removal.writing(exchange.shortcut[1])

    def sink(chunk: bytes) -> bool:
        tail.add(chunk)
        return write(chunk)

    return partial(stream.flow, sink)


async def _say(error: ProxyError, ending: Ending, exchange: Exchange, send: Send) -> None:
    """Send `error` as the last record of an unfinished stream; do not wait long for a client that does not read."""
    if ending.boundary and not ending.terminated:
        record = render_record(exchange.flavor, error)
        with suppress(TimeoutError):
            async with asyncio.timeout(LAST_WORD):
                await send({"type": "http.response.body", "body": record, "more_body": True})


def _usage(ending: Ending, exchange: Exchange) -> Usage | None:
    """Return the tokens that a stream used: as reported, or else one for each chunk.

    Counts before the end are not final (Ollama writes zeros there), also where an error ends the stream, and OpenAI's
    streams have no counts unless they are asked for. One chunk is about one token.
    """
    reported = ending.usage
    if reported is not None and reported.tokens_out is not None and ending.terminated and ending.error is None:
        return reported
    if not exchange.chunks or exchange.route is None or exchange.route.kind != "inference":
        return None
    return Usage(None, exchange.chunks, "estimated", reported.done_reason if reported else None)
