"""Choose the headers that pass the proxy, in both directions (RFC 9110, section 7.6)."""

from collections.abc import Sequence
from typing import Final

from proxy.kernel.asgi import Header, Scope
from proxy.kernel.errors import ERROR_CODE
from proxy.relay.answer_sandbox import as_data

_HOP_BY_HOP: Final = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
_OURS: Final = frozenset(
    {
        # Written anew for every backend.
        b"host",
        b"content-length",
        b"via",
        b"forwarded",
        b"x-forwarded-for",
        b"x-forwarded-host",
        b"x-forwarded-proto",
        b"x-forwarded-port",
        b"x-real-ip",
        b"x-request-id",
    }
)
_WITHHELD: Final = frozenset(
    {
        # The caller's credentials are for this proxy. With a cloud model they would go on to servers of others.
        b"authorization",
        b"cookie",
        b"x-api-key",
        # Ollama refuses foreign origins with an empty 403; the frame answers CORS.
        b"origin",
        # Token counts could not be read from a compressed answer.
        b"accept-encoding",
        b"expect",
        # They would let the caller choose the path or method that a further proxy sees.
        b"x-original-url",
        b"x-original-uri",
        b"x-rewrite-url",
        b"x-forwarded-path",
        b"x-forwarded-prefix",
        b"x-http-method-override",
        b"x-http-method",
        b"x-method-override",
    }
)
_ABOUT_THE_ORIGIN: Final = frozenset(
    {
        # To a browser the answer comes from the origin of the ops page, for which no backend may speak.
        b"set-cookie",
        b"set-cookie2",
        b"clear-site-data",
        b"refresh",
        b"alt-svc",
        b"strict-transport-security",
        b"service-worker-allowed",
        b"service-worker-navigation-preload",
        b"sourcemap",
        b"x-sourcemap",
        b"link",
        b"nel",
        b"report-to",
        b"reporting-endpoints",
        b"public-key-pins",
        b"speculation-rules",
        b"origin-trial",
        b"origin-agent-cluster",
        b"activate-storage-access",
        b"content-security-policy",
        b"content-security-policy-report-only",
        b"x-content-type-options",
        # The frame answers CORS.
        b"access-control-allow-origin",
        b"access-control-allow-credentials",
        b"access-control-allow-headers",
        b"access-control-allow-methods",
        b"access-control-allow-private-network",
        b"access-control-expose-headers",
        b"access-control-max-age",
    }
)
_TO_A_SERVER_IN_FRONT: Final = frozenset(
    {
        # Orders to nginx and others: send this file of yours instead, keep this answer, send it slowly.
        b"x-accel-redirect",
        b"x-accel-expires",
        b"x-accel-limit-rate",
        b"x-accel-charset",
        b"x-sendfile",
        b"x-lighttpd-send-file",
        b"x-reproxy-url",
    }
)
_NOT_SENT: Final = _HOP_BY_HOP | _OURS | _WITHHELD
_NOT_RETURNED: Final = _HOP_BY_HOP | _ABOUT_THE_ORIGIN | _TO_A_SERVER_IN_FRONT | {b"date", b"x-request-id", ERROR_CODE}
"""The fields of an answer that do not pass. The error code would say that this proxy made the answer."""


def via_names(headers: Sequence[Header], pseudonym: bytes) -> bool:
    """Return whether a Via field has our pseudonym: the request came back to this process."""
    return any(name == b"via" and pseudonym in value for name, value in headers)


def upstream_headers(
    scope: Scope, *, host: bytes, via: bytes, client: str, request_id: str, added: Sequence[Header] = ()
) -> list[Header]:
    """Return the headers for a backend, without the framing of the body: the caller's that may pass, and ours.

    `added` are the headers of the backend's settings, in lower case; they replace the caller's.
    """
    received: list[Header] = scope["headers"]
    dropped = _named_by_connection(received, _NOT_SENT)
    if added:
        dropped = dropped.union(name for name, _ in added)
    headers: list[Header] = [(b"host", host)]
    forwarded_host = b""
    seen_via = b""
    for pair in received:
        name = pair[0]
        if name in dropped:
            if name == b"host":
                forwarded_host = pair[1]
            elif name == b"via":
                seen_via += pair[1] + b", "
        elif b"_" not in name or name.replace(b"_", b"-") not in dropped:
            headers.append(pair)
    headers.append((b"via", seen_via + b"1.1 " + via))
    headers.append((b"x-forwarded-for", client.encode("latin-1")))
    headers.append((b"x-forwarded-proto", scope["scheme"].encode("latin-1")))
    if forwarded_host:
        headers.append((b"x-forwarded-host", forwarded_host))
    headers.append((b"x-request-id", request_id.encode()))
    headers.extend(added)
    return headers


def downstream_headers(received: Sequence[Header]) -> list[Header]:
    """Return the headers of a backend's answer that the caller gets, names in lower case.

    A Content-Type that a browser would show as a page, or run, becomes plain text: see `proxy.relay.answer_sandbox`.
    """
    lowered = [(name.lower(), value) for name, value in received]
    dropped = _named_by_connection(lowered, _NOT_RETURNED)
    return as_data([pair for pair in lowered if pair[0] not in dropped])


def _named_by_connection(headers: Sequence[Header], always: frozenset[bytes]) -> frozenset[bytes]:
    named: set[bytes] = set()
    for name, value in headers:
        if name == b"connection":
            named.update(token.strip().lower() for token in value.split(b","))
    return always | named if named - _HARMLESS else always


_HARMLESS: Final = frozenset({b"keep-alive", b"close", b"upgrade", b"te"})
