"""Explain a request that nobody sent: ask each plugin of the chain what it would do with it."""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from time import monotonic
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import unquote

import orjson

from proxy.chain.build import Chain
from proxy.kernel.asgi import Header, Message, Scope
from proxy.kernel.body_budget import BodyBudget
from proxy.kernel.caller_text import KEY_PREFIX
from proxy.kernel.errors import ProxyError, Refused
from proxy.kernel.exchange import KEY, Exchange
from proxy.kernel.exchange_parts import AuthPart
from proxy.kernel.explain import Explains
from proxy.kernel.load_or_unload import bare_member
from proxy.kernel.route import Route
from proxy.kernel.routes import RouteTable
from proxy.ops.document_types import Account, Step

CALLER: Final = "127.0.0.1"
_PROMPTS: Final[Mapping[str, Mapping[str, Any]]] = {
    "prompt": {"prompt": "?"},
    "messages": {"messages": [{"role": "user", "content": "?"}]},
}
"""The words of a request that is explained without a body; without any it would only load the model."""
_TOKENS: Final = (KEY_PREFIX, "eyJ")
"""The beginnings of API keys and JWTs; any other text is the name or id of a key."""


@dataclass(frozen=True, slots=True)
class Supposed:
    """A request to be explained.

    Attributes:
        path: the path, with the query where there is one.
        caller: an API key, a JWT, or the name or id of a key; None for a caller without credentials.
        claims: the claims of a token, in place of a token.
        model: replaces the model in the body, or is added to it.
        address: the client's address.
    """

    method: str
    path: str
    caller: str | None = field(default=None, repr=False)
    claims: Mapping[str, Any] = field(default_factory=dict, repr=False)
    model: str | None = None
    body: bytes = field(default=b"", repr=False)
    headers: Sequence[Header] = field(default=(), repr=False)
    address: str = CALLER


def read_supposed(document: Mapping[str, Any]) -> Supposed:
    """Return the request that the body of ``POST /-/explain`` describes; raises Refused (400)."""
    texts: dict[str, str | None] = {}
    for name in ("method", "path", "as", "model", "address"):
        value = texts[name] = document.get(name)
        if not (isinstance(value, str) or (value is None and name not in ("method", "path"))):
            raise Refused(400, f"{name} must be text")
    claims, body = document.get("claims"), document.get("body")
    if not isinstance(claims, dict | None):
        raise Refused(400, "claims must be an object")
    unknown = document.keys() - {"method", "path", "as", "model", "address", "claims", "body"}
    if unknown:
        raise Refused(400, f"unknown member '{min(unknown)[:64]}'")
    return Supposed(
        method=texts["method"] or "",
        path=texts["path"] or "",
        caller=texts["as"],
        claims=claims or {},
        model=texts["model"],
        body=b"" if body is None else orjson.dumps(body),
        address=texts["address"] or CALLER,
    )


async def account(chain: Chain, routes: RouteTable, supposed: Supposed, bodies: BodyBudget) -> Account:
    """Ask the plugins that the request would reach, in order, until one refuses it. Nothing is counted or sent.

    The bounds of `bodies` apply to the body, but its memory is not counted there. Raises Refused (400) where the
    description is not a request.
    """
    exchange = await _exchange(routes, supposed, bodies)
    steps: list[Step] = []
    for name, instance in chain.path(exchange):
        step = await _ask(name, instance, exchange)
        steps.append(step)
        if step.verdict == "refuse":
            break
    exchange.finishers()
    route, model = exchange.route, exchange.model
    return Account(
        route=None if route is None else route.path,
        kind=None if route is None else route.kind,
        model=None if model is None else model.short,
        identity=exchange.identity,
        tenant=exchange.tenant,
        policy=exchange.policy,
        backend=exchange.backend,
        steps=steps,
    )


async def _ask(name: str, instance: object, exchange: Exchange) -> Step:
    if instance is None:
        return Step(name, "off", f"policy '{exchange.policy}' turns it off")
    if not isinstance(instance, Explains):
        return Step(name, "silent", "it does not say; taken as if it passed the request on")
    try:
        explanation = await instance.explain(exchange)
    except ProxyError as error:
        return Step(name, "refuse", error.message)
    return Step(name, explanation.verdict, explanation.text)


async def _exchange(routes: RouteTable, supposed: Supposed, bodies: BodyBudget) -> Exchange:
    """Return the exchange that the frame would make for the request."""
    messages: list[Message] = []

    async def receive() -> Message:
        return messages.pop()

    path, _, query = supposed.path.partition("?")
    headers: list[Header] = [(b"host", b"localhost"), *supposed.headers]
    scope: Scope = {
        "type": "http",
        "method": supposed.method,
        "scheme": "http",
        "path": unquote(path),
        "root_path": "",
        "query_string": query.encode(),
        "headers": headers,
        "client": (supposed.address, 0),
        "state": {},
    }
    exchange = Exchange(
        scope,
        receive,
        id=secrets.token_hex(8),
        routes=routes,
        client=supposed.address,
        started_at=monotonic(),
        bodies=bodies.empty_copy(),
    )
    scope[KEY] = exchange
    noted = exchange.part(AuthPart)
    noted.claims = MappingProxyType(supposed.claims)
    if supposed.caller is not None and supposed.caller.startswith(_TOKENS):
        headers.append((b"authorization", b"Bearer " + supposed.caller.encode()))
    else:
        noted.identity = supposed.caller
    body = _body(exchange.route, supposed)
    messages.append({"type": "http.request", "body": body, "more_body": False})
    if body:
        headers.append((b"content-length", b"%d" % len(body)))
    else:
        await exchange.body()
    return exchange


def _body(route: Route | None, supposed: Supposed) -> bytes:
    """Return the body with the supposed model in it; raises Refused (400) where the body is no JSON object."""
    if supposed.model is None or route is None or route.body != "json" or not route.models:
        return supposed.body
    words = _PROMPTS.get(bare_member(route) or "", {}) if not supposed.body else {}
    try:
        document = orjson.loads(supposed.body or b"{}")
    except orjson.JSONDecodeError:
        document = None
    if not isinstance(document, dict):
        raise Refused(400, "a model can only be put into a body that is a JSON object")
    return orjson.dumps({**words, **document, route.models[0]: supposed.model})
