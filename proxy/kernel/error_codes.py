"""The table of all error codes: the stable names by which programs tell the proxy's errors apart.

An error's code is in the header ``x-error-code``, in the log (``error_code``) and, unless Ollama makes the error too
(`OLLAMAS_OWN`), in its body. Its name and meaning do not change, as clients and alerts depend on both. A new error that
no row describes gets a new row here, and ``scripts/generate`` writes it into ``docs/reference/errors.md``.
``tests/proxy/kernel/test_error_codes.py`` checks that the sources and the table agree, in both directions.

A plugin of another package makes its own, ``NO_TEAM = Code("acme_no_team")``, without a row; a prefix keeps them apart.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple, NewType

Code = NewType("Code", str)
"""The name of a kind of error, in snake_case."""


class Row(NamedTuple):
    """The description of one code.

    Attributes:
        statuses: the HTTP statuses it comes with.
        by: the plugins and the folders under ``proxy/`` that raise it.
        means: what happened.
        remedy: what the caller or the operator can do about it.
    """

    statuses: tuple[int, ...]
    by: tuple[str, ...]
    means: str
    remedy: str


TABLE: Final[dict[Code, Row]] = {}
"""All codes of the project, in the order in which a request meets them: the connection first, backends last."""


def _row(name: str, statuses: int | tuple[int, ...], by: str, means: str, remedy: str) -> Code:
    """Add a row to `TABLE` and return its code."""
    code = Code(name)
    TABLE[code] = Row((statuses,) if isinstance(statuses, int) else statuses, tuple(by.split(", ")), means, remedy)
    return code


# fmt: off

# The connection and the request's head

TOO_MANY_CONNECTIONS: Final = _row("too_many_connections", 503, "server",
    "The proxy, or the caller's address, has as many connections or files open as it may.",
    "Wait as long as Retry-After says; close idle connections. `server.connections` has the bounds.")
MALFORMED_REQUEST: Final = _row("malformed_request", 400, "server",
    "What came is not a request in HTTP/1.1.",
    "Correct the client. Something that speaks TLS or HTTP/2 to a plain listener gets this, too.")
UPGRADE_REQUIRED: Final = _row("upgrade_required", 426, "server",
    "The request opens a WebSocket of another version than 13.",
    "Open one of version 13 (RFC 6455).")
METHOD_NOT_ALLOWED: Final = _row("method_not_allowed", 405, "server, relay, websocket",
    "The path has no such method, or no path has.",
    "Use one of the methods that the Allow field names.")
BAD_TARGET: Final = _row("bad_target", 400, "server",
    "The request target is no path, has characters that none has, or names another host than the Host field.",
    "Send the path, percent-encoded.")
BAD_HOST: Final = _row("bad_host", (400, 403), "server, ops",
    "400: the Host field is missing, twice there, or no host name. 403: somebody without an identity wants to change "
    "something and calls the proxy by another name than localhost.",
    "Send one Host field with name and port of the proxy; call it by localhost, or add `auth`.")
BAD_FRAMING: Final = _row("bad_framing", 400, "server",
    "Content-Length and Transfer-Encoding do not say with one voice where the body ends.",
    "Send one Content-Length, or `Transfer-Encoding: chunked`, not both.")
HEAD_TOO_LARGE: Final = _row("head_too_large", 431, "server",
    "The request's head has more bytes than `server.head` allows.",
    "Send fewer or shorter header fields.")
TOO_MANY_FIELDS: Final = _row("too_many_fields", 431, "server",
    "The request's head has more fields than `server.head` allows.",
    "Send fewer header fields.")
HEAD_TIMEOUT: Final = _row("head_timeout", 408, "server",
    "The request's head did not arrive within `server.head.deadline`.",
    "Send the head in one piece.")
PIPELINE_OVERFLOW: Final = _row("pipeline_overflow", 400, "server",
    "More than 64 KiB came behind a request that was still answered. The connection is closed without an answer; the "
    "code is in the log.",
    "Wait for an answer before you send the next request.")
BAD_CHUNK_OVERHEAD: Final = _row("bad_chunk_overhead", 400, "server",
    "The sizes, extensions or trailers of a chunked body have more bytes than a head may have.",
    "Send fewer, larger chunks without extensions.")
BODY_TIMEOUT: Final = _row("body_timeout", 408, "server",
    "Nothing of the request's body came for `server.body.timeout`.",
    "Send the body without such breaks.")
WRITE_TIMEOUT: Final = _row("write_timeout", (408, 504), "server, upstream",
    "408, in the log only: the client left its answer unread for `server.write`. 504: the backend took nothing of the "
    "request for `pool.timeouts.write`.",
    "408: read answers as they come. 504: look at the backend and the network before it.")

# Pages in browsers, and the names that the proxy is called by

BAD_ORIGIN: Final = _row("bad_origin", 400, "chain",
    "The request has more than one Origin field.",
    "Correct what adds a second one.")
CROSS_ORIGIN: Final = _row("cross_origin", 403, "kernel, ops",
    "A page of an origin that is not allowed called the proxy, or a page of another origin wants to change something.",
    "Add the origin to `cors.origins`; change things from the proxy's own page or the command line.")
UNKNOWN_HOST: Final = _row("unknown_host", 403, "kernel",
    "The Host field names a host that is not known to be the proxy.",
    "Call the proxy by a name of its own, or add the name to `server.hosts`.")

# The request's body

INVALID_REQUEST: Final = _row("invalid_request", (400, 422),
    "kernel, ops, access, auth, background, parameters, queue, server, websocket",
    "The request's body, or a part of its path, query or header fields, is not what the route takes.",
    "Correct what the message names.")
REQUEST_TOO_LARGE: Final = _row("request_too_large", 413, "kernel",
    "The request's body is larger than `server.body.each`.",
    "Send less, or raise it.")
SOCKET_BUSY: Final = _row("socket_busy", 429, "websocket",
    "As many requests of this WebSocket wait as `server.websocket.waiting` allows.",
    "Wait for an answer, or open another socket.")
BODY_HOLDS_TOO_MUCH: Final = _row("body_holds_too_much", (400, 413), "kernel",
    "The request's body holds more text, lists, keys or values than are read, or unpacks to too much.",
    "Send less at once.")
UNSUPPORTED_CONTENT_ENCODING: Final = _row("unsupported_content_encoding", 415, "kernel, batches",
    "The request's body is compressed in a way that Ollama does not read on this route.",
    "Send it uncompressed.")
BODY_TOO_SLOW: Final = _row("body_too_slow", 408, "kernel",
    "The request's body came in more slowly than bodies may, over all.",
    "Send it faster: a slow sender holds memory that others need.")
BODY_SHARE_EXCEEDED: Final = _row("body_share_exceeded", 429, "kernel",
    "The caller has as many request bodies in the proxy's memory as one caller may.",
    "Send fewer requests at a time; try again after Retry-After.")
BODY_MEMORY_EXHAUSTED: Final = _row("body_memory_exhausted", 503, "kernel",
    "The proxy holds as many request bodies as it can.",
    "Try again after Retry-After; raise `server.body.total` where there is memory.")

# The caller, and the caller's permissions

INVALID_API_KEY: Final = _row("invalid_api_key", 401, "auth",
    "The request has no key, token or signature, or one that is not valid here.",
    "Send a valid one, as the message and WWW-Authenticate say.")
INSUFFICIENT_SCOPE: Final = _row("insufficient_scope", 403, "auth",
    "The token lacks a scope.",
    "Get a token with the scopes that WWW-Authenticate names.")
NO_POLICY: Final = _row("no_policy", 403, "auth",
    "No policy is meant for what the token or certificate says of the caller.",
    "Correct the claims, or the mapping to policies under `auth`.")
TOO_MANY_CREDENTIALS: Final = _row("too_many_credentials", 429, "auth",
    "Too many wrong keys or tokens came from the address, or too many to be asked about at once.",
    "Send a right one; wait as long as Retry-After says.")
IDENTITY_PROVIDER_UNAVAILABLE: Final = _row("identity_provider_unavailable", 503, "auth",
    "Nobody can say now whether the credential is valid: the identity provider does not answer, or there are too many.",
    "Try again after Retry-After; look at the provider and the log.")
FORBIDDEN: Final = _row("forbidden", 403, "plugins of other packages",
    "The caller may not do this.",
    "See the message.")
ROUTE_NOT_ALLOWED: Final = _row("route_not_allowed", 403, "access",
    "The caller's policy does not allow the route.",
    "Use another route, or add it to `access.routes`.")
MODEL_NOT_FOUND: Final = _row("model_not_found", 404, "access",
    "The request names no model, on a route where Ollama answers that with 404.",
    "Name a model.")
MODEL_NOT_ALLOWED: Final = _row("model_not_allowed", 403, "access",
    "The caller's policy does not allow the model.",
    "Use a model of the list that /api/tags shows, or add it to `access.models`.")
FIELD_NOT_ALLOWED: Final = _row("field_not_allowed", 403, "access",
    "The caller's policy does not allow a field of the request's body.",
    "Leave the field out.")
TOOL_NOT_ALLOWED: Final = _row("tool_not_allowed", 403, "access",
    "The request asks for a tool of Ollama that the caller's policy does not allow.",
    "Leave the tool out.")
PARAMETER_NOT_ALLOWED: Final = _row("parameter_not_allowed", 403, "parameters",
    "A parameter has a value that the caller's policy does not allow.",
    "Send a value within the bounds that the message names.")
IDENTITY_REQUIRED: Final = _row("identity_required", 403, "ops",
    "Somebody without an identity wants to change something, and not from the proxy's own machine.",
    "Add `auth` to the middleware list, or call from the machine itself.")

# Limits and waiting

RATE_LIMIT_EXCEEDED: Final = _row("rate_limit_exceeded", 429, "rate_limit",
    "A limit is used up; the message and the RateLimit fields say which.",
    "Wait as long as Retry-After says.")
LIMITS_UNAVAILABLE: Final = _row("limits_unavailable", 503, "rate_limit",
    "The store of the counters does not answer, and the limit says `on_store_failure: closed`.",
    "Try again after Retry-After; look at the store.")
QUEUE_FULL: Final = _row("queue_full", 503, "queue",
    "As many requests wait as may: `queue.depth`.",
    "Try again after Retry-After.")
TENANT_QUEUE_FULL: Final = _row("tenant_queue_full", 429, "queue",
    "As many requests of the tenant wait as may: `queue.depth_per_tenant`.",
    "Send fewer at a time; try again after Retry-After.")
QUEUE_SHARE_EXCEEDED: Final = _row("queue_share_exceeded", 429, "queue",
    "The queue is full and most of it is the tenant's: its last request gave way to another tenant's.",
    "Send fewer at a time; try again after Retry-After.")
QUEUE_TOO_SLOW: Final = _row("queue_too_slow", 503, "queue",
    "The request would wait longer than it may: `queue.wait`, or its own X-Request-Timeout.",
    "Try again after Retry-After, or give it more time.")
QUEUE_TIMEOUT: Final = _row("queue_timeout", 503, "queue",
    "The request waited as long as it may, and no slot came free.",
    "Try again after Retry-After, or give it more time.")

# Requests that run later

DEFERRED_TOO_LARGE: Final = _row("deferred_too_large", 413, "kernel",
    "The request's body is larger than `defer.max_body`, so it cannot be kept to run later.",
    "Send it without `Prefer: respond-async`, or shorter.")
DEFERRED_SHARE_EXCEEDED: Final = _row("deferred_share_exceeded", 429, "kernel",
    "As many requests of the caller wait or run in the journal as may: `defer.per_identity`.",
    "Wait as long as Retry-After says, or cancel one.")
JOURNAL_FULL: Final = _row("journal_full", 507, "kernel, batches",
    "The journal holds as many requests or bytes as it may: `defer.total`, or the bound of its home.",
    "Try again later. The operator: raise the bound, or delete what is over (`ollama-proxy requests purge`).")
JOURNAL_UNAVAILABLE: Final = _row("journal_unavailable", 503, "kernel",
    "The journal, which keeps requests that run later, does not answer.",
    "Try again after Retry-After; look at the store.")
IDEMPOTENCY_KEY_REUSED: Final = _row("idempotency_key_reused", 422, "kernel",
    "The caller sent another request with the same Idempotency-Key before.",
    "Send each request with a key of its own.")
IDEMPOTENCY_KEY_IN_USE: Final = _row("idempotency_key_in_use", 409, "defer",
    "A request of the caller with the same Idempotency-Key is being answered.",
    "Send it again after Retry-After: it is answered anew, or told where its answer will be.")
WEBHOOK_NOT_ALLOWED: Final = _row("webhook_not_allowed", 403, "kernel",
    "The request names an address to be told that it is over, and `defer.webhooks` does not allow it.",
    "Name none, or one of those that the operator allows.")
REQUEST_NOT_FOUND: Final = _row("request_not_found", 404, "deferred",
    "The caller has no entry of that id in the journal: it never was, is somebody else's, was deleted or has expired.",
    "Correct the id, or send the request again.")
DEFERRED_FAILED: Final = _row("deferred_failed", (410, 502), "deferred",
    "The request is over, and was never answered. 410: it was cancelled, or did not run in time. 502: it failed.",
    "Send the request again.")
REVOKED: Final = _row("revoked", 401, "auth",
    "The request ran later, and the key or token that it was sent with does not count any more.",
    "Send it again with a valid one.")

# Routes

NOT_FOUND: Final = _row("not_found", 404, "relay, ops",
    "There is no such route, or no such file of the proxy's page.",
    "Correct the path. A route of another version of Ollama is declared under `routes`.")
MOVED: Final = _row("moved", (301, 307), "relay, ops",
    "The route is found under another path.",
    "Follow Location.")
LOOP_DETECTED: Final = _row("loop_detected", 508, "relay",
    "The request came from this proxy: a backend, or a proxy behind it, points back here.",
    "Correct the addresses under `backends`.")
BACKEND_REQUIRED: Final = _row("backend_required", 409, "relay",
    "There are several backends and the request changes one of them.",
    "Name it: /-/backends/NAME before the path, or the header X-Ollama-Backend.")
PULL_FAILED: Final = _row("pull_failed", 500, "relay",
    "A pull on all backends failed on some; the message says on which, and why.",
    "Correct what the message says and pull again.")

# Going on from an earlier response, and reading a recorded one

PREVIOUS_RESPONSE_NOT_FOUND: Final = _row("previous_response_not_found", (400, 404), "kernel, websocket",
    "The request goes on from a response (`previous_response_id`) that is not kept: unknown, expired, somebody else's, "
    "or the chain has no plugin `responses`. Ollama would answer without what was said before.",
    "Send the whole conversation in `input`, without `previous_response_id`. The operator: add `responses`.")
RESPONSES_UNAVAILABLE: Final = _row("responses_unavailable", 503, "responses",
    "The request goes on from an earlier response, and the journal that keeps it does not answer.",
    "Wait as long as Retry-After says, or send the whole conversation in `input`.")
CONVERSATION_TOO_LONG: Final = _row("conversation_too_long", 413, "responses",
    "What was said before and the new input are longer than `responses` keeps.",
    "Send what the model needs in `input`, without `previous_response_id`.")
RANGE_NOT_SATISFIABLE: Final = _row("range_not_satisfiable", 416, "deferred",
    "The range begins behind the end of a recorded answer, which is complete.",
    "Nothing is missing: the Content-Range field says how long the answer is.")
ANSWER_GONE: Final = _row("answer_gone", 410, "deferred",
    "The range begins where the recorded answer broke off: it was ended, its proxy is gone, or it is longer than what "
    "`resumable: {keep: …}` keeps of one.",
    "Send the request again.")

# Background mode, files and batches

BACKGROUND_NEEDS_STORE: Final = _row("background_needs_store", 400, "defer",
    "The request asks for background mode and says `store: false`.",
    "Leave `store` out, or send the request without `background`.")
NO_SUCH_RESPONSE: Final = _row("no_such_response", 404, "background",
    "There is no response of that id in background mode: it never was, has expired, was deleted, or is another "
    "caller's.",
    "Look at the id of the object that the request was answered with.")
NO_SUCH_FILE: Final = _row("no_such_file", 404, "batches",
    "There is no file of that id: it never was, has expired, was deleted, or is another caller's.",
    "Upload it (again). The operator: see `defer: {batches: {keep: …}}`.")
NO_SUCH_BATCH: Final = _row("no_such_batch", 404, "batches",
    "There is no batch of that id: it never was, has expired, was deleted, or is another caller's.",
    "Look at the list of your batches.")
INVALID_FILE: Final = _row("invalid_file", 400, "batches",
    "What was uploaded is no file for a batch: the form lacks it, or its purpose is another one.",
    "Send a form with `purpose` (`batch`) and `file`, as the SDKs do.")
INVALID_BATCH: Final = _row("invalid_batch", 400, "batches",
    "The batch cannot be begun: a member is missing, or one of its requests is not as it must be.",
    "Correct what the message names.")
FILE_TOO_LARGE: Final = _row("file_too_large", 413, "batches",
    "The file is larger than `defer: {batches: {size: …}}` allows.",
    "Split it into several batches.")
TOO_MANY_LINES: Final = _row("too_many_lines", 413, "batches",
    "The batch has more requests than `defer: {batches: {lines: …}}` allows.",
    "Split it into several batches.")
TOO_MANY_FILES: Final = _row("too_many_files", 429, "batches",
    "The caller has as many files as `defer: {batches: {files: …}}` allows.",
    "Delete some that are no longer needed.")
TOO_MANY_BATCHES: Final = _row("too_many_batches", 429, "batches",
    "The caller has as many open batches as `defer: {batches: {open: …}}` allows.",
    "Wait until one has ended, or cancel one.")
BATCHES_NOT_ALLOWED: Final = _row("batches_not_allowed", 403, "batches",
    "The caller's policy keeps no requests, and so no files and batches.",
    "Send the requests one by one. The operator: see `defer` in the policy.")
FILE_IN_USE: Final = _row("file_in_use", 409, "batches",
    "A batch that has not ended still reads its requests from the file.",
    "Wait until the batch has ended, or cancel it.")
BATCH_NOT_ENDED: Final = _row("batch_not_ended", 409, "batches",
    "The batch has not ended: it has no results yet, and cannot be deleted.",
    "Wait until it has ended, or cancel it.")

# Choosing a backend

UNKNOWN_BACKEND: Final = _row("unknown_backend", 404, "pool, ops",
    "There is no backend of the name that the request gives.",
    "Use one of the names in the message.")
NO_BACKEND: Final = _row("no_backend", 503, "pool",
    "No backend can be used for the request: all are down, drained or tried already.",
    "Look at the backends with `ollama-proxy status`.")
NO_SLOT: Final = _row("no_slot", 503, "pool",
    "Every backend that could serve the request runs as many as it may: `slots` and the like in `backends`.",
    "Try again after Retry-After, or add the `queue`.")
DRAINING: Final = _row("draining", 503, "pool",
    "The backend that the request names is being drained.",
    "Name another one, or none.")

# What backends do

CONNECT_TIMEOUT: Final = _row("connect_timeout", 504, "upstream",
    "No connection to the backend was made, or free, within `pool.timeouts.connect`.",
    "Look at the backend's machine and the network.")
UPSTREAM_UNREACHABLE: Final = _row("upstream_unreachable", 502, "upstream",
    "No connection to the backend: refused, unreachable, its name unknown, or TLS failed. Nothing was sent.",
    "See whether the backend runs, and compare its address; the log has the details.")
LOAD_TIMEOUT: Final = _row("load_timeout", 504, "upstream",
    "A model that was not in memory gave no first byte within `pool.timeouts.load`.",
    "Raise it where models load longer; look at the backend.")
FIRST_BYTE_TIMEOUT: Final = _row("first_byte_timeout", 504, "upstream",
    "The backend gave no first byte of its answer within `pool.timeouts.first_byte`.",
    "Raise it where prompts take longer, or stream; look at the backend.")
IDLE_TIMEOUT: Final = _row("idle_timeout", 504, "upstream",
    "The answer had begun, and nothing more came for `pool.timeouts.idle` (with tools: `pool.timeouts.tools`).",
    "Look at the backend; send the request again.")
TOTAL_TIMEOUT: Final = _row("total_timeout", 504, "relay",
    "The request took longer than `pool.timeouts.total`.",
    "Ask for less at once, or raise it.")
MANAGE_TIMEOUT: Final = _row("manage_timeout", 504, "upstream",
    "A pull, push, create, copy, delete or upload was answered nothing, or nothing more, for `pool.timeouts.manage`.",
    "Raise it where files are large or disks slow; look at the backend.")
UPSTREAM_CONNECTION_LOST: Final = _row("upstream_connection_lost", 502, "upstream, pool",
    "The backend closed or broke the connection before the first byte of its answer.",
    "Send the request again; if it happens again, look at the backend's log.")
UPSTREAM_BAD_ANSWER: Final = _row("upstream_bad_answer", 502, "upstream, relay, pool, access, chain",
    "What the backend answered is not HTTP/1.1, exceeds a bound, is empty, or is not what the route answers.",
    "See whether the address is that of an Ollama.")
UPSTREAM_ERROR: Final = _row("upstream_error", (200, 400, 404, 500, 501, 502, 503, 504), "relay, chain, websocket",
    "The backend answered an error of its own, or ended a 200 with one. In the log only, as the answer is passed on as "
    "it came, with no code; behind heartbeats, an error in the format of another API has this code.",
    "See what the backend says.")
BACKEND_DOWN: Final = _row("backend_down", 502, "pool",
    "The backend stopped answering questions while the request waited for its first byte, and the request could not be "
    "answered by another one.",
    "Send the request again; look at the backend.")
UPSTREAM_TRUNCATED: Final = _row("upstream_truncated", 502, "deferred, upstream, relay, websocket",
    "The answer had begun and broke off, or ended without the end that its protocol has.",
    "Send the request again; look at the backend's log.")
UPSTREAM_FAILED: Final = _row("upstream_failed", (400, 502), "upstream",
    "The request could not be sent, or the exchange with the backend failed in another way.",
    "See the message.")
SUSPECTED_POISON: Final = _row("suspected_poison", (500, 502), "pool",
    "Two backends broke off without an answer when they got this request; it is sent to no other one.",
    "Change the request before you send it again.")
UNLOAD_FAILED: Final = _row("unload_failed", 502, "relay, ops",
    "The backend, or one of those that may have it in memory, did not unload the model.",
    "See the message; try again.")

# Operating the proxy

CANCELLED: Final = _row("cancelled", 499, "chain, deferred, resumable, websocket",
    "An operator ended the request, or its own client did so over its WebSocket.",
    "Ask the operator.")
SHUTDOWN: Final = _row("shutdown", 503, "chain, server, websocket",
    "The proxy stops, and `server.shutdown` is over; or the WebSocket takes no further requests.",
    "Send the request again, over another connection.")
NOT_READY: Final = _row("not_ready", 503, "ops",
    "/-/readyz: no backend can be used, not every backend has been asked yet, or the proxy stops.",
    "Look at the backends with `ollama-proxy status`.")
UNKNOWN_REQUEST: Final = _row("unknown_request", 404, "ops",
    "No request of the given id runs; or no deferred one has it.",
    "Take the id from /-/status or /-/journal; it may be over, or expired.")
ENTRY_NOT_READY: Final = _row("entry_not_ready", 409, "ops",
    "The state of a deferred request does not allow what an operator wants of it.",
    "Look at its state with `ollama-proxy requests show ID`.")
NO_FILE: Final = _row("no_file", 409, "ops",
    "The proxy was started without a policy file, so that none can be loaded again.",
    "Start it with one.")
INVALID_POLICY: Final = _row("invalid_policy", 422, "ops",
    "The policy file has mistakes; the one before stays in force.",
    "Correct what `problems` in the answer names.")
INTERNAL_ERROR: Final = _row("internal_error", 500, "chain",
    "The proxy, or a plugin, has a bug.",
    "The log has it under the request's id.")

# For refusals of plugins of other packages that name no code

REQUEST_TIMEOUT: Final = _row("request_timeout", 408, "plugins of other packages",
    "The request took too long to arrive.",
    "See the message.")
CONFLICT: Final = _row("conflict", 409, "plugins of other packages",
    "The request does not go together with the state of what it is about.",
    "See the message.")
OVERLOADED: Final = _row("overloaded", 503, "plugins of other packages",
    "There is too much to do.",
    "Try again after Retry-After.")
UPSTREAM_TIMEOUT: Final = _row("upstream_timeout", 504, "plugins of other packages",
    "Something that the request waits for did not answer in time.",
    "See the message.")
REFUSED: Final = _row("refused", (), "plugins of other packages",
    "The request is refused, with a status that has no code of its own.",
    "See the message.")

# fmt: on

BY_STATUS: Final[Mapping[int, Code]] = {
    301: MOVED,
    307: MOVED,
    400: INVALID_REQUEST,
    401: INVALID_API_KEY,
    403: FORBIDDEN,
    404: NOT_FOUND,
    405: METHOD_NOT_ALLOWED,
    408: REQUEST_TIMEOUT,
    409: CONFLICT,
    413: REQUEST_TOO_LARGE,
    415: UNSUPPORTED_CONTENT_ENCODING,
    422: INVALID_REQUEST,
    429: RATE_LIMIT_EXCEEDED,
    499: CANCELLED,
    500: INTERNAL_ERROR,
    502: UPSTREAM_FAILED,
    503: OVERLOADED,
    504: UPSTREAM_TIMEOUT,
    508: LOOP_DETECTED,
}
"""The default code of a refusal, by its status; `REFUSED` for any other status."""

OLLAMAS_OWN: Final[frozenset[Code]] = frozenset({INVALID_REQUEST, MODEL_NOT_FOUND})
"""Errors that Ollama makes as well. Their bodies are written as Ollama writes them, and so have no code."""

FINAL: Final[frozenset[Code]] = frozenset({BACKEND_REQUIRED, LOOP_DETECTED, SUSPECTED_POISON})
"""Errors with a status that clients retry by themselves, although the same request cannot succeed."""
