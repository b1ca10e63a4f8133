"""Call a plugin through ASGI, as the frame does."""

import inspect
from dataclasses import dataclass, field

from proxy.kernel.asgi import ASGIApp, Header, Message, Receive, Scope, Send, header, respond
from proxy.kernel.errors import Outcome, ProxyError
from proxy.kernel.exchange import Exchange
from proxy.testing.exchanges import suppose


@dataclass
class Answer:
    """The outcome of a call.

    Attributes:
        status: the status of the answer; None if the plugin sent none.
        headers: the header fields of the answer, with those of `Exchange.response_headers`.
        chunks: the chunks of the body, as the plugin sent them.
        complete: whether the plugin sent the last chunk.
        error: the error that ended the call, such as `Refused`; the frame would send it to the client.
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
        """Return the first value of the header `name`, which is in lower case; None if there is none."""
        value = header(self.headers, name.encode())
        return None if value is None else value.decode("latin-1")


async def call(app: ASGIApp, exchange: Exchange, *, outcome: Outcome | None = None) -> Answer:
    """Run `app` for `exchange` as the frame does: collect the answer, record a ProxyError, then run the finishers.

    Args:
        app: the plugin; it wraps an inner application.
        exchange: the request; the call sets its `status`, `error` and `outcome`.
        outcome: the outcome that the finishers see; by default ``completed``, or the outcome of the ProxyError.

    Raises:
        Exception: any exception of `app` that is not a ProxyError.
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
    """Answer 200 with the text ``ok``; a plugin can wrap this application."""
    await respond(send, 200, [(b"content-type", b"text/plain")], b"ok")
