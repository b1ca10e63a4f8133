"""Plan the chain from the policy file: the plugins, their order, and their options for each policy.

This module checks everything that can be checked without constructing a plugin; `proxy.chain.build` constructs them.
"""

import inspect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from config.entries import Entry
from config.load import Loaded
from config.problems import Path, Problem, in_order
from config.tree import Node
from proxy.chain.plugin_lookup import Options, Plugin, find, owner_of
from proxy.kernel.route import Route
from proxy.kernel.units import Mistake, suggest

INNERMOST: Final = "dispatch"
_SAY_LIKE: Final = "say which known route it is like, as in like: /api/chat; see docs/guides/access.md, Other routes"
_STATIC: Final = "it must be a static method that takes a route and options; see docs/guides/plugins.md"


@dataclass(frozen=True, slots=True)
class Link:
    """A checked entry of the chain.

    Attributes:
        name: the name of the entry in policies, logs and errors.
        path: the place of its options in the file.
        overrides: policy → the options under it; None where the policy turns the plugin off.
    """

    name: str
    plugin: Plugin
    path: Path
    options: Options = field(repr=False)
    overrides: Mapping[str, Options | None] = field(repr=False)

    def __str__(self) -> str:
        policies = [f"{policy} off" if options is None else policy for policy, options in self.overrides.items()]
        return f"{self.name}({', '.join(policies)})" if policies else self.name


@dataclass(frozen=True, slots=True)
class Plan:
    """A chain that can be built. Its text names the entries from the outermost to the innermost."""

    loaded: Loaded = field(repr=False)
    links: tuple[Link, ...]
    policies: frozenset[str]

    @property
    def anonymous(self) -> bool:
        """Return whether no plugin of the plan authenticates callers."""
        return not any(link.plugin.sets_policy for link in self.links)

    def __str__(self) -> str:
        return " → ".join([*map(str, self.links), INNERMOST])


def plan(loaded: Loaded) -> tuple[Plan | None, tuple[Problem, ...]]:
    """Return the plan of a policy file; or None and all problems of the file, those of its settings included."""
    planner = _Planner(loaded)
    links = planner.links()
    problems = in_order([*loaded.problems, *planner.problems])
    return (None if problems else Plan(loaded, links, frozenset(planner.policies))), problems


@dataclass(frozen=True, slots=True)
class _Place:
    """An entry of the list, its unchecked options, and its plugin; None where there is no such plugin."""

    index: int
    entry: Entry
    node: Node
    plugin: Plugin | None

    @property
    def path(self) -> Path:
        return self.entry.below(("middleware", self.index))


def _names_callers(place: _Place) -> bool:
    return place.plugin is not None and place.plugin.sets_policy


def _governs_pages(place: _Place) -> bool:
    return place.plugin is not None and place.plugin.governs_pages


def _adds_cors(plugin: Plugin) -> bool:
    """Return whether a plugin is Starlette's CORS middleware (FastAPI's is the same), or derives from it."""
    bases = inspect.getmro(plugin.make) if inspect.isclass(plugin.make) else ()
    return any(f"{base.__module__}.{base.__name__}" == "starlette.middleware.cors.CORSMiddleware" for base in bases)


def _escape(route: Route, link: Link) -> str | None:
    """Return why a plugin cannot govern `route` by its own options, or by those of a policy; None where it can.

    Raises Mistake where the plugin cannot be asked. It is not asked about options that are invalid.
    """
    ask = link.plugin.cannot_govern
    if ask is None or not isinstance(link.options, link.plugin.options):
        return None
    for options in filter(None, (link.options, *link.overrides.values())):
        try:
            why: object = ask(route, options.arguments())
        except (Exception, SystemExit) as error:  # whatever a foreign plugin does when it is asked
            raise Mistake(
                f"{link.plugin.use}: cannot_govern fails: {type(error).__name__}: {error}", _STATIC
            ) from error
        if why is not None and not isinstance(why, str):
            raise Mistake(f"{link.plugin.use}: cannot_govern returns {type(why).__name__}, not a text or None", _STATIC)
        if why:
            return why
    return None


def _where_set(link: Link, option: str) -> Path | None:
    """Return the place of the entry, or else of a policy, that sets `option` of `link`; None where none does."""
    places: list[tuple[Path, Options | None]] = [(link.path, link.options)]
    places += [(("policies", policy, link.name), options) for policy, options in link.overrides.items()]
    for path, options in places:
        if options is not None and options.arguments().get(option) is not None:
            return path
    return None


class _Planner:
    """Reads the middleware list, then the policies, and collects the problems."""

    def __init__(self, loaded: Loaded) -> None:
        self.problems: list[Problem] = []
        self._loaded = loaded
        self._checker = loaded.checker
        policies = loaded.root.step("policies")
        self.policies: dict[str, Node] = policies.value if policies and isinstance(policies.value, dict) else {}

    def links(self) -> tuple[Link, ...]:
        """Return the links of the entries with a plugin; they are the whole chain only where there is no problem."""
        places = self._places()
        resolved = all(place.plugin is not None for place in places.values())
        if resolved:
            self._check_order(places)
            self._check_pages(places)
            self._check_exposure(places)
        self._check_names(places)
        links = tuple(self._link(place, place.plugin) for place in places.values() if place.plugin is not None)
        self._check_routes(links)
        self._check_heights(links)
        return links

    def _complain(self, path: Path, error: Mistake) -> None:
        self.problems.append(self._loaded.problem(path, error))

    def _places(self) -> dict[str, _Place]:
        places: dict[str, _Place] = {}
        for index, entry in self._loaded.entries:
            plugin = None
            try:
                plugin = find(entry.use, self._loaded.folders)
            except Mistake as error:
                self._complain(("middleware", index), error)
            if entry.name in places:
                hint = f"write use: {entry.use} and a name: of its own, with the options beside them"
                self._complain(("middleware", index), Mistake(f"there is a {entry.name!r} in the list already", hint))
                continue
            places[entry.name] = _Place(index, entry, self._options(index, entry), plugin)
        return places

    def _options(self, index: int, entry: Entry) -> Node:
        node = self._loaded.root.at(entry.below(("middleware", index)))
        value = node.value if isinstance(node.value, dict) else {}
        options = {key: option for key, option in value.items() if key not in entry.reserved}
        return Node(options, node.line, node.column, keys=node.keys)

    def _link(self, place: _Place, plugin: Plugin) -> Link:
        options, problems = self._checker.check(plugin.options, place.node, lambda path: (*place.path, *path))
        self.problems += problems
        overrides: dict[str, Options | None] = {}
        for policy, name, node in self._overrides():
            if name == place.entry.name:
                overrides[policy] = self._override(place, plugin, policy, node)
        return Link(place.entry.name, plugin, place.path, options or Options(), overrides)

    def _override(self, place: _Place, plugin: Plugin, policy: str, node: Node) -> Options | None:
        """Return the entry's options, replaced by those of the policy; None where the policy turns the entry off."""
        if not isinstance(node.value, dict) or not isinstance(place.node.value, dict):
            return None
        changed = node.value
        here: Path = ("policies", policy, place.entry.name)
        merged = Node({**place.node.value, **changed}, node.line, node.column, keys={**place.node.keys, **node.keys})

        def where(path: Path) -> Path:
            return (*here, *path) if not path or path[0] in changed else (*place.path, *path)

        options, problems = self._checker.check(plugin.options, merged, where)
        self.problems += [problem for problem in problems if problem.path[: len(here)] == here]
        return options

    def _overrides(self) -> Iterator[tuple[str, str, Node]]:
        """Yield each policy, the name of an entry, and the policy's options for the entry."""
        for policy, changes in self.policies.items():
            if isinstance(changes.value, dict):
                for name, node in changes.value.items():
                    yield policy, name, node

    def _check_names(self, places: Mapping[str, _Place]) -> None:
        for policy, name, _ in self._overrides():
            if name not in places:
                hint = suggest(name, places)
                if hint is None and (owner := owner_of(name)):
                    add = "" if owner in places else f"add {owner} to the list and "
                    hint = f"it is an option of {owner}: {add}write {owner}: {{{name}: …}}"
                error = Mistake(f"there is no {name!r} in the middleware list", hint)
                self.problems.append(self._loaded.key_problem(("policies", policy, name), error))

    def _check_order(self, places: Mapping[str, _Place]) -> None:
        """Check that a policy changes only plugins below the one that sets the caller's policy."""
        naming = [place for place in places.values() if _names_callers(place)]
        for policy, name, _ in self._overrides():
            place = places.get(name)
            if place is None or (not _governs_pages(place) and any(place.index > other.index for other in naming)):
                continue
            if _governs_pages(place):
                error = Mistake(
                    f"cannot change {name!r}: browsers ask what they may send before anybody is asked who he is",
                    "remove it here; it holds for all callers",
                )
            elif naming:
                error = Mistake(
                    f"cannot change {name!r}, which stands before a caller's policy is known",
                    f"move it below {naming[0].entry.name} in the middleware list",
                )
            else:
                error = Mistake("nothing in the middleware list says which policy a caller has", "add auth to it")
            self.problems.append(self._loaded.key_problem(("policies", policy, name), error))

    def _check_pages(self, places: Mapping[str, _Place]) -> None:
        """Check that the plugin for pages of other origins is above `auth`: a preflight request has no credentials."""
        for place in places.values():
            if place.plugin is not None and _adds_cors(place.plugin):
                error = Mistake(
                    "opens nothing: the proxy has decided which pages may call before it sees a request",
                    "name their origins in cors.origins",
                )
                self._complain(("middleware", place.index), error)
        governing = [place for place in places.values() if _governs_pages(place)]
        for place in governing[1:]:
            error = Mistake(f"{governing[0].entry.name} says already which pages may call", "write their origins there")
            self._complain(("middleware", place.index), error)
        naming = [place for place in places.values() if _names_callers(place)]
        for place in governing:
            above = [other.entry.name for other in naming if other.index < place.index]
            if above:
                error = Mistake(
                    f"stands below {above[0]}, but browsers ask what they may send before they send credentials",
                    f"move it above {above[0]} in the middleware list",
                )
                self._complain(("middleware", place.index), error)

    def _check_routes(self, links: Iterable[Link]) -> None:
        """Check that no plugin's options fail to apply to a route of the file: ask each plugin."""
        settings = self._loaded.settings
        routes = settings.routes if settings is not None else ()
        for link in links:
            try:
                for index, extra in enumerate(routes):
                    why = _escape(extra.route, link)
                    if why is not None:
                        escapes = Mistake(f"{link.name} cannot govern {extra.path}: {why}", _SAY_LIKE)
                        self._complain(("routes", index), escapes)
            except Mistake as error:
                self._complain(link.path, error)

    def _check_heights(self, links: Sequence[Link]) -> None:
        """Check that each plugin stands above those, and below those, that it says."""
        for index, link in enumerate(links):
            outer = {other.plugin.use: other.name for other in links[:index]}
            inner = {other.plugin.use: other.name for other in links[index + 1 :]}
            further_out, further_in = link.plugin.stands_between
            for misplaced, uses, is_now, must_be in (
                (inner, further_out, "above", "below"),
                (outer, further_in, "below", "above"),
            ):
                for name in (misplaced[use] for use in uses if use in misplaced):
                    error = Mistake(f"stands {is_now} {name}", f"move it {must_be} {name} in the middleware list")
                    self._complain(link.path, error)
            for option, plugins in link.plugin.stands_above.items():
                path = _where_set(link, option)
                wrong = [outer[use] for use in plugins if use in outer]
                if path is not None and wrong:
                    error = Mistake(
                        f"{option} has no effect while a request is in {wrong[0]}, which stands above {link.name}",
                        f"move {link.name} above {wrong[0]} in the middleware list",
                    )
                    self._complain(path, error)

    def _check_exposure(self, places: Mapping[str, _Place]) -> None:
        settings = self._loaded.settings
        if settings is None or settings.allow_anonymous_network:
            return
        if any(map(_names_callers, places.values())):
            return
        for path in settings.exposed:
            self._complain(
                path,
                Mistake(
                    "can be reached from other machines, and nothing in the middleware list asks who is calling",
                    "add auth, listen on 127.0.0.1, or set allow_anonymous_network: true",
                ),
            )
