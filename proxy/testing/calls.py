"""Calls of a plugin by hand-written ASGI, as the frame makes them."""

import inspect
from dataclasses import dataclass, field

from proxy.kernel.asgi import ASGIApp, Header, Message, Receive, Scope, Send, header, respond
from proxy.kernel.errors import Outcome, ProxyError
from proxy.kernel.exchange import Exchange
from proxy.testing.exchanges import suppose


@dataclass
class Answer:
    """What came of a call.

    Attributes:
        status: the status of the answer; None where nothing was sent.
        headers: its header fields, those in `Exchange.response_headers` included.
        chunks: the parts of its body, as they were sent.
        complete: the last part was sent.
        error: the error that ended the call, such as `Refused`; the frame would answer with it.
    """

    status: int | None = None
    headers: list[Header] = field(default_factory=list)
    chunks: list[bytes] = field(default_factory=list)
    complete: bool = False
    error: ProxyError | None = None

    @property
    def body(self) -> bytes:
        """The whole body."""
        return b"".join(self.chunks)

    def header(self, name: str) -> str | None:
        """Return the first header field called `name`, in lower case; None if there is none."""
        value = header(self.headers, name.encode())
        return None if value is None else value.decode("latin-1")


async def call(app: ASGIApp, exchange: Exchange, *, outcome: Outcome | None = None) -> Answer:
    """Run `app` for `exchange` as the frame does: collect what it sends, note a ProxyError, then run the finishers.

    Args:
        app: a plugin around an inner app.
        exchange: the request; its `status`, `error` and `outcome` are set.
        outcome: how the request ended, for the finishers; by default what the call came to.

    Raises:
        Exception: whatever `app` raises, except a ProxyError.
    """
    answer = Answer()

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            answer.status = message["status"]
            suppose(exchange, status=answer.status)
            answer.headers = [*message.get("headers", []), *exchange.response_headers]
        else:
            answer.chunks.append(message.get("body", b""))
            answer.complete = not message.get("more_body", False)

    try:
        await app(exchange.scope, exchange.receive, send)
    except ProxyError as error:
        answer.error = error
        suppose(exchange, error=error, outcome=outcome or error.outcome)
    else:
        suppose(exchange, outcome=outcome or "completed")
    for finish in exchange.finishers():
        result = finish(exchange)
        if inspect.isawaitable(result):
            await result
    return answer


async def ok(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer 200 with the text ``ok``: an app to put a plugin around."""
    await respond(send, 200, [(b"content-type", b"text/plain")], b"ok")
