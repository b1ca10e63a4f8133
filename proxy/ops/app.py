"""The application behind the routes under ``/-/``.

`Router` calls it at the end of the chain. It raises errors, and the frame renders them.
"""

from collections.abc import Awaitable, Callable
from contextlib import aclosing
from importlib.resources import files
from typing import Final

import orjson
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route, Router

from proxy.kernel import error_codes as codes
from proxy.kernel.asgi import UNBUFFERED, ASGIApp, Receive, Scope, Send, header, start_response
from proxy.kernel.errors import ERROR_CODE, Refused
from proxy.kernel.exchange import Exchange
from proxy.ops.actions import Actions
from proxy.ops.answers import HEADERS, asset, failed, json
from proxy.ops.app_protocol import Engine
from proxy.ops.change_permission import check_change
from proxy.ops.document_types import Health, Readiness
from proxy.ops.effective_config import digest
from proxy.ops.events import Hub
from proxy.ops.explaining import account, read_supposed
from proxy.ops.one_status import one_readiness
from proxy.ops.openapi import openapi
from proxy.ops.report import readiness
from proxy.ops.routes import OPERATIONS, Operation

ASSETS: Final = {path.name: path.read_bytes() for path in (files("proxy.ops") / "assets").iterdir() if path.is_file()}

Handler = Callable[[Request], Awaitable[ASGIApp]]


class Ops:
    """Shows the state of an engine and changes it.

    Attributes:
        hub: the frame's observer; it sends events to listeners.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.hub = Hub(engine)
        self.actions = Actions(engine, self.hub)
        engine.peers.on("readiness", self._readiness)
        self._router = Router([_route(operation, self.handler(operation)) for operation in OPERATIONS])

    def handler(self, operation: Operation) -> Handler:
        """Return the method that has the name of `operation`: it answers the operation."""
        found: Handler = getattr(self.actions if operation.changes else self, operation.name)
        return found

    async def _readiness(self, about: object) -> Readiness:
        return readiness(self._engine)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; raises Refused."""
        Exchange.of(scope).response_headers += HEADERS
        await self._router(scope, receive, send)

    # For machines

    async def healthz(self, request: Request) -> Response:
        """Answer that the process is alive."""
        return json(Health())

    async def readyz(self, request: Request) -> Response:
        """Answer whether requests can be served: 200 or 503."""
        ready = readiness(self._engine)
        if not ready.ready and self._engine.serving:
            ready = one_readiness(await self._engine.peers.ask("readiness"), ready)
        return json(ready) if ready.ready else failed(ready, 503, codes.NOT_READY)

    async def status(self, request: Request) -> Response:
        """Answer with the status of the proxy now."""
        return json(await self.hub.status())

    async def events(self, request: Request) -> ASGIApp:
        """Stream events until the client leaves; the frame then cancels the task."""

        async def stream(scope: Scope, receive: Receive, send: Send) -> None:
            headers = [(b"content-type", b"text/event-stream"), UNBUFFERED]
            await start_response(send, 200, headers)
            async with aclosing(self.hub.listen()) as events:
                async for event in events:
                    await send({"type": "http.response.body", "body": event, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})

        return stream

    async def metrics(self, request: Request) -> Response:
        """Answer with all metrics, in the format that the Accept header asks for."""
        await self._engine.stored_entries.count()
        accept = (header(request.scope["headers"], b"accept") or b"").decode("latin-1")
        body, kind = await self._engine.metrics.exposition(accept)
        return Response(body, headers={"content-type": kind})

    async def config(self, request: Request) -> Response:
        """Answer with the policy file in force."""
        return json(digest(self._engine.plan, self._engine.settings))

    async def journal(self, request: Request) -> Response:
        """Answer with deferred requests and batches."""
        return json(await self._engine.stored_entries.find(request.query_params))

    async def journal_entry(self, request: Request) -> Response:
        """Answer with one deferred request or batch."""
        return json(await self._engine.stored_entries.get(request.path_params["id"]))

    async def explain(self, request: Request) -> Response:
        """Answer what would happen to the described request."""
        document = await Exchange.of(request.scope).json()
        engine = self._engine
        supposed = read_supposed(document)
        return json(await account(engine.chain, engine.frame.current.routes, supposed, engine.bodies))

    async def openapi(self, request: Request) -> Response:
        """Answer with the OpenAPI document of the ops routes and of the routes that are passed on to Ollama."""
        return Response(orjson.dumps(openapi(self._engine.frame.current.routes)), media_type="application/json")

    # For people

    async def page(self, request: Request) -> Response:
        """Answer with the ops page."""
        return asset("page.html", ASSETS["page.html"])

    async def page_moved(self, request: Request) -> Response:
        """Redirect to the page. The location is relative, so that a prefix in the caller's URL stays."""
        return RedirectResponse("-/", 307, headers={ERROR_CODE.decode(): codes.MOVED})

    async def docs(self, request: Request) -> Response:
        """Answer with the page that shows the API."""
        return asset("docs.html", ASSETS["docs.html"])

    async def asset(self, request: Request) -> Response:
        """Answer with a file of the pages."""
        name = request.path_params["file"]
        if name not in ASSETS:
            raise Refused(404, "there is no such file")
        return asset(name, ASSETS[name])


def _route(operation: Operation, handle: Handler) -> Route:
    async def guarded(request: Request) -> ASGIApp:
        check_change(Exchange.of(request.scope))
        return await handle(request)

    return Route(operation.route.path, guarded if operation.changes else handle, methods=list(operation.route.methods))
