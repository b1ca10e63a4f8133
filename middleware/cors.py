"""`cors`: which pages of other origins may call the proxy, in place of Ollama's own ``OLLAMA_ORIGINS``."""

from collections.abc import Awaitable, Sequence
from typing import ClassVar

from proxy.kernel.asgi import ASGIApp, Receive, Scope, Send, header
from proxy.kernel.cross_origin import EXPOSED, MAX_AGE, CrossOrigin
from proxy.kernel.exchange import Exchange
from proxy.kernel.explain import Explanation
from proxy.kernel.units import DurationOrZero


class Cors:
    """Says which pages of other origins may call, and read answers and errors; those of other origins are refused.

    It does nothing itself: the proxy decides about pages before any plugin, so that preflight requests need no
    credentials and refusals can be read. Without this entry the origins that Ollama allows by default may call.

    Args:
        origins: the origins that may call, such as `https://chat.example.com`. One `*` in an origin stands for a part
            of it, as in `https://*.example.com` or `chrome-extension://*`; `*` alone is every origin.
        ollama_origins: so may the origins that Ollama allows by default, which are `localhost`, `127.0.0.1`, `0.0.0.0`
            and `[::1]` on any port, `app://`, `file://`, `tauri://`, `vscode-webview://` and `vscode-file://`.
        headers: request headers beyond the harmless ones that callers may send; `*` is every header.
        expose: response headers that scripts may read.
        credentials: whether browsers may send cookies and client certificates for the pages of `origins`; a page that
            may not is refused where its call comes with a certificate.
        max_age: how long a browser may remember the answer to a preflight request; with `0s` it asks every time.
        private_network: whether pages of public addresses may call a proxy at a private one, where browsers ask
            for that (`Access-Control-Request-Private-Network`).
    """

    governs_pages: ClassVar = True

    def __init__(
        self,
        app: ASGIApp,
        *,
        origins: Sequence[str] = (),
        ollama_origins: bool = True,
        headers: Sequence[str] = ("*",),
        expose: Sequence[str] = EXPOSED,
        credentials: bool = False,
        max_age: DurationOrZero = MAX_AGE,
        private_network: bool = False,
    ) -> None:
        self.app = app
        self.cross_origin = CrossOrigin(
            origins=origins,
            ollama_origins=ollama_origins,
            headers=headers,
            expose=expose,
            credentials=credentials,
            max_age=max_age,
            private_network=private_network,
        )
        """What the frame decides by."""

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Return the inner app's own awaitable: the frame has admitted the request."""
        return self.app(scope, receive, send)

    async def explain(self, exchange: Exchange) -> Explanation:
        """Say whether a page may call."""
        origin = header(exchange.scope["headers"], b"origin")
        if origin is None:
            return Explanation("pass", "no page of another origin asks")
        if self.cross_origin.answer_fields(origin.decode("latin-1")) is None:
            return Explanation("refuse", "pages of this origin may not call")
        return Explanation("pass", "pages of this origin may call")
