"""The key in the path, for clients that can be told a URL and nothing else.

``OLLAMA_HOST=https://proxy/k/<key>`` makes the Ollama CLI ask for ``/k/<key>/api/chat``. The key is taken out of the
scope before anything else sees the path: nothing inside `auth`, and no log line written when the request ends, has it.
No route of Ollama starts with ``/k/``, so that is done even where path tokens are switched off.
"""

from typing import Final
from urllib.parse import quote

from proxy.exchange import Exchange

PREFIX: Final = "/k/"
_HIDDEN: Final = "/k/***"


def take_path_token(exchange: Exchange, *, enabled: bool) -> str | None:
    """Take the key out of the path and route what remains; returns it, or None where there is none.

    Switched off, the key is blotted out and the path stays one that no route has.
    """
    scope = exchange.scope
    path: str = scope["path"]
    if not path.startswith(PREFIX):
        return None
    token, slash, rest = path[len(PREFIX) :].partition("/")
    root_path = scope.get("root_path", "")
    if enabled:
        scope["path"] = f"{PREFIX}{token}/{rest}"
        exchange.reroute(PREFIX + token)
        scope["root_path"] = root_path
    else:
        scope["path"] = f"{_HIDDEN}{slash}{rest}"
    scope["raw_path"] = quote(scope["path"]).encode()
    return token if enabled else None
