"""The one table of routes: those of Ollama, and those that a policy file declares.

Everything that authorises, limits, retries or relays uses this table. The target for a backend is written from the
table, never from the client's bytes, so that an oddly spelled path is either one of these routes or none. The rows of
Ollama are in ``proxy/kernel/ollama_routes.py``, the columns in ``proxy/kernel/route.py``; `declared` makes a row from
an entry of the policy file.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final
from urllib.parse import parse_qsl, quote, urlencode

from proxy.kernel import parameter_places
from proxy.kernel.asgi import Header, header
from proxy.kernel.errors import Flavor
from proxy.kernel.ollama_routes import OLLAMA
from proxy.kernel.route import UNKNOWN_RUN, Route

_RUN_NOTHING: Final = frozenset({"GET", "HEAD", "DELETE"})
"""Methods by which Ollama runs no model. Whatever the class of a route, any other may run one."""


@dataclass(frozen=True, slots=True)
class Match:
    """The route of a request.

    Attributes:
        target: the canonical path and query for a backend.
        argument: the text of the variable segment (a model, a digest, a key, an id); None where the route has none.
    """

    route: Route
    target: bytes
    argument: str | None = None


@dataclass(frozen=True, slots=True)
class NoMatch:
    """No route: unknown (`allow` is empty), a wrong method (`allow` lists others), or a slash too many (`location`)."""

    allow: tuple[str, ...] = ()
    location: str | None = None


def known_route(path: str, methods: Iterable[str] = ()) -> Route | None:
    """Return Ollama's route at `path`, of several the one with one of `methods`; None where there is none.

    The text in braces does not matter: ``/v1/models/{id}`` is ``/v1/models/{model}``.
    """
    found = [route for route in OLLAMA if route.path.partition("{")[:2] == path.partition("{")[:2]]
    return next((route for route in found if not set(methods).isdisjoint(route.methods)), found[0] if found else None)


def behaves_as(path: str, methods: Collection[str], like: str | None) -> Route | None:
    """Return the known route that a declared route is like: the one that it names, or else the one that it replaces."""
    known = known_route(like or path, methods)
    if known is None or like is not None:
        return known
    return None if set(methods).isdisjoint(known.methods) else known  # with another method it is another route


def declared(path: str, methods: tuple[str, ...], like: str | None, said: Mapping[str, Any]) -> Route:
    """Return a route that a policy file declares.

    Columns that the file leaves out come from the known route that it is like (`behaves_as`), apart from `open`, `page`
    and `probe`, which stay False. A route that is like no known one gets the stricter values.

    Args:
        path: the path of the declared route.
        methods: its methods.
        like: the path of the known route, None where the file names none.
        said: the columns that the file sets, by their names in `Route`; ``parameters`` is ``"none"`` or left out.
    """
    columns = {name: value for name, value in said.items() if name != "parameters"}
    known = behaves_as(path, methods, like)
    if known is None:
        route = Route(path, methods, **{"flavor": flavor_of(path, "ollama"), "repeat": "never", **columns})
        route = replace(route, plain_names=route.kind == "manage")
    else:
        route = replace(known, path=path, methods=methods, open=False, page=False, probe=False, **columns)
    if route.body == "raw" and "repeat" not in said:
        route = replace(route, repeat="never")
    run = route.run or (UNKNOWN_RUN if route.kind == "inference" else None)
    parameterless = said.get("parameters") == "none"
    if run is not None and parameterless:
        run = replace(run, parameters=parameter_places.NONE)
    return replace(
        route,
        run=run,
        unknown_parameters=known is None and not parameterless and not _RUN_NOTHING.issuperset(methods),
        model_in_path=path.endswith("{model}") or (route.model_in_path and path.endswith("}")),
        like=None if known is None else known.path,
        summary=route.summary if known is None else f"Like {known.path}",
    )


def socket_routes(routes: Iterable[Route]) -> list[Route]:
    """Return the routes that open a WebSocket: for each of `routes` that has one, a GET at the same path."""
    return [
        Route(
            *(route.path, ("GET",), "stored", route.flavor),
            socket=route.socket,
            like=route.like,
            summary=f"Open a WebSocket for {route.path}",
        )
        for route in routes
        if route.socket is not None and route.methods == ("POST",)
    ]


class RouteTable:
    """Finds routes by method and decoded path.

    Args:
        extra: routes that come before all others; with them a policy file adds routes of another version of Ollama, or
            changes one.
        base: the other routes.
    """

    def __init__(self, extra: Iterable[Route] = (), *, base: Iterable[Route] = OLLAMA) -> None:
        self.routes = (*extra, *base)
        self._fixed: dict[str, dict[str, Match]] = {}
        self._prefixes: dict[str, dict[str, dict[str, Route]]] = {}
        """Routes with a variable segment: by what is before it, what is behind it, and the method."""
        for route in self.routes:
            prefix, brace, rest = route.path.partition("{")
            for method in route.methods:
                if brace:
                    ends = self._prefixes.setdefault(prefix, {})
                    ends.setdefault(rest.partition("}")[2], {}).setdefault(method, route)
                else:
                    self._fixed.setdefault(route.path, {}).setdefault(method, Match(route, quote(route.path).encode()))

    def match(self, method: str, path: str, query: bytes = b"") -> Match | NoMatch:
        """Return the route of a request.

        Args:
            method: the method in the request line; methods are case-sensitive.
            path: the decoded path (ASGI's ``scope["path"]``), compared exactly.
            query: the raw query string; only the parameters of the route go into the target.
        """
        fixed = self._fixed.get(path)
        if fixed is not None:
            match = fixed.get(method)
            if match is None:
                return NoMatch(_allowed({name: found.route for name, found in fixed.items()}))
            return _with_query(match, query) if query and match.route.query else match
        prefix, slash, argument = path.rpartition("/")
        ends, end = self._prefixes.get(prefix + slash), ""
        if ends is None or "" not in ends:
            before, _, middle = prefix.rpartition("/")
            longer = self._prefixes.get(before + "/")
            if longer is not None and slash + argument in longer:
                ends, end, prefix, argument = longer, slash + argument, before, middle
        routes = None if ends is None else ends.get(end)
        if routes is not None and argument and argument not in (".", "..") and argument.isprintable():
            route = routes.get(method)
            if route is None:
                return NoMatch(_allowed(routes))
            target = quote(f"{prefix}/").encode() + quote(argument, safe=":@").encode() + end.encode()
            match = Match(route, target, argument)
            return _with_query(match, query) if query and route.query else match
        if not argument and prefix in self._fixed:
            return NoMatch(location=prefix)
        return NoMatch()


def _allowed(routes: Mapping[str, Route]) -> tuple[str, ...]:
    """Return the methods of a path, without the GET that only opens a WebSocket there."""
    return tuple(method for method, route in routes.items() if method != "GET" or route.socket is None)


def _with_query(match: Match, query: bytes) -> Match:
    kept = [pair for pair in parse_qsl(query.decode("latin-1"), True) if pair[0] in match.route.query]
    return replace(match, target=match.target + b"?" + urlencode(kept).encode()) if kept else match


PINNED: Final = "/-/backends/"
"""The prefix of a path that names a backend, as in ``/-/backends/gpu-1/api/pull``."""
BACKEND: Final = b"x-ollama-backend"
"""The header that names a backend, for clients that can send headers but not change their URL."""
ALL: Final = "all"
"""The name that stands for every backend in requests that change them; in other requests it names none."""


def pinned_in(path: str, headers: Iterable[Header]) -> tuple[str | None, str]:
    """Return the backend that a request names, None for none, and the prefix of `path` that names it."""
    if path.startswith(PINNED):
        name, slash, _ = path.removeprefix(PINNED).partition("/")
        if name and slash:
            return name, PINNED + name
    named = header(headers, BACKEND)
    return (None if named is None else named.decode("latin-1")), ""


def flavor_of(path: str, elsewhere: Flavor = "text") -> Flavor:
    """Return the flavor of errors that `path` implies; `elsewhere` is that of a path below no API's prefix."""
    if path.startswith("/v1/messages"):
        return "anthropic"
    if path.startswith("/v1/"):
        return "openai"
    return "ollama" if path.startswith(("/api/", "/-/")) else elsewhere
