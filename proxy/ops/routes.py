"""The routes under ``/-/`` as data. The route table, the handlers and the OpenAPI document are made from it."""

from dataclasses import dataclass
from typing import Final, Literal

from proxy.kernel.route import Body, Route

Kind = Literal["json", "text", "events", "page"]


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter in a request's path or query."""

    name: str
    about: str
    place: Literal["path", "query"] = "path"
    required: bool = True


@dataclass(frozen=True, slots=True)
class Also:
    """A response other than 200, apart from the error responses that any route may give."""

    status: int
    about: str
    answer: str


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation of the ops API.

    Attributes:
        name: the name of its handler, and its id in the OpenAPI document.
        summary: what it does, in a line.
        about: a longer description.
        answers: the kind of the response: JSON, plain text, server-sent events, or a page.
        answer: the name of the schema of the JSON response.
        also: responses other than 200.
        changes: whether it changes something; then the caller must be known.
    """

    name: str
    route: Route
    summary: str
    about: str = ""
    answers: Kind = "json"
    answer: str | None = None
    also: tuple[Also, ...] = ()
    changes: bool = False
    parameters: tuple[Parameter, ...] = ()


def _get(
    path: str, *, open: bool = False, page: bool = False, probe: bool = False, query: tuple[str, ...] = ()
) -> Route:
    methods = ("GET", "HEAD") if open else ("GET",)
    return Route(path, methods, "ops", open=open, page=page, probe=probe, query=query)


def _post(path: str, *, body: Body = "none", query: tuple[str, ...] = ()) -> Route:
    return Route(path, ("POST",), "ops", body=body, repeat="never", query=query)


_UNKNOWN: Final = Also(404, "There is none of that name.", "Error")
_NOT_POSSIBLE: Final = Also(409, "Its state does not allow it.", "Error")
_ENTRY: Final = Parameter("id", "The id that its caller got with the 202, or of the batch.")
_BACKEND: Final = Parameter("backend", "Its name in the policy file.")

OPERATIONS: Final = (
    Operation(
        "healthz",
        _get("/-/healthz", open=True, probe=True),
        "Whether the process answers",
        "200 as long as it does. For liveness probes; open to everybody.",
        answer="Health",
    ),
    Operation(
        "readyz",
        _get("/-/readyz", open=True, probe=True),
        "Whether requests can be served",
        "200 while a backend can be used and the proxy is not shutting down, else 503. For readiness probes and load "
        "balancers; open to everybody.",
        answer="Readiness",
        also=(Also(503, "They cannot.", "Readiness"),),
    ),
    Operation("page", _get("/-/", open=True, page=True), "The page for people", "It asks for a key.", answers="page"),
    Operation(
        "page_moved",
        _get("/-", open=True, page=True),
        "The page for people",
        "Leads to the one with a slash.",
        answers="page",
    ),
    Operation(
        "asset",
        _get("/-/assets/{file}", open=True),
        "The parts of the pages",
        answers="page",
        parameters=(Parameter("file", "Its name."),),
    ),
    Operation("docs", _get("/-/docs", open=True, page=True), "This document, to read", answers="page"),
    Operation(
        "openapi",
        _get("/-/openapi.json", open=True),
        "This document",
        "OpenAPI 3.1, of the operations under /-/ and of the routes of Ollama that are passed on.",
        answer="object",
    ),
    Operation(
        "status",
        _get("/-/status"),
        "Everything about this moment",
        "Backends, queue, running and recent requests, limits in use, the configuration in force.",
        answer="Status",
    ),
    Operation(
        "events",
        _get("/-/events"),
        "What happens, while it happens",
        "Server-sent events, each with JSON as data. `status` comes first, and again for a listener that fell behind; "
        "`tick` every second: a status without what rarely changes; `started`, `answered` (its first byte came) and "
        "`finished` for each request; `backend` when one changes its state; `config` when a file was loaded or "
        "refused; `bye` before the proxy shuts down.",
        answers="events",
        answer="Status",
    ),
    Operation(
        "metrics",
        _get("/-/metrics"),
        "Numbers for Prometheus",
        "Text format or OpenMetrics, as the Accept header asks. Requests are counted where `metrics` is in the chain.",
        answers="text",
    ),
    Operation(
        "config",
        _get("/-/config"),
        "The policy file in force, as it was understood",
        "Every setting and every option of every plugin, for each policy, defaults included. What came from the "
        "environment stands there as it is written in the file, and secrets are masked.",
        answer="Digest",
    ),
    Operation(
        "journal",
        _get("/-/journal", query=("state", "parent", "after", "limit")),
        "Deferred requests and batches",
        "Their states, the newest first; never what was asked or answered.",
        answer="DeferredList",
        parameters=(
            Parameter("state", "Only those in one of these states, with commas between them.", "query", False),
            Parameter("parent", "Only the requests of this batch.", "query", False),
            Parameter("after", "The id behind which the list goes on.", "query", False),
            Parameter("limit", "How many at most, up to 1000; 100 if left out.", "query", False),
        ),
    ),
    Operation(
        "journal_entry",
        _get("/-/journal/{id}"),
        "One deferred request or batch",
        answer="Deferred",
        also=(_UNKNOWN,),
        parameters=(_ENTRY,),
    ),
    Operation(
        "explain",
        _post("/-/explain", body="json"),
        "What would happen to a request",
        "Asks each plugin in turn; nothing is counted, queued or sent.",
        answer="Account",
    ),
    Operation(
        "cancel",
        _post("/-/cancel/{id}"),
        "End a running request",
        "Its connection to the backend is closed at once. Its client gets 499, or, where the answer has begun, an "
        "error record and an answer that breaks off.",
        answer="Done",
        also=(_UNKNOWN,),
        changes=True,
        parameters=(Parameter("id", "The request's id, as in the log and in X-Request-ID."),),
    ),
    Operation(
        "journal_cancel",
        _post("/-/journal/{id}/cancel"),
        "End a deferred request or a batch",
        "It is `cancelled`, and so are the requests of a batch; one that runs is stopped.",
        answer="Done",
        also=(_UNKNOWN, _NOT_POSSIBLE),
        changes=True,
        parameters=(_ENTRY,),
    ),
    Operation(
        "journal_retry",
        _post("/-/journal/{id}/retry"),
        "Queue a deferred request again",
        "One that is dead, failed, cancelled or expired; its answer begins anew.",
        answer="Done",
        also=(_UNKNOWN, _NOT_POSSIBLE),
        changes=True,
        parameters=(_ENTRY,),
    ),
    Operation(
        "purge",
        _post("/-/purge", query=("state",)),
        "Delete deferred requests that are over",
        "With what was asked and answered.",
        answer="Done",
        changes=True,
        parameters=(Parameter("state", "One or several states, with commas between them.", "query"),),
    ),
    Operation(
        "drain",
        _post("/-/drain/{backend}"),
        "Send a backend no new requests",
        "What it runs goes on. It stays drained over reloads, until the proxy restarts.",
        answer="Done",
        also=(_UNKNOWN,),
        changes=True,
        parameters=(_BACKEND,),
    ),
    Operation(
        "undrain",
        _post("/-/undrain/{backend}"),
        "Send a backend requests again",
        answer="Done",
        also=(_UNKNOWN,),
        changes=True,
        parameters=(_BACKEND,),
    ),
    Operation(
        "unload",
        _post("/-/unload/{backend}", query=("model",)),
        "Let a backend forget a model",
        "Its memory is free as soon as the requests have ended that use it.",
        answer="Done",
        also=(_UNKNOWN, Also(502, "The backend did not do it.", "Error")),
        changes=True,
        parameters=(_BACKEND, Parameter("model", "The model's name, as requests have it.", "query")),
    ),
    Operation(
        "reload",
        _post("/-/reload"),
        "Load the policy file again",
        "200 where it is in force now; 422 with every mistake where it was refused, and then nothing has changed.",
        answer="Reloaded",
        also=(Also(409, "There is no file.", "Error"), Also(422, "The file was refused.", "Reloaded")),
        changes=True,
    ),
)

ROUTES: Final = tuple(operation.route for operation in OPERATIONS)
HEALTH: Final = tuple(operation.route for operation in OPERATIONS if operation.name in ("healthz", "readyz"))
"""The routes that the main listener answers even where the ops routes have a listener of their own."""
