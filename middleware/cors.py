"""`cors`: lets pages of other origins call the proxy, in place of Ollama's own ``OLLAMA_ORIGINS``."""

from collections.abc import Sequence

from starlette.middleware.cors import CORSMiddleware

from proxy.asgi import ASGIApp, Receive, Scope, Send
from proxy.units import DurationOrZero

METHODS = ("GET", "HEAD", "POST", "DELETE")
"""The methods of Ollama's routes."""


class Cors:
    """Answers browsers' preflight requests and names the origins that may read answers.

    Args:
        origins: the origins that may call, such as `https://chat.example.com`; `*` is every origin.
        origin_regex: origins that match this whole expression may call too.
        headers: request headers beyond the harmless ones that callers may send; `*` is every header.
        expose: response headers that scripts may read.
        credentials: whether browsers may send cookies.
        max_age: how long a browser may remember the answer to a preflight request; with `0s` it asks every time.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        origins: Sequence[str] = (),
        origin_regex: str | None = None,
        headers: Sequence[str] = ("*",),
        expose: Sequence[str] = ("x-request-id", "retry-after"),
        credentials: bool = False,
        max_age: DurationOrZero = 600.0,
    ) -> None:
        if not origins and origin_regex is None:
            raise ValueError("cors needs origins or origin_regex")
        if credentials and "*" in origins:
            raise ValueError(
                "cors with credentials needs its origins by name: * would let every page act for its reader"
            )
        self._cors = CORSMiddleware(
            app,
            allow_origins=origins,
            allow_origin_regex=origin_regex,
            allow_methods=METHODS,
            allow_headers=headers,
            allow_credentials=credentials,
            expose_headers=expose,
            max_age=int(max_age),
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a preflight request, or pass the request on and add what the browser wants to see."""
        await self._cors(scope, receive, send)
