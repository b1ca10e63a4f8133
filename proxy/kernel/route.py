"""A route: one row of the table of routes, with a column for everything that differs between routes."""

from dataclasses import dataclass
from typing import Final, Literal

from proxy.kernel.errors import Flavor
from proxy.kernel.parameter_places import ParameterPlaces

RouteClass = Literal["read", "inference", "manage", "account", "stored", "ops"]
"""``stored``: a caller's own entries of the journal, which the proxy answers itself."""
Body = Literal["none", "json", "multipart", "raw"]
Repeat = Literal["safe", "costly", "never"]
Operation = Literal["chat", "text_completion", "embeddings", "transcription", "inference"]
SEARCH_TOOL: Final = "web_search"
"""The hosted tool that Ollama itself runs: it searches at ollama.com, and bills the account of its operator."""
SocketMode = Literal["requests", "responses"]
"""The protocol of a WebSocket. ``requests``: each message is a request body, each line or event of the answer a frame.
``responses``: OpenAI's Responses API over WebSocket."""
View = Literal["alive", "version", "tags", "running", "models", "model"]


@dataclass(frozen=True, slots=True)
class Run:
    """How a route runs a model.

    Attributes:
        operation: its ``gen_ai.operation.name``; ``inference`` where nothing more is known.
        parameters: the places of the parameters in its requests; None where unknown.
        hosted_tools: the tools of its requests that the API's own server runs, and not the client: their types, without
            the version that may stand behind one. Of these Ollama runs `SEARCH_TOOL`, and no other.
        counts_on_request: whether its streams have token counts only where ``stream_options.include_usage`` asks.
        continues: the member by which a request goes on from an earlier answer; Ollama keeps none, and ignores it.
        background: the member by which a request asks to be run in the background; Ollama ignores it.
        uncached: whether its streams carry ``cache-control: no-cache``.
    """

    operation: Operation = "inference"
    parameters: ParameterPlaces | None = None
    hosted_tools: tuple[str, ...] = ()
    counts_on_request: bool = False
    continues: str | None = None
    background: str | None = None
    uncached: bool = False


UNKNOWN_RUN: Final = Run(hosted_tools=(SEARCH_TOOL,))
"""The run of a declared route that is like no known route."""


@dataclass(frozen=True, slots=True)
class Unnamed:
    """Ollama's answer to a request that names no model.

    Attributes:
        status: its status.
        message: its text.
        early: whether Ollama finds it out before it looks for the model; see `proxy.kernel.errors.NoModel`.
    """

    status: int = 400
    message: str = "model is required"
    early: bool = False


@dataclass(frozen=True, slots=True)
class ModelList:
    """The list of models in an answer.

    Attributes:
        member: the member of the answer that holds the list.
        named: the members of an entry that hold the model's name.
    """

    member: str
    named: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Route:
    """One route.

    Attributes:
        path: the canonical path; a segment in braces, fixed ones alone may follow, stands for exactly one of any text.
        methods: the methods of the route.
        kind: the route class, by which policies allow it.
        flavor: the format of its errors.
        stream: the default of the body's ``stream``; None where the route never streams.
        body: the kind of the request body. A "raw" body is passed on as it comes, any other is read first.
        repeat: "safe" may be sent twice, "costly" until the first byte of an answer, "never" not once it was sent.
        models: the members of a JSON body that name a model, in the order in which Ollama prefers them.
        unnamed: the answer to a request that names no model.
        query: the query parameters that Ollama reads; all others are removed.
        open: whether it is answered without credentials (the CLI's first request is).
        page: whether it is a page for people, so that other sites may link to it.
        probe: whether any Host name is accepted, as load balancers and health checks use various names.
        run: how it runs a model; None where it runs none.
        unknown_parameters: whether its requests may have parameters in places that nobody knows.
        model_in_path: whether the last segment of its path names a model.
        plain_names: whether ``:local`` in its model names is an ordinary tag for Ollama.
        lists: the list of models in its answer; None where there is none.
        view: what the proxy answers itself where there are several backends; None where a backend answers.
        everywhere: whether a request may be for all backends at once; its answers are then lines of progress.
        socket: the protocol of the WebSocket that may be opened at its path; None where there is none.
        like: the known route that a declared route is like; None where there is none.
        summary: its purpose, in a few words.
    """

    path: str
    methods: tuple[str, ...]
    kind: RouteClass
    flavor: Flavor = "ollama"
    stream: bool | None = None
    body: Body = "none"
    repeat: Repeat = "safe"
    models: tuple[str, ...] = ()
    unnamed: Unnamed = Unnamed()
    query: tuple[str, ...] = ()
    open: bool = False
    page: bool = False
    probe: bool = False
    run: Run | None = None
    unknown_parameters: bool = False
    model_in_path: bool = False
    plain_names: bool = False
    lists: ModelList | None = None
    view: View | None = None
    everywhere: bool = False
    socket: SocketMode | None = None
    like: str | None = None
    summary: str = "A route of another version of Ollama"

    @property
    def names_model(self) -> bool:
        """Whether the place of the model name is known: in the JSON body, a form, or the path."""
        return bool(self.models) or self.model_in_path or self.body == "multipart"

    @property
    def writes(self) -> bool:
        """Whether the answer is generated text or progress; False for embeddings and lists."""
        if self.run is None:
            return self.stream is not None
        return self.run.operation != "embeddings"

    @property
    def streams_events(self) -> bool:
        """Whether its streams are server-sent events; Ollama's own API streams lines of JSON."""
        return self.stream is not None and self.flavor in ("openai", "anthropic")
