"""Find the credential of a request.

::

    Authorization: Bearer <key or token>
    Authorization: Basic <base64 of user:key>              (or of key: , as ``curl -u key:`` sends it)
    Authorization: <public key>:<signature>                (Ollama's own, see ``ollama_keys.py``)
    x-api-key: <key or token>
    /k/<key or token>/api/chat                             (see ``path_token.py``)

The query is not searched, because queries end up in logs, histories and Referer headers.
"""

import re
from base64 import b64decode
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from middleware.auth.caller import unauthorized
from proxy.kernel.asgi import Header
from proxy.kernel.errors import Refused

PLACEHOLDER: Final = "ollama"
"""The key that ``ollama launch`` and many tutorials use if a client insists on one; it means "no key"."""

LONGEST: Final = 16 * 1024
"""Maximum length of a token in characters; a longer one is not parsed, hashed or decoded."""

_TOKEN: Final = re.compile(r"[-._~+/A-Za-z0-9]+=*")  # the b64token of RFC 6750, section 2.1
_SIGNATURE: Final = re.compile(r"[+/A-Za-z0-9]+={0,2}:[+/A-Za-z0-9]+={0,2}")


@dataclass(frozen=True, slots=True)
class Presented:
    """The credential of one request: a token, a signature, or neither.

    Attributes:
        token: a key or token, well-formed and at most `LONGEST` characters.
        signature: ``<public key>:<signature>``, both base64.
    """

    token: str | None = None
    signature: str | None = None


NOTHING: Final = Presented()


def presented(headers: Iterable[Header], path_token: str | None = None) -> Presented:
    """Return the one credential of a request.

    Raises Refused: 400 if there are several that differ, 401 if it is not well-formed.
    """
    authorization = api_key = None
    for name, value in headers:
        if name == b"authorization":
            if authorization is not None:
                raise _ambiguous("two Authorization headers")
            authorization = value.decode("latin-1").strip()
        elif name == b"x-api-key":
            if api_key is not None:
                raise _ambiguous("two x-api-key headers")
            api_key = value.decode("latin-1").strip()
    if any(len(text) > 2 * LONGEST for text in (authorization, api_key, path_token) if text):
        raise unauthorized("the key or token is too long", reason="malformed")  # before any work on it
    signature = None
    if authorization and len(authorization) <= LONGEST and _SIGNATURE.fullmatch(authorization):
        signature, authorization = authorization, None
    tokens = {
        token
        for token in (_from_authorization(authorization) if authorization else None, api_key, path_token)
        if token and token != PLACEHOLDER
    }
    if len(tokens) + (signature is not None) > 1:
        raise _ambiguous("two credentials that differ")
    if signature is not None:
        return Presented(signature=signature)
    if not tokens:
        return NOTHING
    token = tokens.pop()
    if len(token) > LONGEST or not _TOKEN.fullmatch(token):
        raise unauthorized("the key or token is not well-formed", reason="malformed")
    return Presented(token=token)


def _from_authorization(value: str) -> str | None:
    scheme, _, rest = value.partition(" ")
    match scheme.lower():
        case "bearer":
            return rest.strip()
        case "basic":
            return _from_basic(rest.strip())
    raise unauthorized("the Authorization header must be Bearer or Basic", error="invalid_request", reason="malformed")


def _from_basic(encoded: str) -> str:
    try:
        user, _, password = b64decode(encoded, validate=True).decode().partition(":")
    except ValueError:  # not ASCII, not base64, or not UTF-8
        raise unauthorized(
            "the Basic credentials are not well-formed", error="invalid_request", reason="malformed"
        ) from None
    return password or user


def _ambiguous(what: str) -> Refused:
    return Refused(400, f"the request carries {what}; send one")
