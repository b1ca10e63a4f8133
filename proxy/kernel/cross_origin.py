"""CORS by Ollama's rule: which pages of other origins may call, and the fields that answer them.

Ollama refuses what comes from an origin that it does not allow, it does not only withhold the answer
(gin-contrib/cors): a page that may not read an answer could still send a prompt, pull a model, or fill the disk.
"""

import re
from collections.abc import Sequence
from ipaddress import IPv6Address
from typing import Final

from proxy.kernel import error_codes as codes
from proxy.kernel.asgi import Header, Scope, header, header_values
from proxy.kernel.errors import Refused
from proxy.kernel.known_hosts import read_host

_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
LONGEST: Final = 512
"""Characters of an origin; that of a browser is a scheme, a name and a port."""
_APPS: Final = ("app://", "file://", "tauri://", "vscode-webview://", "vscode-file://")
_OLLAMA: Final = re.compile(
    rf"https?://(?:localhost|127\.0\.0\.1|0\.0\.0\.0|\[::1\])(?::[0-9]{{1,5}})?|(?:{'|'.join(_APPS)})[!-+\--~]*"
)
"""The origins that Ollama allows beside OLLAMA_ORIGINS (``AllowedOrigins`` in its envconfig), and ``[::1]``.

Browser extensions are not among them; its users name theirs, such as ``chrome-extension://*``.
"""
_RUN: Final = re.compile(r"[A-Za-z0-9._:\[\]-]*")
"""The characters that a star in an origin stands for."""

MAX_AGE: Final = 600.0
"""Seconds that a browser may remember the answer to a preflight request, where `cors` does not say."""
METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
EXPOSED: Final = (
    *("x-request-id", "retry-after", "www-authenticate", "x-error-code", "x-should-retry", "x-ollama-proxy-model"),
    *("ratelimit", "ratelimit-policy", "link", "content-range"),
    *(f"x-ratelimit-{what}-{of}" for of in ("requests", "tokens") for what in ("limit", "remaining", "reset")),
)
"""The fields of answers that a script may want to read: all that the proxy sends and that are not readable anyway."""


def same_origin(origin: str, scope: Scope) -> bool:
    """Return whether `origin` is the origin that the request's Host names: a page of the proxy itself.

    The scheme is not compared, as TLS may end in front of the proxy. Where it ends here, a page that came without it is
    not ours.
    """
    scheme, separator, authority = origin.partition("://")
    scheme = scheme.lower()
    default = _DEFAULT_PORTS.get(scheme)
    if not separator or default is None or (scheme == "http" and scope["scheme"] == "https"):
        return False
    theirs = read_host(authority)
    ours = read_host((header(scope["headers"], b"host") or b"").decode("latin-1"))
    if theirs is None or ours is None or theirs.name != ours.name:
        return False
    return (theirs.port or default) == (ours.port or default)


class CrossOrigin:
    """The origins whose pages may call, and the fields that tell browsers so.

    Args:
        origins: those that may call, such as ``https://chat.example.com``; one ``*`` in an origin stands for any part
            of its name or port, and ``*`` alone is every origin.
        ollama_origins: so may those that Ollama allows by default.
        headers: request fields beyond the harmless ones that scripts may send; ``*`` is every one.
        expose: fields of answers that scripts may read.
        credentials: whether browsers send cookies and client certificates for the pages of `origins`.
        max_age: seconds that a browser may remember the answer to a preflight request.
        private_network: whether pages of public addresses may call a proxy at a private one.

    Raises:
        ValueError: an origin is none, or credentials would go with every origin.
    """

    def __init__(
        self,
        *,
        origins: Sequence[str] = (),
        ollama_origins: bool = True,
        headers: Sequence[str] = ("*",),
        expose: Sequence[str] = EXPOSED,
        credentials: bool = False,
        max_age: float = MAX_AGE,
        private_network: bool = False,
    ) -> None:
        self._every = "*" in origins
        self._exact = frozenset(_exact(origin) for origin in origins if "*" not in origin)
        self._patterns = [_pattern(origin.lower()) for origin in origins if "*" in origin and origin != "*"]
        self._ollama = ollama_origins
        self._credentials = credentials
        self._private_network = private_network
        self._headers = None if "*" in headers else ", ".join(headers).encode()
        self._exposed: list[Header] = [(b"access-control-expose-headers", ", ".join(expose).encode())] if expose else []
        self._preflight: list[Header] = [
            (b"access-control-allow-methods", ", ".join(METHODS).encode()),
            (b"access-control-max-age", b"%d" % max_age),
        ]
        if credentials and (self._every or any(_is_anybodys(*pattern) for pattern in self._patterns)):
            raise ValueError(
                "cors with credentials needs its origins by name: * at the end of one, or alone, would let every page "
                "act for its reader"
            )

    def answer_fields(self, origin: str) -> list[Header] | None:
        """Return what an answer for a page of `origin` carries, None where it may not call."""
        if len(origin) > LONGEST:
            return None
        canonical = _canonical(origin)
        named = self._is_named(origin, canonical)
        if not named and not (self._ollama and _OLLAMA.fullmatch(canonical)):
            return None
        if self._every:
            return [(b"access-control-allow-origin", b"*"), *self._exposed]
        fields = [(b"access-control-allow-origin", origin.encode("latin-1")), (b"vary", b"Origin"), *self._exposed]
        if named and self._credentials:
            fields.append((b"access-control-allow-credentials", b"true"))
        return fields

    def preflight_fields(self, scope: Scope) -> list[Header]:
        """Return what the answer to a preflight request carries beside `answer_fields` (Fetch, "CORS-preflight")."""
        fields = list(self._preflight)
        asked = scope["headers"]
        names = b", ".join(header_values(asked, b"access-control-request-headers"))
        allowed = names if self._headers is None else self._headers
        if allowed:
            fields.append((b"access-control-allow-headers", allowed))
        if self._private_network and header(asked, b"access-control-request-private-network") == b"true":
            fields.append((b"access-control-allow-private-network", b"true"))
        fields.append((b"vary", b"Access-Control-Request-Headers, Access-Control-Request-Private-Network"))
        return fields

    def _is_named(self, origin: str, canonical: str) -> bool:
        """Return whether the policy file allows `origin`."""
        if self._every or canonical in self._exact:
            return True
        low = origin.lower()
        return any(_fits(low, *pattern) for pattern in self._patterns)


def _canonical(origin: str) -> str:
    """Return an origin of the web in one spelling, with its port; any other in lower case."""
    low = origin.lower()
    scheme, _, authority = low.partition("://")
    found = read_host(authority) if scheme in _DEFAULT_PORTS else None
    if found is None:
        return low
    name = f"[{found.name}]" if isinstance(found.name, IPv6Address) else found.name
    return f"{scheme}://{name}:{found.port or _DEFAULT_PORTS[scheme]}"


def _exact(origin: str) -> str:
    scheme, separator, rest = origin.partition("://")
    web = scheme.lower() in _DEFAULT_PORTS
    if origin != "null" and (not separator or (web and read_host(rest) is None)):
        raise ValueError(f"{origin!r} is not an origin: write scheme://host[:port] with nothing behind it")
    return _canonical(origin)


def _pattern(origin: str) -> tuple[str, str]:
    before, _, after = origin.partition("*")
    if "*" in after or "://" not in before:
        raise ValueError(
            f"{origin!r} is not an origin: one * stands for a part behind ://, as in https://*.example.com"
        )
    return before, after


def _is_anybodys(before: str, after: str) -> bool:
    """Return whether a star ends the host name of a web origin, so that anybody can register a name that fits."""
    scheme, _, authority = before.partition("://")
    return scheme in _DEFAULT_PORTS and ":" not in authority and not after.partition(":")[0]


def _fits(origin: str, before: str, after: str) -> bool:
    if len(origin) < len(before) + len(after) or not (origin.startswith(before) and origin.endswith(after)):
        return False
    return _RUN.fullmatch(origin, len(before), len(origin) - len(after)) is not None


def is_preflight(scope: Scope) -> bool:
    """Return whether the request is a preflight: a browser asks what it may send for a page of another origin."""
    return scope["method"] == "OPTIONS" and header(scope["headers"], b"access-control-request-method") is not None


def for_page(headers: Sequence[Header], fields: Sequence[Header]) -> list[Header]:
    """Return an answer's headers with `fields` in place of what else speaks of CORS, and with one Vary of all."""
    vary: dict[str, str] = {}
    kept: list[Header] = []
    for name, value in (*headers, *fields):
        if name.lower() == b"vary":
            for token in value.decode("latin-1").split(","):
                if token.strip():
                    vary.setdefault(token.strip().lower(), token.strip())
        elif not name.lower().startswith(b"access-control-"):
            kept.append((name, value))
    kept += [pair for pair in fields if pair[0] != b"vary"]
    if vary:
        kept.append((b"vary", b"*" if "*" in vary else ", ".join(vary.values()).encode("latin-1")))
    return kept


def with_credentials(fields: Sequence[Header]) -> bool:
    """Return whether `answer_fields` lets a page act with credentials that its browser adds by itself."""
    return header(fields, b"access-control-allow-credentials") is not None


def foreign(origin: str | None, *, certificate: bool = False) -> Refused:
    """Return the refusal of a page that is neither the proxy's own nor allowed.

    Args:
        origin: None where it is not known.
        certificate: the page may call, but not with the client certificate that came with its call.
    """
    readable = origin and origin.isascii() and origin.isprintable() and len(origin) <= LONGEST
    shown = f' ("{origin}")' if readable else ""  # in quotes, like all that a caller wrote: so logs can mask it
    how, add = "", "add its origin to cors.origins"
    if certificate:
        how, add = " with a client certificate", "add its origin to cors.origins and say cors.credentials: true"
    return Refused(
        403,
        f"a page of another origin{shown} may not call this proxy{how}; where it should, {add} in the middleware list "
        "of the policy file",
        code=codes.CROSS_ORIGIN,
    )
