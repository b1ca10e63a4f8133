"""The key in the path, for clients that can be told a URL and nothing else.

``OLLAMA_HOST=https://proxy/k/<key>`` makes the Ollama CLI ask for ``/k/<key>/api/chat``. The key is taken out of the
scope before anything else sees the path: nothing inside `auth`, and no log line written when the request ends, has it.
No route of Ollama starts with ``/k/``, so that is done even where path tokens are switched off.
"""

import re
from typing import Final
from urllib.parse import quote

from proxy.kernel.exchange import Exchange
from proxy.kernel.routes import NoMatch

PREFIX: Final = "/k/"
_ANYWHERE: Final = re.compile(r"(.*?/k)(?:/|%2f).*", re.DOTALL | re.IGNORECASE)


def take_path_token(exchange: Exchange, *, enabled: bool) -> str | None:
    """Take the key out of the path and route what remains; returns it, or None where there is none.

    A path that leads nowhere may hold a key all the same: behind another prefix, twice, or in pieces because it had a
    slash in it. From its first ``/k/`` on it is blotted out.
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
