"""Asking a backend who it is: its version and its models."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import httpx
import orjson

from proxy.kernel import json_bounds
from proxy.kernel.errors import BadAnswer, UpstreamError, UpstreamTimeout
from proxy.pool.backend import Backend
from proxy.upstream.resend import send_or_resend
from proxy.upstream.timeouts import Timeouts
from proxy.upstream.transport import translate

LARGEST_ANSWER: Final = 16 * 2**20


@dataclass(frozen=True, slots=True)
class Found:
    """What a backend said of itself.

    Attributes:
        version: of Ollama, None where it did not say.
        models: names as it lists them.
        error: why it could not be asked, None where it could.
    """

    version: str | None = None
    models: tuple[str, ...] = ()
    error: str | None = None

    def __str__(self) -> str:
        if self.error is not None:
            return f"not reachable now: {self.error}"
        names = ", ".join(self.models[:6]) + (", …" if len(self.models) > 6 else "")
        return f"Ollama {self.version or 'of unknown version'}, {len(self.models)} models ({names or 'none'})"


async def survey(backend: Backend, *, timeout: float) -> Found:
    """Ask `backend` for its version and models, within `timeout` seconds; never raises for what the backend does."""
    try:
        async with asyncio.timeout(timeout):
            version = await ask(backend, b"/api/version", timeout=timeout)
            tags = await ask(backend, b"/api/tags", timeout=timeout)
    except TimeoutError:
        return Found(error=f"no answer within {timeout:g} s")
    except UpstreamError as error:
        return Found(error=error.detail)
    names = (entry.get("name") for entry in tags.get("models") or () if isinstance(entry, dict))
    text = version.get("version")
    return Found(text if isinstance(text, str) else None, tuple(name for name in names if isinstance(name, str)))


async def ask(
    backend: Backend, target: bytes, *, timeout: float, document: Mapping[str, object] | None = None
) -> dict[str, Any]:
    """GET one JSON object, or POST `document` for one; raises UpstreamError."""
    body = b"" if document is None else orjson.dumps(document)
    framing = [] if document is None else [(b"content-length", b"%d" % len(body))]
    request = httpx.Request(
        "GET" if document is None else "POST",
        backend.url,
        headers=[(b"host", backend.host), *framing, *backend.headers],
        stream=httpx.ByteStream(body),
        extensions={
            "target": target,
            "timeout": Timeouts(connect=timeout, first_byte=timeout, idle=timeout, write=timeout),
            "fresh": document is not None,
        },
    )
    try:
        response = await send_or_resend(backend.transport, request)
        received = bytearray()
        try:
            async for chunk in response.aiter_raw():
                received += chunk
                if len(received) > LARGEST_ANSWER:
                    raise BadAnswer(f"the answer to {target.decode()} is longer than {LARGEST_ANSWER} bytes")
        finally:
            await response.aclose()
    except httpx.TimeoutException as error:
        raise UpstreamTimeout(f"no answer to {target.decode()} within {timeout:g} s", timer="first_byte") from error
    except (httpx.HTTPError, OSError) as error:
        raise translate(error) from error
    if response.status_code != 200:
        raise BadAnswer(f"{target.decode()} answered {response.status_code}")
    try:
        answer = json_bounds.loads(bytes(received))
    except ValueError as error:
        raise BadAnswer(f"{target.decode()} did not answer JSON") from error
    if not isinstance(answer, dict):
        raise BadAnswer(f"{target.decode()} did not answer a JSON object")
    return answer
