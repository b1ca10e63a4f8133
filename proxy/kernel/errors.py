"""The errors of a request, and their form in each API flavor.

::

    ProxyError                 status, message, code, headers, outcome
    ├── Refused                the proxy refused it: a plugin, a limit, a bound
    │   └── NotRouted          Ollama has no such route; in plain text, as Ollama answers
    ├── Cancelled              an operator ended the request, before or during its answer
    ├── ShuttingDown           the time to drain is over, before or during its answer
    └── UpstreamError          the backend did not answer, or not completely; sent, received
        ├── ConnectFailed      no connection: nothing was sent
        ├── ConnectionLost     reset or closed before the first byte of the answer
        ├── BadAnswer          the answer is not HTTP/1.1 that the proxy accepts
        ├── UpstreamTimeout    one named timer ran out: connect, load, first_byte, idle, write, total
        ├── UpstreamAnswer     the backend's own error (404, 5xx), kept whole so that it can be relayed
        │   └── ErrorRecord    its own error at the end of a 200, which has gone out as it came: never raised
        ├── PullFailed         a pull on all backends failed on some; its last line, which has gone out, says so
        └── Truncated          the answer began and broke off: never retried, never ended cleanly
    ClientGone                 the client left; there is nobody to answer

Plugins raise `Refused`; only the frame renders errors. The one map in ``proxy/upstream/failures.py``, and nothing else,
turns foreign exceptions into these. Each error has a code of the table in ``proxy/kernel/error_codes.py``.
"""

from collections.abc import Mapping
from typing import Final, Literal, Self

import orjson

from proxy.kernel import error_codes as codes
from proxy.kernel.asgi import Header
from proxy.kernel.error_codes import Code

Flavor = Literal["ollama", "openai", "anthropic", "text"]
Outcome = Literal[
    "completed", "refused", "cancelled", "client_gone", "upstream_failed", "upstream_truncated", "timed_out", "shutdown"
]
Unterminated = Literal["auto", "pass", "error"]
"""The rule for an answer that ended cleanly at the transport, but without its terminator."""
Timer = Literal["connect", "load", "first_byte", "idle", "write", "total"]
About = Literal["request", "host", "crash", "unknown"]
"""The subject of a backend's error; ``crash``: the runner of the model died."""

_PASSING: Final = frozenset({503, 504})

ERROR_CODE: Final = b"x-error-code"
"""The response header with an error's code. Each error that the proxy makes has it; no answer of a backend has it."""
JSON: Final = b"application/json; charset=utf-8"
TEXT: Final = b"text/plain; charset=utf-8"


class ClientGone(Exception):
    """The client closed its connection; raised where the proxy waits for its next message."""


def let_go(error: BaseException) -> None:
    """Remove the traceback, cause and context of `error`, once it is handled.

    They refer back to it: this cycle would keep the request, with its body, until the garbage collector runs.
    """
    error.__traceback__ = error.__cause__ = error.__context__ = None


class ProxyError(Exception):
    """An error that ends a request.

    Args:
        status: HTTP status.
        message: one sentence for the caller: what was wrong, where, what to do. It never holds a secret.
        code: the error's name for programs: in its body, in ``x-error-code``, and in the log as ``error_code``.
        headers: extra response headers, for example ``{"retry-after": "3"}``.
    """

    outcome: Outcome = "refused"

    def __init__(self, status: int, message: str, *, code: Code, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.detail = message
        """The message for the operator: it may hold a backend's address."""
        self.code = code
        self.headers: Mapping[str, str] = headers or {}


class Refused(ProxyError):
    """The proxy refused the request. Without a code, the status decides the code (`error_codes.BY_STATUS`).

    Give a code where that one says something else than what happened, and where a status has none: it would be
    ``refused``, which tells a program nothing. 431 has none, as two codes come with it. A 422 without a code is about
    the request, not about a policy file.

    Attributes:
        by: the name of the plugin that refused; the chain sets it.
    """

    by: str | None = None

    def __init__(
        self, status: int, message: str, *, code: Code | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(status, message, code=code or codes.BY_STATUS.get(status, codes.REFUSED), headers=headers)


class NotRouted(Refused):
    """No such path (404), a wrong method (405 with Allow), or one slash too many (301, 307 with Location)."""


class Cancelled(ProxyError):
    """An operator ended the request. Its status is 499, which no client retries by itself."""

    outcome: Outcome = "cancelled"

    def __init__(self, reason: str) -> None:
        super().__init__(499, reason, code=codes.CANCELLED)


class ShuttingDown(ProxyError):
    """The proxy stops, and the time for the request to finish is over."""

    outcome: Outcome = "shutdown"

    def __init__(self) -> None:
        super().__init__(
            503, "the proxy is shutting down; try again", code=codes.SHUTDOWN, headers={"connection": "close"}
        )


class UpstreamError(ProxyError):
    """A backend did not answer, or not completely.

    Attributes:
        sent: whether any byte of the request may have reached the backend.
        received: whether any byte of an answer came back.
        backend: the backend's name, for the log; dispatch sets it.
        spent: the request was sent and lost as often as allowed, and must not be sent again.
    """

    outcome: Outcome = "upstream_failed"
    code_default = codes.UPSTREAM_FAILED
    status_default = 502

    def __init__(
        self,
        message: str,
        *,
        sent: bool = False,
        received: bool = False,
        status: int | None = None,
        detail: str | None = None,
    ) -> None:
        super().__init__(status or self.status_default, message, code=self.code_default)
        self.detail = message if detail is None else detail
        self.sent = sent
        self.received = received
        self.backend: str | None = None
        self.spent = False

    def at(self, backend: str) -> None:
        """Set the backend that failed. A message without the backend's address gets its name instead."""
        self.backend = backend
        if self.detail != self.message:
            self.message = self.message.replace("the backend", f"the backend {backend}", 1)


class ConnectFailed(UpstreamError):
    """No connection was made: refused, unreachable, name unknown, TLS failed."""

    code_default = codes.UPSTREAM_UNREACHABLE


class ConnectionLost(UpstreamError):
    """The connection was reset or closed before the first byte of the answer.

    `reused` is True for a kept-alive connection, which the backend may just have closed; False where the backend more
    likely died on this request.
    """

    code_default = codes.UPSTREAM_CONNECTION_LOST

    def __init__(self, message: str, *, sent: bool, reused: bool, detail: str | None = None) -> None:
        super().__init__(message, sent=sent, detail=detail)
        self.reused = reused


class BadAnswer(UpstreamError):
    """The backend's answer violates HTTP/1.1, exceeds a bound, or is empty.

    After a violation the connection is closed.
    """

    code_default = codes.UPSTREAM_BAD_ANSWER


class UpstreamTimeout(UpstreamError):
    """A timer ran out; `timer`, the code and the text name it.

    The given message says what did not happen, and within which time.
    """

    outcome: Outcome = "timed_out"
    status_default = 504

    def __init__(
        self, message: str, *, timer: Timer, sent: bool = False, received: bool = False, detail: str | None = None
    ) -> None:
        detail = message if detail is None else detail
        super().__init__(_timed(message, timer), sent=sent, received=received, detail=_timed(detail, timer))
        self.timer = timer
        self.code = TIMEOUTS[timer]
        self._untimed = message, detail

    def unbegun(self, timer: Timer) -> "UpstreamTimeout":
        """Return the error with another timer's name, for an answer of which nothing has gone out."""
        message, detail = self._untimed
        return UpstreamTimeout(message, timer=timer, sent=self.sent, detail=detail)


class UpstreamAnswer(UpstreamError):
    """A whole error answer of a backend (at most 64 KiB), raised so that `retry` may try elsewhere.

    If nothing catches it, the frame relays it unchanged: status, headers and body.
    """

    code_default = codes.UPSTREAM_ERROR

    def __init__(
        self,
        status: int,
        headers: list[Header],
        body: bytes,
        *,
        busy: bool,
        missing: bool,
        about: About = "unknown",
        said: str | None = None,
    ) -> None:
        super().__init__(f"the backend answered {status}", sent=True, received=True, status=status)
        self.outcome: Outcome = "upstream_failed" if status >= 500 else "completed"
        self.response_headers = headers
        self.body = body
        self.busy = busy
        """Whether it is a 503 "maximum pending requests": back-pressure, not a fault."""
        self.missing = missing
        """Whether it is a 404 for a model that the backend seemed to have."""
        self.about: About = about
        self.said = None if said is None else (status, said)
        """Status and text of an error in JSON, in a form for comparing two errors; None for any other."""

    @property
    def answer(self) -> tuple[int, str] | None:
        """Status and text that make it the request's fault where another backend answers the same; else None.

        It is None for errors about a host, which all hosts with the same fault answer, and for 503 and 504, which may
        pass.
        """
        return None if self.about in ("host", "crash") or self.status in _PASSING else self.said


class ErrorRecord(UpstreamAnswer):
    """The backend's own error in a 200: the last record of a stream, or the whole body.

    It has gone out to the client as it came, so it is noted and never raised. Its status is that which Ollama gives to
    the same error before the first byte of an answer.
    """

    def __init__(self, text: str, *, about: About, said: str) -> None:
        super().__init__(500, [], b"", busy=False, missing=False, about=about, said=said)
        self.message = self.detail = f"the backend ended its answer with an error: {text}"


class PullFailed(UpstreamError):
    """A pull on all backends failed on some. It is noted and never raised, as the client has got its text."""

    code_default = codes.PULL_FAILED
    status_default = 500


class Truncated(UpstreamError):
    """The answer broke off after it had begun.

    Attributes:
        clean: whether the HTTP framing was complete and only the stream's terminator is missing.
    """

    outcome: Outcome = "upstream_truncated"
    code_default = codes.UPSTREAM_TRUNCATED

    def __init__(self, message: str, *, clean: bool = False, detail: str | None = None) -> None:
        super().__init__(message, sent=True, received=True, detail=detail)
        self.clean = clean

    @classmethod
    def after(cls, error: UpstreamError) -> Self:
        """Return a Truncated for the error that broke the stream, with the code of that error (``idle_timeout``, …)."""
        truncated = cls(error.message, detail=error.detail)
        truncated.code = error.code
        return truncated


TIMEOUTS: Final[Mapping[Timer, Code]] = {
    "connect": codes.CONNECT_TIMEOUT,
    "load": codes.LOAD_TIMEOUT,
    "first_byte": codes.FIRST_BYTE_TIMEOUT,
    "idle": codes.IDLE_TIMEOUT,
    "write": codes.WRITE_TIMEOUT,
    "total": codes.TOTAL_TIMEOUT,
}
"""The code of each timer."""

_OPENAI_TYPES: Final = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}
_ANTHROPIC_TYPES: Final = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    529: "overloaded_error",
}


def _timed(text: str, timer: Timer) -> str:
    return f"{text} (timer {timer})"


def _kind(types: Mapping[int, str], status: int) -> str:
    return types.get(status) or ("invalid_request_error" if status < 500 else "api_error")


_SPLIT_AT: Final = str.maketrans(dict.fromkeys("\x85\u2028\u2029", " "))


def _sentence(error: ProxyError) -> str:
    """Return the message without characters that UTF-8 cannot encode, or at which some clients split records."""
    message = error.message
    return message if message.isascii() else message.encode(errors="backslashreplace").decode().translate(_SPLIT_AT)


def _name(error: ProxyError) -> str:
    """Return the code in ASCII without control characters; that of a plugin of another package may be any text.

    No codec is used that would first have to be imported: there may be no file left to open.
    """
    return error.code if error.code.isascii() and error.code.isprintable() else ascii(error.code)[1:-1]


def _document(flavor: Flavor, error: ProxyError) -> bytes:
    message, code = _sentence(error), _name(error)
    if flavor == "openai":
        detail = {
            "message": message,
            "type": _kind(_OPENAI_TYPES, error.status),
            "param": None,
            "code": code,
        }
        return orjson.dumps({"error": detail})
    if flavor == "anthropic":  # Anthropic's SDKs read type and message, and keep the rest
        kind = _kind(_ANTHROPIC_TYPES, error.status)
        return orjson.dumps({"type": "error", "error": {"type": kind, "message": message, "code": code}})
    return orjson.dumps({"error": message, "code": code})  # Ollama's clients read only `error`


def render(flavor: Flavor, error: ProxyError) -> tuple[int, list[Header], bytes]:
    """Return status, headers and body of `error` in the flavor of the API that was called.

    A backend's own error answer is returned unchanged. Any other error has its code in ``x-error-code``, and in a JSON
    body.
    """
    if isinstance(error, UpstreamAnswer):
        return error.status, error.response_headers, error.body
    if flavor == "text" or isinstance(error, NotRouted):
        kind, body = TEXT, _sentence(error).encode()
    else:
        kind, body = JSON, _document(flavor, error)
    headers: list[Header] = [
        (b"content-type", kind),
        (b"content-length", b"%d" % len(body)),
        (ERROR_CODE, _name(error).encode()),
    ]
    headers += [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in error.headers.items()]
    return error.status, headers, body


def render_record(flavor: Flavor, error: ProxyError) -> bytes:
    """Return `error` as one record of a running stream: an NDJSON line, or one SSE event."""
    document = _document(flavor, error)
    if flavor == "openai":
        return b"data: " + document + b"\n\n"
    if flavor == "anthropic":
        return b"event: error\ndata: " + document + b"\n\n"
    return document + b"\n"
