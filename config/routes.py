"""Routes that a policy file declares beside those of Ollama."""

from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, Field, model_validator

from config.problems import Mistakes
from config.section import Model
from proxy.kernel.ollama_routes import OLLAMA
from proxy.kernel.route import Route
from proxy.kernel.routes import behaves_as, declared, known_route
from proxy.kernel.units import Mistake, suggest

_SEGMENT: Final = "[A-Za-z0-9_~-][A-Za-z0-9._~-]*"
_OWN: Final = ("/-/", "/k/")
"""What the paths of the proxy itself begin with: its ops routes, and keys in the path."""

_NO_COLUMNS: Final = {"path", "methods", "like"}
NAMING: Final = "say which known route it is like, or list the members that name a model in models"


def _own_path(path: str) -> str:
    if path.startswith(_OWN):
        raise Mistake("belongs to the proxy itself: paths below /-/ and /k/ reach no backend")
    return path


def _known_path(path: str) -> str:
    route = known_route(path)
    if route is None:
        known = [route.path for route in OLLAMA]
        raise Mistake(f"there is no route {path} of Ollama here", suggest(path, known))
    return route.path


class ExtraRoute(Model):
    """A route of another version of Ollama, or another idea of one that is known.

    What it leaves out is as on the known route that it is `like`, so that it is governed as that one is. A route at the
    path of a known one is like that one without saying so. Whether everybody may call is never taken over.
    """

    path: Annotated[str, Field(pattern=rf"^/({_SEGMENT}/)*({_SEGMENT}|\{{[a-z]+\}})$"), AfterValidator(_own_path)]
    """The canonical path; a last segment in braces stands for any one segment, and `{model}` names a model."""
    methods: Annotated[tuple[Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"], ...], Field(min_length=1)]
    """The methods it answers."""
    like: Annotated[str, AfterValidator(_known_path)] | None = None
    """The path of the known route whose requests and answers look like those of this one, such as `/api/chat`."""
    kind: Literal["read", "inference", "manage", "account"] | None = None
    """The class that policies name; required where it is like no known route."""
    flavor: Literal["ollama", "openai", "anthropic", "text"] | None = None
    """How errors are said; where it is like no known route, `openai` below `/v1/` and else `ollama`."""
    stream: bool | None = None
    """What the body's `stream` means where it is left out; leave out where the route never streams."""
    body: Literal["none", "json", "multipart", "raw"] = "none"
    """What a request carries. A `raw` body is passed on as it comes, others are read first."""
    repeat: Literal["safe", "costly", "never"] = "never"
    """Whether it may be sent again: always, until the first byte of an answer, or never."""
    models: tuple[str, ...] = ()
    """Members of a JSON body that name a model, the preferred one first."""
    query: tuple[str, ...] = ()
    """Query parameters that are passed on."""
    parameters: Literal["none"] | None = None
    """`none` where its requests have no parameter that `parameters` could govern: they pass it as they are."""

    @property
    def route(self) -> Route:
        """The route as the table of routes has it."""
        columns: dict[str, Any] = {name: getattr(self, name) for name in self.model_fields_set - _NO_COLUMNS}
        for name in ("kind", "flavor", "parameters"):
            if columns.get(name) is None:
                columns.pop(name, None)
        return declared(self.path, self.methods, self.like, columns)

    @model_validator(mode="after")
    def _is_whole(self) -> "ExtraRoute":
        if self.kind is None and behaves_as(self.path, self.methods, self.like) is None:
            hint = "say which known route it is like, or its kind: read, inference, manage or account"
            raise Mistakes([((), Mistake("does not say what it is", hint))])
        route = self.route
        if route.run is not None and route.kind != "inference":
            raise Mistakes([(("kind",), Mistake(f"must be inference: it is like {route.like}, which runs a model"))])
        if route.body == "raw" and route.repeat != "never":
            raise Mistakes([(("repeat",), Mistake("must be never: a raw body is gone once it was sent"))])
        return self
