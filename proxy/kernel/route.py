"""What a route is: one row of the table of routes, with a column for everything that differs from route to route."""

from dataclasses import dataclass
from typing import Final, Literal

from proxy.kernel.errors import Flavor
from proxy.kernel.parameter_places import ParameterPlaces

RouteClass = Literal["read", "inference", "manage", "account", "ops"]
Body = Literal["none", "json", "multipart", "raw"]
Repeat = Literal["safe", "costly", "never"]
Operation = Literal["chat", "text_completion", "embeddings", "transcription", "inference"]
View = Literal["alive", "version", "tags", "running", "models", "model"]


@dataclass(frozen=True, slots=True)
class Run:
    """How a route runs a model.

    Attributes:
        operation: its ``gen_ai.operation.name``; ``inference`` is that of a route nobody knows more of.
        parameters: where its requests keep their parameters; None where nobody knows.
        searches: Ollama runs the tool ``web_search`` of its requests itself, at ollama.com.
    """

    operation: Operation = "inference"
    parameters: ParameterPlaces | None = None
    searches: bool = False


UNKNOWN_RUN: Final = Run(searches=True)
"""How a route runs a model that a policy file declares without saying which known one it is like."""


@dataclass(frozen=True, slots=True)
class ModelList:
    """The list of models in an answer: the `member` that holds it, and those of an entry by which it is `named`."""

    member: str
    named: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Route:
    """One route.

    Attributes:
        path: canonical path; a last segment in braces stands for exactly one segment of any text.
        methods: the methods it answers.
        kind: the class that policies name.
        flavor: how errors are said.
        stream: what the body's ``stream`` means when it is left out; None where the route never streams.
        body: what the request carries. A "raw" body is passed on as it comes, all others are read first.
        repeat: "safe" may be sent twice, "costly" until the first byte of an answer, "never" not once it was sent.
        models: the members of a JSON body that name a model, in the order Ollama prefers them.
        query: the query parameters that mean something to Ollama; all others are left behind.
        open: answered without credentials (the CLI's first question).
        page: something for people to look at, so that other sites may have links to it.
        probe: answered by whatever name the proxy is called, as load balancers and health checks do.
        run: how it runs a model; None where it runs none.
        model_in_path: the last segment of its path names a model.
        plain_names: Ollama knows no ``:local`` in its names: there it is a tag like any other.
        lists: the list of models in its answer; None where there is none.
        view: what the proxy answers itself where there are several backends; None where one of them answers.
        everywhere: a request may be for all backends at once; its answers are lines of progress.
        like: of a route that a policy file declares, the known route that it is like; None where it does not say.
        summary: what it is for, in a few words.
    """

    path: str
    methods: tuple[str, ...]
    kind: RouteClass
    flavor: Flavor = "ollama"
    stream: bool | None = None
    body: Body = "none"
    repeat: Repeat = "safe"
    models: tuple[str, ...] = ()
    query: tuple[str, ...] = ()
    open: bool = False
    page: bool = False
    probe: bool = False
    run: Run | None = None
    model_in_path: bool = False
    plain_names: bool = False
    lists: ModelList | None = None
    view: View | None = None
    everywhere: bool = False
    like: str | None = None
    summary: str = "A route of another version of Ollama"

    @property
    def names_model(self) -> bool:
        """Whether it is known where a request names its model: in its body, a form, or the path."""
        return bool(self.models) or self.model_in_path or self.body == "multipart"

    @property
    def writes(self) -> bool:
        """Whether the answer is text of a model, or progress; the others only read: embeddings, lists."""
        if self.run is None:
            return self.stream is not None
        return self.run.operation != "embeddings"
