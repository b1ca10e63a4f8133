"""The table of Ollama's routes, and what its router does with everything that is not in it."""

import posixpath
import re
from collections.abc import Awaitable, Callable
from functools import partial
from html import escape
from typing import Final, NamedTuple
from urllib.parse import quote

from proxy.simulator import (
    flavor_anthropic,
    flavor_ollama,
    flavor_openai,
    flavor_responses,
    host_and_origin,
    routes_embeddings,
    routes_info,
    routes_models,
)
from proxy.simulator.host import Host
from proxy.simulator.http_reply import Headers, Reply, reason
from proxy.simulator.inference import Reader, infer
from proxy.simulator.refusals import TEXT, Refuse
from proxy.simulator.request import Request
from proxy.simulator.routes_transcription import transcribe

Handler = Callable[[Host, Request, Reply], Awaitable[None]]


# Every answer to a request for a stream has these on the routes whose layer sets them before it looks at the request.
EVENTS: Final = ((b"Cache-Control", b"no-cache"), (b"Connection", b"keep-alive"))


def _infers(read: Reader, headers: Headers = ()) -> Handler:
    return partial(infer, read=read, headers=headers)


TABLE: Final[tuple[tuple[str, str, Handler], ...]] = (
    ("GET HEAD", "/", routes_info.root),
    ("GET HEAD", "/api/version", routes_info.version),
    ("GET HEAD", "/api/tags", routes_info.tags),
    ("GET", "/api/ps", routes_info.ps),
    ("GET", "/api/status", routes_info.status),
    ("GET", "/api/experimental/model-recommendations", routes_info.recommendations),
    ("POST", "/api/show", routes_info.show),
    ("GET", "/v1/models", routes_info.models),
    ("GET", "/v1/models/{model}", routes_info.model),
    ("POST", "/api/generate", _infers(flavor_ollama.read_generate)),
    ("POST", "/api/chat", _infers(flavor_ollama.read_chat)),
    ("POST", "/v1/chat/completions", _infers(flavor_openai.read_chat)),
    ("POST", "/v1/completions", _infers(flavor_openai.read_completion)),
    ("POST", "/v1/responses", _infers(flavor_responses.read_responses, EVENTS)),
    ("POST", "/v1/messages", _infers(flavor_anthropic.read_messages, EVENTS)),
    ("POST", "/api/embed", routes_embeddings.embed),
    ("POST", "/api/embeddings", routes_embeddings.embeddings),
    ("POST", "/v1/embeddings", routes_embeddings.openai),
    ("POST", "/v1/audio/transcriptions", transcribe),
    ("POST", "/api/pull", routes_models.pull),
    ("POST", "/api/push", routes_models.push),
    ("POST", "/api/create", routes_models.create),
    ("POST", "/api/copy", routes_models.copy),
    ("DELETE", "/api/delete", routes_models.delete),
    ("POST", "/api/blobs/{digest}", routes_models.create_blob),
    ("HEAD", "/api/blobs/{digest}", routes_models.head_blob),
    ("POST", "/api/me", routes_info.me),
    ("POST", "/api/signout", routes_info.signout),
    ("DELETE", "/api/user/keys/{key}", routes_info.signout),
    ("POST", "/api/experimental/web_search", routes_info.web),
    ("POST", "/api/experimental/web_fetch", routes_info.web),
)
UPLOAD: Final = ("POST", "/api/blobs/{digest}")


class Route(NamedTuple):
    """A pattern that matched, with what its braces stand for."""

    pattern: str
    handler: Handler
    parameters: dict[str, str]


_EXACT: Final[dict[tuple[str, str], tuple[str, Handler]]] = {}
_PATTERNS: Final[list[tuple[str, str, re.Pattern[str], Handler]]] = []
for _methods, _pattern, _handler in TABLE:
    for _method in _methods.split():
        if "{" in _pattern:
            _regex = re.compile(re.sub(r"\\{(\w+)\\}", r"(?P<\1>[^/]+)", re.escape(_pattern)))
            _PATTERNS.append((_method, _pattern, _regex, _handler))
        else:
            _EXACT[_method, _pattern] = (_pattern, _handler)


def match(method: str, path: str) -> Route | None:
    """Return the route for a decoded path, or None."""
    if found := _EXACT.get((method, path)):
        return Route(*found, {})
    for known, pattern, regex, handler in _PATTERNS:
        if known == method and (matched := regex.fullmatch(path)):
            return Route(pattern, handler, matched.groupdict())
    return None


async def answer(sim: Host, request: Request, reply: Reply, route: Route | None) -> None:
    """Answer `request`: as net/http's mux, gin's router and Ollama's middleware do, in this order."""
    if await _redirected(request, reply, route):
        return
    status, headers = host_and_origin.cors(sim.settings, request)
    if status is None and sim.checks_host and not host_and_origin.host_allowed(request):
        status, headers = 403, []
    if status is not None:
        await reply.whole(status, b"", b"", headers)
        return
    reply.extra = headers
    try:
        if route is None:
            await _unrouted(request, reply)
        else:
            await route.handler(sim, request, reply)
    except Refuse as refusal:
        if refusal.native:
            reply.extra = headers
        await reply.refuse(refusal)


async def _redirected(request: Request, reply: Reply, route: Route | None) -> bool:
    """Redirect to the clean path (net/http), or to the one without or with a slash at its end (gin)."""
    raw = request.raw_path
    clean = _clean(raw)
    if raw.startswith("/") and clean != raw:
        await _redirect(reply, 307, clean, request)
        return True
    other = request.path[:-1] if request.path.endswith("/") else f"{request.path}/"
    if route is None and request.path not in ("", "/") and match(request.method, other):
        await _redirect(reply, 301 if request.method == "GET" else 307, quote(other), request)
        return True
    return False


async def _redirect(reply: Reply, status: int, path: str, request: Request) -> None:
    target = f"{path}?{request.query.decode('latin-1')}" if request.query else path
    headers = [(b"Location", target.encode("latin-1"))]
    if request.method != "GET":
        await reply.whole(status, b"", b"", headers)
        return
    body = b'<a href="%b">%b</a>.\n\n' % (escape(target).encode("latin-1"), reason(status))
    await reply.whole(status, b"text/html; charset=utf-8", body, headers)


async def _unrouted(request: Request, reply: Reply) -> None:
    allowed = [known for known in ("HEAD", "GET", "POST", "DELETE") if match(known, request.path)]
    if allowed:
        allow = [(b"Allow", ", ".join(allowed).encode())]
        await reply.whole(405, TEXT, b"405 method not allowed", allow)
    else:
        await reply.whole(404, TEXT, b"404 page not found")


def _clean(path: str) -> str:
    """Return the path as net/http's mux wants it: no ``//``, no dot segments, the slash at the end kept."""
    if not path or path == "/":
        return "/"
    clean = posixpath.normpath(path)
    clean = "/" + clean.lstrip("/")
    return f"{clean}/" if path.endswith("/") and clean != "/" else clean
