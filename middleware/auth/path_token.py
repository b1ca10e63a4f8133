"""Take the key out of the path, for clients that can be given a URL and nothing else.

With ``OLLAMA_HOST=https://proxy/k/<key>``, the Ollama CLI requests ``/k/<key>/api/chat``. The key is removed from the
scope before any other code sees the path: no plugin inside `auth` and no log line at the end of the request has it. No
route of Ollama starts with ``/k/``, so the key is removed even if path tokens are switched off.
"""

import re
from typing import Final
from urllib.parse import quote

from proxy.kernel.exchange import Exchange
from proxy.kernel.routes import NoMatch

PREFIX: Final = "/k/"
_ANYWHERE: Final = re.compile(r"(.*?/k)(?:/|%2f).*", re.DOTALL | re.IGNORECASE)


def take_path_token(exchange: Exchange, *, enabled: bool) -> str | None:
    """Remove the key from the path, route the rest, and return the key; None if there is none, or not `enabled`.

    A path without a route may hold a key too: behind another prefix, twice, or split by a slash in the key. Such a path
    is masked from its first ``/k/`` on.
    """
    scope = exchange.scope
    path: str = scope["path"]
    token = None
    if enabled and path.startswith(PREFIX):
        token, _, rest = path[len(PREFIX) :].partition("/")
        root_path = scope.get("root_path", "")
        scope["path"] = f"{PREFIX}{token}/{rest}"
        exchange.reroute(PREFIX + token)
        scope["root_path"] = root_path
        scope["raw_path"] = quote(scope["path"]).encode()
    if exchange.route is None and exchange.match == NoMatch() and (found := _ANYWHERE.match(path)):
        scope["path"] = f"{found[1]}/***"
        scope["raw_path"] = quote(scope["path"]).encode()
    return token
