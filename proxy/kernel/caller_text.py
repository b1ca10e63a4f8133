"""Text of callers that a log, a trace or a page repeats: user agents, names of models, texts within errors.

People put credentials where they do not belong: a key as the model, a token in the User-Agent. What looks like one is
masked, by the same forms as in `capture`. A model that has written a whole answer is no secret, however its name looks.
"""

import re
from functools import lru_cache
from typing import Final

from proxy.kernel.exchange import Exchange
from proxy.kernel.log_lines import clip
from proxy.kernel.redaction import MASK, Redaction

_LOOKED_AT: Final = 1024
"""Characters that are masked; a credential that begins in the shown part ends within these."""
_CREDENTIALS: Final = Redaction({"keys"})
_USER_INFO: Final = re.compile(r"(?<=://)[^/@\s]{1,256}@")
_MOST: Final = 1024
_answered: Final[set[str]] = set()
"""The models that wrote a whole answer. A pull of an unknown model begins with 200 too, so a status proves nothing.

They stay when a host is down, which is when they matter in a log.
"""
_QUOTED: Final = re.compile(r"'[^']{8,1024}'|\"[^\"]{8,1024}\"")
"""The quoted parts of error messages, ours and Ollama's, that repeat a caller's text."""
_PATH_TOKEN: Final = re.compile(r"(?i)(/k/+)[^/]+")
KEY_PREFIX: Final = "op_"
"""The prefix of the keys that the proxy makes."""
_KEY: Final = re.compile(rf"[^/]{{25,}}|(?<=/)(?:{KEY_PREFIX}|sk-)[^/]+")
_BEHIND_PATH: Final = re.compile(r"[?#;&].*", re.DOTALL)


def masked_text(text: str, limit: int = 256) -> str:
    """Return the first `limit` characters of `text`, without what looks like a credential."""
    return _masked(text[:_LOOKED_AT], limit)


@lru_cache(maxsize=512)
def _masked(text: str, limit: int) -> str:
    return clip(_CREDENTIALS.first(_USER_INFO.sub(f"{MASK}@", text), limit + 1), limit)


def masked_error(message: str, limit: int = 512) -> str:
    """Return the first `limit` characters of an error's text, without what looks like a credential in its quotes."""
    if "'" in message or '"' in message:
        message = _QUOTED.sub(_without, message[: 4 * _LOOKED_AT])
    return clip(message, limit)


def _without(match: re.Match[str]) -> str:
    quoted = match[0]
    return quoted[0] + masked_text(quoted[1:-1], _LOOKED_AT) + quoted[-1]


def _has_answered(exchange: Exchange) -> bool:
    route = exchange.route
    whole = exchange.committed and exchange.status == 200 and exchange.outcome == "completed"
    return whole and route is not None and route.kind == "inference"


def model_of(exchange: Exchange) -> str | None:
    """Return the short name of the request's model; without what looks like a credential until it has answered."""
    model = exchange.model
    if model is None:
        return None
    name = clip(model.short, 256)
    if name not in _answered and len(_answered) < _MOST and _has_answered(exchange):
        _answered.add(name)
    return name if name in _answered else masked_text(name)


def masked_path(path: str) -> str:
    """Return a path that no route has, fit for a log: at most 256 characters and without what may be a secret.

    What stands behind ``?``, ``#``, ``;`` or ``&`` (percent-encoded in the request line, or it would not be in a path)
    is left out. What follows ``/k/`` is masked, and so is every segment that begins or is as long as a key.
    """
    path = _BEHIND_PATH.sub("", path[:4096])
    return clip(_KEY.sub("***", _PATH_TOKEN.sub(r"\1***", path)), 256)
