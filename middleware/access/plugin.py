"""``access``: which routes and which models a caller may use."""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final, get_args

import orjson

from middleware.access.model_globs import ModelGlobs
from proxy.kernel import error_codes as codes
from proxy.kernel import json_bounds
from proxy.kernel.asgi import ASGIApp, Message, Receive, Scope, Send, without
from proxy.kernel.body_json import fold
from proxy.kernel.error_codes import Code
from proxy.kernel.errors import BadAnswer, Refused
from proxy.kernel.exchange import Exchange
from proxy.kernel.explain import Explanation
from proxy.kernel.model_names import LONGEST
from proxy.kernel.model_names import parse as parse_model
from proxy.kernel.ollama_routes import WEB_SEARCH
from proxy.kernel.route import ModelList, Route, RouteClass
from proxy.kernel.routes import Match

_PERMITTED: Final = ("read", "inference")
"""The route classes that are allowed by default."""
_LENGTH: Final = frozenset({b"content-length"})
_LIST_LIMIT: Final = 32 * 2**20


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
        blocked_fields: members of a request body that may not be set.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        routes: Sequence[str] = _PERMITTED,
        models: Sequence[str] = ("*",),
        cloud: bool = False,
        blocked_fields: Sequence[str] = ("remote_host", "insecure", "modelfile"),
    ) -> None:
        self._app = app
        self._routes = frozenset(routes)
        self._models = ModelGlobs(models, cloud=cloud)
        self._blocked = frozenset(map(fold, blocked_fields))
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
                send = _Filter(self, match.route.lists, send)
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
            raise Refused(400, "model is required")
        for text in names.values():
            if parse_model(text) is None or (route.plain_names and text.lower().endswith(":local")):
                raise Refused(400, "invalid model name")
            if not self.allows(text):
                raise _forbidden(exchange, _described(text), codes.MODEL_NOT_ALLOWED)
        if self._blocked and route.body == "json":
            for key, value in (await exchange.json()).items():
                # Values that Go takes for absent are harmless: null, false, zero, an empty text.
                if value and fold(key) in self._blocked:
                    raise _forbidden(exchange, f"the field '{_shown(key)}'", codes.FIELD_NOT_ALLOWED)
        runs_tool = route.run is not None and route.run.searches and route.body == "json"
        searches = runs_tool and _searches((await exchange.json()).get("tools"))
        if searches and not self._permits(WEB_SEARCH.kind, "POST", WEB_SEARCH.path):
            raise _forbidden(exchange, "the tool 'web_search'", codes.TOOL_NOT_ALLOWED)

    def _permits(self, kind: RouteClass, method: str, path: str) -> bool:
        return not self._routes.isdisjoint((kind, path, f"{method} {path}"))

    def allows(self, text: str) -> bool:
        """Return whether the model of that name may be used."""
        return len(text) <= LONGEST and self._remembered(text)

    def _allows(self, text: str) -> bool:
        name = parse_model(text)
        return name is not None and name in self._models


class _Filter:
    """A `send` that holds an answer back until it is complete, and removes hidden models from its list."""

    def __init__(self, access: Access, lists: ModelList, send: Send) -> None:
        self._access = access
        self._lists = lists
        self._send = send
        self._held: list[Message] = []
        self._size = 0

    async def __call__(self, message: Message) -> None:
        if not self._held and (message["type"] != "http.response.start" or message["status"] != 200):
            await self._send(message)
            return
        self._held.append(message)
        self._size += len(message.get("body", b""))
        if self._size > _LIST_LIMIT:
            raise BadAnswer("the backend's list of models is too long to be filtered")
        if message["type"] == "http.response.body" and not message.get("more_body", False):
            for kept in self._filtered():
                await self._send(kept)

    def _filtered(self) -> list[Message]:
        """Return the messages with hidden models removed; unchanged if there are none."""
        start, *rest = self._held
        try:
            document = json_bounds.loads(b"".join(message.get("body", b"") for message in rest))
            entries = document[self._lists.member] or []
            kept = [entry for entry in entries if self._is_shown(entry)]
        except (ValueError, TypeError, KeyError, AttributeError):
            # Show nothing rather than everything.
            raise BadAnswer("the backend's list of models cannot be read") from None
        if len(kept) == len(entries):
            return self._held
        document[self._lists.member] = kept
        body = orjson.dumps(document)
        headers = [*without(start.get("headers", ()), _LENGTH), (b"content-length", b"%d" % len(body))]
        return [{**start, "headers": headers}, {"type": "http.response.body", "body": body, "more_body": False}]

    def _is_shown(self, entry: dict[str, str]) -> bool:
        names = [value for member, value in entry.items() if member in self._lists.named]
        return bool(names) and all(map(self._access.allows, names))


def _searches(tools: object) -> bool:
    """Return whether a tool is Ollama's own search; its key is matched as Go matches it."""
    return isinstance(tools, list) and any(
        fold(key) == "type" and isinstance(value, str) and value.lower().startswith("web_search")
        for tool in tools
        if isinstance(tool, dict)
        for key, value in tool.items()
    )


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
