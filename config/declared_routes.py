"""Routes that a policy file declares in addition to Ollama's."""

from collections.abc import Iterator
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, Field, model_validator

from config.problems import Mistakes, Path
from config.section import Model
from proxy.kernel.ollama_routes import OLLAMA
from proxy.kernel.route import Route
from proxy.kernel.routes import behaves_as, declared, known_route
from proxy.kernel.units import Mistake, suggest

_SEGMENT: Final = "[A-Za-z0-9_~-][A-Za-z0-9._~-]*"
_OWN: Final = ("/-/", "/k/")
"""Prefixes of the proxy's own paths: the ops routes, and keys in the path."""

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


def _forgets_model(route: Route, known: Route) -> bool:
    """Return whether a route names no model where the requests of the known route that it is like name one."""
    return (known.names_model and not route.names_model) or bool(known.models and not route.models)


def _moved(route: Route, replaced: Route) -> Iterator[tuple[Path, Mistake]]:
    """Yield what a route says of its requests that is not so: they are still those of the route that it replaces."""
    if replaced.names_model and route.body != replaced.body:
        yield ("body",), Mistake(f"must be {replaced.body}, as it is for {replaced.path}")
    if not set(replaced.models) <= set(route.models):
        members = ", ".join(replaced.models)
        yield ("models",), Mistake(f"must hold {members}: requests of {replaced.path} name their model there")
    if replaced.run is not None and route.run != replaced.run:
        yield ("parameters",), Mistake(f"must be left out: requests of {replaced.path} have parameters")


class ExtraRoute(Model):
    """A route that this release does not know, or other properties for a route that it knows.

    A property that is left out has the value of the known route named in `like`, so the same rules govern both. A
    route at the path of a known route is like that route even without `like`. It never inherits that anonymous callers
    may call.
    """

    path: Annotated[str, Field(pattern=rf"^/({_SEGMENT}/)*({_SEGMENT}|\{{[a-z]+\}})$"), AfterValidator(_own_path)]
    """The canonical path; a last segment in braces stands for any one segment, and `{model}` names a model."""
    methods: Annotated[tuple[Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"], ...], Field(min_length=1)]
    """The methods that the route answers."""
    like: Annotated[str, AfterValidator(_known_path)] | None = None
    """The path of a known route with the same form of requests and answers, such as `/api/chat`."""
    kind: Literal["read", "inference", "manage", "account"] | None = None
    """The class that policies name; required if the route is like no known route."""
    flavor: Literal["ollama", "openai", "anthropic", "text"] | None = None
    """The format of errors. The default is that of the known route; if there is none, `anthropic` below
    `/v1/messages`, `openai` below the rest of `/v1/`, and `ollama` elsewhere."""
    stream: bool | None = None
    """Whether the route streams if the body has no `stream`; leave out if the route never streams."""
    body: Literal["none", "json", "multipart", "raw"] = "none"
    """What a request carries. The proxy passes a `raw` body on as it arrives, and reads other bodies first."""
    repeat: Literal["safe", "costly", "never"] = "never"
    """When a request may be sent again: `safe` always, `costly` until the first byte of an answer, `never`."""
    models: tuple[str, ...] = ()
    """Members of a JSON body that name a model, the preferred one first."""
    query: tuple[str, ...] = ()
    """Query parameters that are passed on."""
    parameters: Literal["none"] | None = None
    """`none` if requests have no parameter that the plugin `parameters` could govern: it passes them on unchanged."""

    @property
    def route(self) -> Route:
        """Return the route in the form that the table of routes uses."""
        columns: dict[str, Any] = {name: getattr(self, name) for name in self.model_fields_set - _NO_COLUMNS}
        for name in ("kind", "flavor", "parameters"):
            if columns.get(name) is None:
                columns.pop(name, None)
        return declared(self.path, self.methods, self.like, columns)

    @model_validator(mode="after")
    def _is_whole(self) -> "ExtraRoute":
        known = behaves_as(self.path, self.methods, self.like)
        if known is None and self.kind is None:
            hint = "say which known route it is like, or its kind: read, inference, manage or account"
            raise Mistakes([((), Mistake("does not say what it is", hint))])
        replaced = behaves_as(self.path, self.methods, None)
        if replaced is not None and self.like not in (None, replaced.path):
            raise Mistakes([(("like",), Mistake(f"must be left out: {replaced.path} is a known route itself"))])
        route = self.route
        if known is not None and _forgets_model(route, known):
            where: Path = ("models",) if "models" in self.model_fields_set else ()
            hint = "list the members that name a model in models" if known.models else "end the path in {model}"
            raise Mistakes([(where, Mistake(f"names no model, but it is like {known.path}, which names one", hint))])
        if route.run is not None and route.kind != "inference":
            raise Mistakes([(("kind",), Mistake(f"must be inference: it is like {route.like}, which runs a model"))])
        if replaced is not None and (odd := list(_moved(route, replaced))):
            raise Mistakes(odd)
        if route.body == "raw" and route.repeat != "never":
            raise Mistakes([(("repeat",), Mistake("must be never: a raw body is gone once it was sent"))])
        return self
