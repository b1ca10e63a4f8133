"""Requests as the frame hands them to a plugin, without a server and without a socket."""

import time
from collections.abc import Sequence
from typing import Final

from proxy.kernel.asgi import Header, Message, Scope
from proxy.kernel.body_budget import BodyBudget
from proxy.kernel.exchange import KEY, Exchange
from proxy.kernel.routes import RouteTable

ROUTES: Final = RouteTable()
"""The routes of Ollama, without any that a policy file adds."""


def make_exchange(
    method: str = "POST",
    path: str = "/api/chat",
    *,
    body: bytes | Sequence[bytes] = b"",
    headers: Sequence[tuple[str, str]] = (),
    client: str = "127.0.0.1",
    query: bytes = b"",
    identity: str | None = None,
    tenant: str | None = None,
    policy: str | None = None,
    started_at: float | None = None,
    bodies: BodyBudget | None = None,
) -> Exchange:
    """Return an exchange as the frame makes it; its `scope` is what a plugin is called with.

    Args:
        method: of the request.
        path: its path, which decides the route.
        body: its body. One that is given in parts arrives in as many messages; then the client disconnects.
        headers: its header fields; names may have capitals.
        client: the address that it comes from.
        query: what stands behind the question mark.
        identity: the caller that `auth` would have named.
        tenant: the tenant of that caller.
        policy: the policy that holds for the caller.
        started_at: when the request began, seconds of `Clock.monotonic`; now where None.
        bodies: the memory that bodies may take; a budget of its own where None.
    """
    parts = [body] if isinstance(body, bytes) else list(body)
    messages: list[Message] = [
        {"type": "http.request", "body": part, "more_body": number < len(parts)}
        for number, part in enumerate(parts, start=1)
    ]

    async def receive() -> Message:
        return messages.pop(0) if messages else {"type": "http.disconnect"}

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
        receive,
        id="test",
        routes=ROUTES,
        client=client,
        started_at=time.monotonic() if started_at is None else started_at,
        bodies=bodies or BodyBudget(),
    )
    exchange.identity, exchange.tenant, exchange.policy = identity, tenant, policy
    scope[KEY] = exchange
    return exchange
