"""Make requests as the frame passes them to a plugin, without a server and without a socket."""

import time
from collections.abc import Sequence
from typing import Any, Final, cast

from config.load import load_data
from config.settings import Settings
from proxy.kernel.asgi import Header, Message, Receive, Scope
from proxy.kernel.body_budget import BodyBudget
from proxy.kernel.exchange import KEY, PARTS, Exchange
from proxy.kernel.routes import RouteTable
from proxy.wiring import body_bounds

ROUTES: Final = RouteTable()
"""The routes of Ollama; a policy file could add more."""
SETTINGS: Final = cast(Settings, load_data({"backends": [{"name": "b1", "url": "http://127.0.0.1:1"}]}).settings)
"""The settings of a policy file that names one backend; all others have their defaults."""


def make_exchange(
    method: str = "POST",
    path: str = "/api/chat",
    *,
    body: bytes | Sequence[bytes] = b"",
    headers: Sequence[tuple[str, str]] = (),
    client: str = "127.0.0.1",
    query: bytes = b"",
    started_at: float | None = None,
    bodies: BodyBudget | None = None,
    **noted: Any,
) -> Exchange:
    """Return an exchange as the frame makes it; call the plugin with its `scope`.

    Args:
        method: the method of the request.
        path: the path of the request; it decides the route.
        body: the body of the request. Each element of a sequence arrives as one message; then the client disconnects.
        headers: the header fields of the request; names may have capitals.
        client: the client's address.
        query: the query of the URL, without the question mark.
        started_at: the time when the request began, in seconds of `Clock.monotonic`; None for now.
        bodies: the budget for the memory of bodies; None for a new budget with the default bounds.
        noted: fields that other plugins would have set, as for `suppose`: `auth` sets ``tenant="physics"``.
    """
    raw: list[Header] = [(name.lower().encode(), value.encode()) for name, value in headers]
    scope: Scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query,
        "root_path": "",
        "headers": raw,
        "client": (client, 12345),
        "server": ("127.0.0.1", 80),
        "state": {},
    }
    exchange = Exchange(
        scope,
        _source(body),
        id="test",
        routes=ROUTES,
        client=client,
        started_at=time.monotonic() if started_at is None else started_at,
        bodies=bodies or BodyBudget(**body_bounds(SETTINGS)),
    )
    scope[KEY] = exchange
    return suppose(exchange, **noted)


def suppose(exchange: Exchange, **noted: Any) -> Exchange:
    """Set fields of an exchange, as the plugins and parts that own them would, and return the exchange.

    Args:
        exchange: the exchange to change.
        noted: the new values, by the names of the fields: ``identity="ann"``, ``status=200``.

    Raises:
        AttributeError: an exchange has no field of a given name.
    """
    for name, value in noted.items():
        owner = next((kind for kind in PARTS if name in kind.__annotations__), None)
        if owner is not None:
            setattr(exchange.part(owner), name, value)
        elif not isinstance(getattr(Exchange, name, None), property):
            raise AttributeError(f"an exchange has no attribute {name}")
        elif hasattr(exchange._body, name):
            setattr(exchange._body, name, value)
        else:
            setattr(exchange, f"_{name}", value)
    return exchange


def _source(body: bytes | Sequence[bytes]) -> Receive:
    parts = [body] if isinstance(body, bytes) else list(body)
    messages: list[Message] = [
        {"type": "http.request", "body": part, "more_body": number < len(parts)}
        for number, part in enumerate(parts, start=1)
    ]

    async def receive() -> Message:
        return messages.pop(0) if messages else {"type": "http.disconnect"}

    return receive
