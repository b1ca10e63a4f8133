"""Find a plugin by its name in the policy file, and read its options from the signature of its constructor.

A plugin is a callable that takes the inner ASGI app first and returns an ASGI app; usually it is a class. Its other
parameters are services, where they are annotated with a kernel service, or else options of the policy file.
"""

import inspect
import re
from collections.abc import Callable, Collection, Container, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache, reduce
from importlib.metadata import entry_points
from operator import or_
from pathlib import Path
from types import GenericAlias, NoneType, SimpleNamespace, UnionType
from typing import Annotated, Any, Final, Union, get_args, get_origin, get_type_hints

from pydantic import ConfigDict, Field, create_model
from pydantic.errors import PydanticUserError
from pydantic.fields import FieldInfo
from typing_extensions import Doc

from config.section import Model
from middleware import BUILTIN
from proxy.chain.plugin_import import hidden_by, import_module
from proxy.kernel.asgi import ASGIApp
from proxy.kernel.route import Route
from proxy.kernel.services import SERVICES
from proxy.kernel.units import Mistake, suggest

GROUP: Final = "ollama_proxy.middleware"
"""The entry-point group under which other distributions name their plugins."""

_UNIONS: Final = (Union, UnionType)
_ABSTRACT: Final = (Collection, Container, Iterable)


class Options(Model):
    """The options of one plugin; each plugin has a subclass that is made from its signature."""

    model_config = ConfigDict(arbitrary_types_allowed=True, use_attribute_docstrings=False, protected_namespaces=())

    def arguments(self) -> dict[str, Any]:
        """Return the options that the file gives, as keyword arguments; others keep the default of the constructor."""
        fields = type(self).model_fields
        given = {fields[name].alias or name: getattr(self, name) for name in fields if name in self.model_fields_set}
        return given | (self.model_extra or {})


class _OpenOptions(Options):
    model_config = ConfigDict(extra="allow")


CannotGovern = Callable[[Route, Mapping[str, Any]], str | None]


@dataclass(frozen=True, slots=True)
class Wanted:
    """A service that a plugin asks for."""

    service: type
    optional: bool


@dataclass(frozen=True, slots=True)
class Plugin:
    """A plugin and what is known of it.

    Attributes:
        use: its name in the policy file.
        make: takes the inner app, services and options, and returns the plugin around the app.
        options: the model of its options in the policy file.
        services: parameter → service.
        summary: the first paragraph of its docstring.
        sets_policy: whether it sets the caller's identity and policy (`sets_policy = True` on the class).
        governs_pages: whether it decides which pages of other origins may call (`governs_pages = True`); the frame
            uses its `cross_origin`, a `proxy.kernel.cross_origin.CrossOrigin`.
        cannot_govern: its static method of that name, None where it has none. The method takes a route that the policy
            file declares and the plugin's options by their names. It returns in a few words why the options would not
            apply to the route; None where they apply, or do not concern it.
        stands_above: option → the names of plugins that must be further in where the option is set (`stands_above` on
            the class).
        stands_between: the names of plugins that must be further out, and of those that must be further in
            (`stands_between` on the class).
    """

    use: str
    make: Callable[..., ASGIApp]
    options: type[Options]
    services: Mapping[str, Wanted]
    summary: str
    sets_policy: bool
    governs_pages: bool = False
    cannot_govern: CannotGovern | None = None
    stands_above: Mapping[str, Collection[str]] = field(default_factory=dict)
    stands_between: tuple[Collection[str], Collection[str]] = ((), ())

    def around(self, app: ASGIApp, options: Options, services: Mapping[type, object]) -> ASGIApp:
        """Return the plugin around `app`; raises Mistake for a missing service, and any error of the constructor."""
        handed: dict[str, object] = {}
        for name, wanted in self.services.items():
            if wanted.service in services:
                handed[name] = services[wanted.service]
            elif not wanted.optional:
                raise Mistake(f"{self.use} needs the service {wanted.service.__name__}, which nothing provides")
        return self.make(app, **handed, **options.arguments())


@lru_cache(maxsize=256)
def find(use: str, folders: tuple[Path, ...] = ()) -> Plugin:
    """Return the plugin called `use`: built in, of an entry point, or ``package.module:Class``; raises Mistake.

    A module that is not installed is looked for in `folders`. What was found once stays: Python does not import a
    module again either.
    """
    if use in BUILTIN:
        make = _imported(BUILTIN[use])
    elif ":" in use:
        make = _imported(use, folders)
    else:
        make = _from_entry_point(use)
    return inspected(use, make)


def known_names() -> set[str]:
    """Return every name that needs no dotted path."""
    return {*BUILTIN, *entry_points(group=GROUP).names}


def owner_of(option: str) -> str | None:
    """Return the name of the one built-in plugin that has this option; None where there is none, or several."""
    owners = []
    for use in BUILTIN:
        with suppress(Mistake):
            if any(option == field.alias for field in find(use).options.model_fields.values()):
                owners.append(use)
    return owners[0] if len(owners) == 1 else None


def _from_entry_point(use: str) -> object:
    points = entry_points(group=GROUP, name=use)
    if not points:
        module, dot, attribute = use.rpartition(".")
        hint = f"write {module}:{attribute}" if dot else suggest(use, known_names())
        if hint is None and (owner := owner_of(use)):
            hint = f"it is an option of {owner}: write {owner}: {{{use}: …}}"
        raise Mistake(f"there is no plugin {use!r}", hint)
    if len({point.value for point in points}) > 1:
        raise Mistake(f"several packages call a plugin {use!r}", f"write use: {next(iter(points)).value}")
    return _imported(next(iter(points)).value)


def _imported(target: str, folders: Sequence[Path] = ()) -> object:
    module_name, _, attribute = target.partition(":")
    module = import_module(module_name, folders)
    found = getattr(module, attribute, None)
    if found is None:
        hint = suggest(attribute, vars(module)) or hidden_by(module, folders)
        raise Mistake(f"there is no {attribute!r} in {module_name}", hint)
    return found


def inspected(use: str, make: object) -> Plugin:
    """Return the plugin that `make` builds; raises Mistake where its signature cannot be read."""
    if not callable(make):
        raise Mistake(f"{use} is not a class or function")
    try:
        parameters = list(inspect.signature(make).parameters.values())
    except ValueError:
        parameters = []
    if not parameters or parameters[0].kind not in (parameters[0].POSITIONAL_ONLY, parameters[0].POSITIONAL_OR_KEYWORD):
        raise Mistake(f"{use} is no ASGI middleware: its first parameter must be the inner app")
    described = _described(make)
    services: dict[str, Wanted] = {}
    fields: dict[str, Any] = {}
    base: type[Options] = Options
    for parameter in parameters[1:]:
        annotation = _annotation(use, make, parameter)
        wanted = _wanted(annotation)
        if wanted is not None:
            services[parameter.name] = wanted
        elif parameter.kind is parameter.VAR_KEYWORD:
            base = _OpenOptions
        elif parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            fields[f"option_{parameter.name}"] = _field(parameter, annotation, described.get(parameter.name))
    try:
        options = create_model(f"{getattr(make, '__name__', use)}Options", __base__=base, **fields)
    except PydanticUserError as error:
        raise Mistake(f"the options of {use} have types that cannot be checked: {error.message}") from error
    summary = inspect.cleandoc(make.__doc__ or "").partition("\n\n")[0].replace("\n", " ")
    flags: dict[str, Any] = {name: bool(getattr(make, name, False)) for name in ("sets_policy", "governs_pages")}
    ask, above = getattr(make, "cannot_govern", None), getattr(make, "stands_above", {})
    flags["stands_between"] = getattr(make, "stands_between", ((), ()))
    return Plugin(use, make, options, services, summary, **flags, cannot_govern=ask, stands_above=above)


def _annotation(use: str, make: Callable[..., object], parameter: inspect.Parameter) -> Any:
    """Return the type of `parameter`. It is evaluated alone, as the type of another parameter may be unknown here."""
    if parameter.annotation is parameter.empty:
        return Any
    function = inspect.unwrap(make.__init__ if inspect.isclass(make) else make)
    names = getattr(function, "__globals__", {})
    holder = SimpleNamespace(__annotations__={parameter.name: parameter.annotation})
    try:
        return get_type_hints(holder, globalns=names, include_extras=True)[parameter.name]
    except Exception as error:  # an annotation is an expression of foreign code
        raise Mistake(f"the type of {use}'s parameter {parameter.name} cannot be read: {error}") from error


def _wanted(annotation: Any) -> Wanted | None:
    if get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    if annotation in SERVICES:
        return Wanted(annotation, optional=False)
    if get_origin(annotation) in _UNIONS:
        inner = [part for part in get_args(annotation) if part is not NoneType]
        if len(inner) == 1 and inner[0] in SERVICES:
            return Wanted(inner[0], optional=True)
    return None


def _field(parameter: inspect.Parameter, annotation: Any, description: str | None) -> tuple[Any, Any]:
    default = ... if parameter.default is parameter.empty else parameter.default
    for note in get_args(annotation)[1:] if get_origin(annotation) is Annotated else ():
        if isinstance(note, Doc):
            description = note.documentation
        elif isinstance(note, FieldInfo) and note.description:
            description = note.description
    if description:
        description = description[0].upper() + description[1:]
    return _concrete(annotation), Field(default=default, alias=parameter.name, description=description)


def _concrete(annotation: Any) -> Any:
    """Return `annotation` with a tuple in place of an abstract collection, which pydantic cannot make."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if annotation in _ABSTRACT or origin in _ABSTRACT:
        return GenericAlias(tuple, (_concrete(parts[0]) if parts else Any, ...))
    if origin in _UNIONS:
        return reduce(or_, map(_concrete, parts))
    if origin is Annotated:
        return Annotated[(_concrete(parts[0]), *parts[1:])]
    return annotation


_ARGUMENT: Final = re.compile(r"    (\w+)(?: \([^)]*\))?: (.*)")


def _described(make: Callable[..., object]) -> dict[str, str]:
    """Return what the ``Args:`` section of the docstring says about each parameter."""
    described: dict[str, str] = {}
    for holder in (make, getattr(make, "__init__", None)):
        section = inspect.cleandoc(getattr(holder, "__doc__", None) or "").partition("Args:\n")[2]
        name = ""
        for line in section.split("\n"):
            if not line.strip():
                break
            if match := _ARGUMENT.fullmatch(line):
                name = match[1]
                described[name] = match[2]
            elif name:
                described[name] += f" {line.strip()}"
    return described
