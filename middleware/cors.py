"""`cors`: which pages of other origins may call the proxy. Replaces Ollama's own ``OLLAMA_ORIGINS``."""

from collections.abc import Awaitable, Sequence
from typing import ClassVar

from proxy.kernel.asgi import ASGIApp, Receive, Scope, Send, header
from proxy.kernel.cross_origin import EXPOSED, MAX_AGE, CrossOrigin
from proxy.kernel.exchange import Exchange
from proxy.kernel.explain import Explanation
from proxy.kernel.units import DurationOrZero


class Cors:
    """Names the origins whose pages may call the proxy and read its answers and errors; pages of others are refused.

    The plugin itself does nothing: the proxy checks pages before any plugin runs, so preflight requests need no
    credentials and pages can read refusals. Without this entry, the origins that Ollama allows by default may call.

    Args:
        origins: the origins that may call, such as `https://chat.example.com`. One `*` in an origin stands for a part
            of it, as in `https://*.example.com` or `chrome-extension://*`; `*` alone is every origin.
        ollama_origins: also allow the origins that Ollama allows by default: `localhost`, `127.0.0.1` and `0.0.0.0` on
            any port, `app://`, `file://`, `tauri://`, `vscode-webview://` and `vscode-file://`; and `[::1]` beside
            them.
        headers: request headers that callers may send in addition to the harmless ones; `*` is every header.
        expose: response headers that scripts may read.
        credentials: whether browsers may send cookies and client certificates for the pages of `origins`. If not, a
            page's call with a certificate is refused.
        max_age: how long a browser may remember the answer to a preflight request; with `0s` it asks every time.
        private_network: whether pages of public addresses may call a proxy at a private one, in browsers that ask for
            it (`Access-Control-Request-Private-Network`).
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
        """The rules that the frame applies before any plugin runs."""

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Return the inner app's awaitable: the frame has already admitted the request."""
        return self.app(scope, receive, send)

    async def explain(self, exchange: Exchange) -> Explanation:
        """Explain whether a page may call."""
        origin = header(exchange.scope["headers"], b"origin")
        if origin is None:
            return Explanation("pass", "no page of another origin asks")
        if self.cross_origin.answer_fields(origin.decode("latin-1")) is None:
            return Explanation("refuse", "pages of this origin may not call")
        return Explanation("pass", "pages of this origin may call")
