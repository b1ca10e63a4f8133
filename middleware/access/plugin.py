"""``access``: which routes and which models a caller may use."""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final, Literal, get_args

from middleware.access.hosted_tools import hosted, without
from middleware.access.list_filter import ListFilter
from middleware.access.model_globs import ModelGlobs
from proxy.kernel import error_codes as codes
from proxy.kernel.asgi import ASGIApp, Receive, Scope, Send
from proxy.kernel.body_json import fold
from proxy.kernel.error_codes import Code
from proxy.kernel.errors import NoModel, Refused
from proxy.kernel.exchange import Exchange
from proxy.kernel.exchange_parts import AccessPart
from proxy.kernel.explain import Explanation
from proxy.kernel.model_names import LONGEST
from proxy.kernel.model_names import parse as parse_model
from proxy.kernel.ollama_routes import WEB_SEARCH
from proxy.kernel.route import SEARCH_TOOL, Route, RouteClass
from proxy.kernel.routes import Match

HostedTools = Literal["drop", "refuse", "allow"]

_PERMITTED: Final = ("read", "inference")
"""The route classes that are allowed by default."""


class Access:
    """Refuses routes, models and request fields that a policy does not allow, and hides such models from lists.

    Models are compared by their canonical name, wherever Ollama would read one: in the body, the path, the query or a
    form. A request that Ollama might read in another way than this proxy is refused.

    Args:
        routes: route classes (``read``, ``inference``, ``manage``, ``account``, ``ops``) and single routes such as
            ``/api/pull`` or ``POST /api/pull``.
        models: names and globs; ``*`` is all of Ollama's own registry, ``hf.co/*`` all of another one. A name without
            a tag means ``latest``.
        cloud: also allow the cloud models that `models` matches; otherwise they must be named (``*-cloud``).
        blocked_fields: members of a request body that may not be set; a request that sets one is refused.
        dropped_fields: members that are left out of a request body, as if the caller had not set them.
        hosted_tools: what becomes of a request with tools that not its client but the server runs, in `/v1/responses`
            and `/v1/messages`: `drop` leaves those tools out, `refuse` answers 403, `allow` passes them on. Ollama runs
            only `web_search`, and bills the operator's account; who may call `/api/experimental/web_search` has that
            tool in any case.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        routes: Sequence[str] = _PERMITTED,
        models: Sequence[str] = ("*",),
        cloud: bool = False,
        blocked_fields: Sequence[str] = ("remote_host", "modelfile"),
        dropped_fields: Sequence[str] = ("insecure",),
        hosted_tools: HostedTools = "drop",
    ) -> None:
        self._app = app
        self._routes = frozenset(routes)
        if "inference" in self._routes:
            self._routes |= {"stored"}  # who may run a request may have its answer
        self._models = ModelGlobs(models, cloud=cloud)
        self._blocked = frozenset(map(fold, blocked_fields))
        self._dropped = frozenset(map(fold, dropped_fields)) - self._blocked
        self._hosted_tools = hosted_tools
        # Clients and backends choose the names, so the cache must be bounded.
        self._remembered: Callable[[str], bool] = lru_cache(maxsize=4096)(self._allows)
        classes = get_args(RouteClass)
        for route in self._routes:
            if route not in classes and not route.rpartition(" ")[2].startswith("/"):
                raise ValueError(f"{route!r} is neither a route like /api/pull nor one of {', '.join(classes)}")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse the request, or pass it on; filter the answer of the routes that list models."""
        exchange = Exchange.of(scope)
        match = exchange.match
        if isinstance(match, Match) and not match.route.open:
            await self._check(exchange, match.route)
            if match.route.lists is not None and scope["method"] != "HEAD":
                send = ListFilter(self.allows, match.route.lists, send)
        await self._app(scope, receive, send)

    @staticmethod
    def cannot_govern(route: Route, options: Mapping[str, Any]) -> str | None:
        """Return why `route` could use models that these options deny, or None; see `plugin_lookup.Plugin`."""
        permitted = options.get("routes", _PERMITTED)
        named = {route.kind, route.path, *(f"{method} {route.path}" for method in route.methods)}
        if named.isdisjoint(permitted):
            return None  # the plugin refuses every request of this route
        if route.kind in ("inference", "manage") and not route.names_model and (route.like is None or route.run):
            return "nobody knows where its requests name their model"
        if route.kind == "read" and route.like is None:
            return "nobody knows whether its answers list models"
        return None

    async def explain(self, exchange: Exchange) -> Explanation:
        """Explain whether the request would be let through."""
        match = exchange.match
        if not isinstance(match, Match) or match.route.open:
            return Explanation("skip", "nothing here needs a permission")
        try:
            await self._check(exchange, match.route)
        except Refused as refused:
            return Explanation("refuse", refused.message)
        if match.route.lists is not None:
            return Explanation("change", "the list shows only models that may be used")
        if exchange.dropped:
            return Explanation("change", f"left out of the request: {', '.join(exchange.dropped)}")
        named = [f"'{_shown(text)}'" for text in (await exchange.names()).values()]
        models = f", and so is {' and '.join(named)}" if named else ""
        return Explanation("pass", f"{match.route.kind} requests are allowed{models}")

    async def _check(self, exchange: Exchange, route: Route) -> None:
        """Raise Refused: 403 if the policy denies the request, 400 if the request cannot be judged."""
        method = exchange.scope["method"]
        if not self._permits(route.kind, method, route.path):
            raise _forbidden(exchange, f"{method} {route.path}", codes.ROUTE_NOT_ALLOWED)
        if not route.names_model:
            return
        names = await exchange.names()
        if not names:
            missing = route.unnamed
            code = codes.MODEL_NOT_FOUND if missing.status == 404 else codes.INVALID_REQUEST
            raise NoModel(missing.status, missing.message, code=code, early=missing.early)
        for text in names.values():
            if parse_model(text) is None or (route.plain_names and text.lower().endswith(":local")):
                raise NoModel(400, "invalid model name")
            if not self.allows(text):
                raise _forbidden(exchange, _described(text), codes.MODEL_NOT_ALLOWED)
        if route.body == "json":
            self._check_fields(exchange, await exchange.json())
            if route.run is not None and route.run.hosted_tools and self._hosted_tools != "allow":
                self._check_tools(exchange, await exchange.json(), route.run.hosted_tools)

    def _check_fields(self, exchange: Exchange, document: Mapping[str, Any]) -> None:
        """Raise Refused (403) where a blocked field is set, and leave dropped ones out."""
        # Values that Go takes for absent are harmless: null, false, zero, an empty text.
        present = [(key, fold(key)) for key, value in document.items() if value]
        for key, folded in present:
            if folded in self._blocked:
                raise _forbidden(exchange, f"the field '{_shown(key)}'", codes.FIELD_NOT_ALLOWED)
        dropped = {key: folded for key, folded in present if folded in self._dropped}
        if dropped:
            exchange.edit(dict.fromkeys(dropped))
            exchange.part(AccessPart).dropped += tuple(dropped.values())

    def _check_tools(self, exchange: Exchange, document: Mapping[str, Any], types: Sequence[str]) -> None:
        """Raise Refused (403) where a tool is asked for that the caller may not let the server run, or leave it out."""
        found = hosted(document.get("tools"), types)
        if SEARCH_TOOL in found.values() and self._permits(WEB_SEARCH.kind, "POST", WEB_SEARCH.path):
            found = {place: kind for place, kind in found.items() if kind != SEARCH_TOOL}
        if not found:
            return
        if self._hosted_tools == "refuse":
            raise _forbidden(exchange, f"the tool '{min(found.values())}'", codes.TOOL_NOT_ALLOWED)
        exchange.edit(without(document, found, types))
        exchange.part(AccessPart).dropped += tuple(sorted(set(found.values())))

    def _permits(self, kind: RouteClass, method: str, path: str) -> bool:
        return not self._routes.isdisjoint((kind, path, f"{method} {path}"))

    def allows(self, text: str) -> bool:
        """Return whether the model of that name may be used."""
        return len(text) <= LONGEST and self._remembered(text)

    def _allows(self, text: str) -> bool:
        name = parse_model(text)
        return name is not None and name in self._models


def _described(text: str) -> str:
    name = parse_model(text)
    if name is not None and name.cloud:
        return f"the cloud model '{_shown(text)}'"
    if name is not None and name.foreign:
        return f"the model '{_shown(text)}' of another registry"
    return f"the model '{_shown(text)}'"


def _forbidden(exchange: Exchange, what: str, code: Code) -> Refused:
    who = f"policy '{exchange.policy}'" if exchange.policy else "you"
    return Refused(403, f"{what} is not allowed for {who}", code=code)


def _shown(text: str) -> str:
    return text[:128].encode("unicode_escape").decode()
