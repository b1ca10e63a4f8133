"""The routes of Ollama and what each of them is, as data.

Everything that authorises, limits, retries or relays asks this table, and the target sent to a backend is written from
it, never from the client's bytes: a path that is spelled oddly is either one of these routes or nothing.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal
from urllib.parse import parse_qsl, quote, urlencode

from proxy.kernel.asgi import Header, header
from proxy.kernel.errors import Flavor

RouteClass = Literal["read", "inference", "manage", "account", "ops"]
Body = Literal["none", "json", "multipart", "raw"]
Repeat = Literal["safe", "costly", "never"]


@dataclass(frozen=True, slots=True)
class Route:
    """One route.

    Attributes:
        path: canonical path; a last segment in braces stands for exactly one segment of any text.
        methods: the methods it answers.
        kind: the class that policies name.
        flavor: how errors are said.
        stream: what the body's ``stream`` means when it is left out; None where the route never streams.
        body: what the request carries. A "raw" body is passed on as it comes, all others are read first.
        repeat: "safe" may be sent twice, "costly" until the first byte of an answer, "never" not once it was sent.
        models: the members of a JSON body that name a model, in the order Ollama prefers them.
        query: the query parameters that mean something to Ollama; all others are left behind.
        open: answered without credentials (the CLI's first question).
        page: something for people to look at, so that other sites may have links to it.
        probe: answered by whatever name the proxy is called, as load balancers and health checks do.
    """

    path: str
    methods: tuple[str, ...]
    kind: RouteClass
    flavor: Flavor = "ollama"
    stream: bool | None = None
    body: Body = "none"
    repeat: Repeat = "safe"
    models: tuple[str, ...] = ()
    query: tuple[str, ...] = ()
    open: bool = False
    page: bool = False
    probe: bool = False


@dataclass(frozen=True, slots=True)
class Match:
    """A request's route.

    Attributes:
        target: the canonical path and query that a backend is sent.
        argument: the text of the last segment where the route has one (a model, a digest, a key).
    """

    route: Route
    target: bytes
    argument: str | None = None


@dataclass(frozen=True, slots=True)
class NoMatch:
    """No such route (`allow` empty), another method (`allow` says which), or a slash too many (`location`)."""

    allow: tuple[str, ...] = ()
    location: str | None = None


OLLAMA: Final = (
    Route("/", ("GET", "HEAD"), "read", "text", open=True, page=True),
    Route("/api/version", ("GET", "HEAD"), "read", page=True),
    Route("/api/tags", ("GET", "HEAD"), "read"),
    Route("/api/ps", ("GET",), "read"),
    Route("/api/status", ("GET",), "read"),
    Route("/api/experimental/model-recommendations", ("GET",), "read"),
    Route("/api/show", ("POST",), "read", body="json", models=("model", "name")),
    Route("/v1/models", ("GET",), "read", "openai"),
    Route("/v1/models/{model}", ("GET",), "read", "openai"),
    Route("/api/generate", ("POST",), "inference", stream=True, body="json", repeat="costly", models=("model",)),
    Route("/api/chat", ("POST",), "inference", stream=True, body="json", repeat="costly", models=("model",)),
    Route("/api/embed", ("POST",), "inference", body="json", models=("model",)),
    Route("/api/embeddings", ("POST",), "inference", body="json", models=("model",)),
    Route("/v1/chat/completions", ("POST",), "inference", "openai", False, "json", "costly", ("model",)),
    Route("/v1/completions", ("POST",), "inference", "openai", False, "json", "costly", ("model",)),
    Route("/v1/responses", ("POST",), "inference", "openai", False, "json", "costly", ("model",)),
    Route("/v1/messages", ("POST",), "inference", "anthropic", False, "json", "costly", ("model",)),
    Route("/v1/embeddings", ("POST",), "inference", "openai", body="json", models=("model",)),
    Route(
        "/v1/audio/transcriptions",
        ("POST",),
        "inference",
        "openai",
        body="multipart",
        repeat="costly",
        models=("model",),
        query=("model",),
    ),
    Route("/api/pull", ("POST",), "manage", stream=True, body="json", repeat="never", models=("model", "name")),
    Route("/api/push", ("POST",), "manage", stream=True, body="json", repeat="never", models=("model", "name")),
    Route(
        "/api/create", ("POST",), "manage", stream=True, body="json", repeat="never", models=("model", "name", "from")
    ),
    Route("/api/copy", ("POST",), "manage", body="json", repeat="never", models=("source", "destination")),
    Route("/api/delete", ("DELETE",), "manage", body="json", repeat="never", models=("model", "name")),
    Route("/api/blobs/{digest}", ("HEAD",), "manage"),
    Route("/api/blobs/{digest}", ("POST",), "manage", body="raw", repeat="never"),
    Route("/api/me", ("POST",), "account", body="json", repeat="never"),
    Route("/api/signout", ("POST",), "account", body="json", repeat="never"),
    Route("/api/user/keys/{key}", ("DELETE",), "account", body="json", repeat="never"),
    Route("/api/experimental/web_search", ("POST",), "account", body="json", repeat="never"),
    Route("/api/experimental/web_fetch", ("POST",), "account", body="json", repeat="never"),
)


class RouteTable:
    """Looks routes up by method and decoded path.

    Args:
        extra: routes that come before all others, so that a configuration can add routes of another version of Ollama
            or change one.
        base: the others.
    """

    def __init__(self, extra: Iterable[Route] = (), *, base: Iterable[Route] = OLLAMA) -> None:
        self.routes = (*extra, *base)
        self._fixed: dict[str, dict[str, Match]] = {}
        self._prefixes: dict[str, dict[str, Route]] = {}
        for route in self.routes:
            prefix, brace, _ = route.path.partition("{")
            for method in route.methods:
                if brace:
                    self._prefixes.setdefault(prefix, {}).setdefault(method, route)
                else:
                    self._fixed.setdefault(route.path, {}).setdefault(method, Match(route, quote(route.path).encode()))

    def match(self, method: str, path: str, query: bytes = b"") -> Match | NoMatch:
        """Return the route of a request.

        Args:
            method: as it stood in the request line; methods are case-sensitive.
            path: the decoded path (ASGI's ``scope["path"]``), compared exactly.
            query: the raw query string; only what the route names goes into the target.
        """
        fixed = self._fixed.get(path)
        if fixed is not None:
            match = fixed.get(method)
            if match is None:
                return NoMatch(tuple(fixed))
            return _with_query(match, query) if query and match.route.query else match
        prefix, slash, argument = path.rpartition("/")
        routes = self._prefixes.get(prefix + slash)
        if routes is not None and argument and argument not in (".", "..") and argument.isprintable():
            route = routes.get(method)
            if route is None:
                return NoMatch(tuple(routes))
            return Match(route, quote(prefix + slash).encode() + quote(argument, safe=":@").encode(), argument)
        if not argument and prefix in self._fixed:
            return NoMatch(location=prefix)
        return NoMatch()


def _with_query(match: Match, query: bytes) -> Match:
    kept = [pair for pair in parse_qsl(query.decode("latin-1"), True) if pair[0] in match.route.query]
    return Match(match.route, match.target + b"?" + urlencode(kept).encode()) if kept else match


PINNED: Final = "/-/backends/"
"""In front of a path: the backend that is meant, as in ``/-/backends/gpu-1/api/pull``."""
BACKEND: Final = b"x-ollama-backend"
"""The header that names a backend, for clients that can send headers but not change their URL."""
ALL: Final = "all"
"""The name that means every backend, to what changes them; to anything else it means none in particular."""


def pinned_in(path: str, headers: Iterable[Header]) -> tuple[str | None, str]:
    """Return the backend that a request names, None where it names none, and the prefix of `path` that does so."""
    if path.startswith(PINNED):
        name, slash, _ = path.removeprefix(PINNED).partition("/")
        if name and slash:
            return name, PINNED + name
    named = header(headers, BACKEND)
    return (None if named is None else named.decode("latin-1")), ""


def flavor_of(path: str) -> Flavor:
    """Return how errors are said on `path`, also where there is no such route."""
    if path.startswith("/v1/messages"):
        return "anthropic"
    if path.startswith("/v1/"):
        return "openai"
    return "ollama" if path.startswith(("/api/", "/-/")) else "text"
