"""A stand-in for the routes of stored requests."""

import re

from proxy.deferred.answer_reader import check_start, record_from
from proxy.kernel.asgi import ASGIApp, Receive, Scope, Send, header, respond, start_response
from proxy.kernel.errors import Refused
from proxy.kernel.journal import Journal


class RecordsApi:
    def __init__(self, app: ASGIApp, *, journal: Journal) -> None:
        self.app = app
        self.journal = journal

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        found = re.match(r"/-/requests/(\w+)(/answer)?$", scope.get("path", ""))
        if not found:
            await self.app(scope, receive, send)
            return
        entry = await self.journal.get(found[1])
        if entry is None:
            raise Refused(404, "no such request")
        if scope["method"] == "DELETE":
            await self.journal.cancel(found[1], "the caller ended it")
            await respond(send, 204, [], b"")
            return
        wanted = header(scope["headers"], b"range")
        offset = int(wanted[6:-1]) if wanted else 0
        check_start(entry, offset)
        headers = [(b"content-type", b"x")]
        await start_response(send, 206 if wanted else 200, headers)
        async for piece in record_from(self.journal, entry, offset):
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})
