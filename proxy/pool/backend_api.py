"""Call a backend's own API: fetch one JSON object, or its version and models."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final

import httpx
import orjson

from proxy.kernel import json_bounds
from proxy.kernel.errors import BadAnswer, UpstreamError, UpstreamTimeout, let_go
from proxy.kernel.model_names import parse as parse_model
from proxy.pool.backend import Backend
from proxy.upstream.failures import translated
from proxy.upstream.resend import send_or_resend
from proxy.upstream.timeouts import NEVER

LARGEST_RESPONSE: Final = 16 * 2**20
"""Bytes of a response; a larger one is an error."""


@dataclass(frozen=True, slots=True)
class Inspection:
    """The version and the models of a backend, or the reason why it did not answer.

    Attributes:
        version: the version of Ollama, None where the backend did not say.
        models: names of the models, as the backend lists them.
        error: why the backend did not answer, None where it did.
    """

    version: str | None = None
    models: tuple[str, ...] = ()
    error: str | None = None

    def __str__(self) -> str:
        if self.error is not None:
            return f"not reachable now: {self.error}"
        names = ", ".join(self.models[:6]) + (", …" if len(self.models) > 6 else "")
        return f"Ollama {self.version or 'of unknown version'}, {len(self.models)} models ({names or 'none'})"


async def inspect_backend(backend: Backend, *, timeout: float) -> Inspection:
    """Fetch the version and models of `backend` within `timeout` seconds. Never raises for what the backend does."""
    try:
        async with asyncio.timeout(timeout):
            version = await fetch_json(backend, b"/api/version", timeout=timeout)
            tags = await fetch_json(backend, b"/api/tags", timeout=timeout)
    except TimeoutError:
        return Inspection(error=f"no answer within {timeout:g} s")
    except UpstreamError as error:
        return Inspection(error=error.detail)
    names = (entry.get("name") for entry in tags.get("models") or () if isinstance(entry, dict))
    text = version.get("version")
    return Inspection(text if isinstance(text, str) else None, tuple(name for name in names if isinstance(name, str)))


async def fetch_json(
    backend: Backend, target: bytes, *, timeout: float, document: Mapping[str, object] | None = None
) -> dict[str, Any]:
    """Return the JSON object at `target`, by GET or, with a `document`, by POST; raises UpstreamError."""
    body = b"" if document is None else orjson.dumps(document)
    framing = [] if document is None else [(b"content-length", b"%d" % len(body))]
    request = httpx.Request(
        "GET" if document is None else "POST",
        backend.url,
        headers=[(b"host", backend.host), *framing, *backend.headers],
        stream=httpx.ByteStream(body),
        extensions={
            "target": target,
            "timeout": replace(NEVER, connect=timeout, first_byte=timeout, idle=timeout, write=timeout),
            "fresh": document is not None,
        },
    )
    try:
        response = await send_or_resend(backend.transport, request)
        received = bytearray()
        try:
            with translated(received=True):
                async for chunk in response.aiter_raw():
                    received += chunk
                    if len(received) > LARGEST_RESPONSE:
                        raise BadAnswer(f"the answer to {target.decode()} is longer than {LARGEST_RESPONSE} bytes")
        finally:
            await response.aclose()
    except UpstreamTimeout as error:
        let_go(error)
        raise UpstreamTimeout(f"no answer to {target.decode()} within {timeout:g} s", timer=error.timer) from error
    if response.status_code != 200:
        raise BadAnswer(f"{target.decode()} answered {response.status_code}")
    try:
        answer = json_bounds.loads(bytes(received))
    except ValueError as error:
        raise BadAnswer(f"{target.decode()} did not answer JSON") from error
    if not isinstance(answer, dict):
        raise BadAnswer(f"{target.decode()} did not answer a JSON object")
    return answer


def entries_of(answer: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the entries of a list of models: ``/api/tags`` or ``/api/ps``."""
    models = answer.get("models")
    return [entry for entry in models if isinstance(entry, dict)] if isinstance(models, list) else []


def models_by_key(answer: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the entries of a list of models by canonical key; those without a valid name are left out."""
    found: dict[str, dict[str, Any]] = {}
    for entry in entries_of(answer):
        text = entry.get("model") or entry.get("name")
        name = parse_model(text) if isinstance(text, str) else None
        if name is not None:
            found[name.key] = entry
    return found


def moment(entry: Mapping[str, object], field: str) -> float:
    """Return a time in Ollama's format (RFC 3339 with nanoseconds) in seconds since 1970; 0 where there is none."""
    text = entry.get(field)
    if not isinstance(text, str):
        return 0.0
    head, dot, tail = text.partition(".")
    if dot:
        digits = len(tail) - len(tail.lstrip("0123456789"))
        text = f"{head}.{tail[: min(digits, 6)]}{tail[digits:]}"
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return 0.0
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
