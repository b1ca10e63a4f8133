"""Building the chain: the plugins of a plan, each around the next, with dispatch in the middle.

Plugins know nothing of policies: where a policy changes a plugin's options there is one instance per distinct set of
options and a switch in front of them, elsewhere there is none.
"""

import traceback
from collections.abc import Awaitable, Iterator, Mapping
from dataclasses import dataclass
from types import FunctionType, MethodType
from typing import Final

from config.load import Loaded
from config.problems import Invalid, Path, Problem
from config.validation import mask
from proxy.chain.plan import INNERMOST, Link, Plan
from proxy.chain.plugins import Options
from proxy.kernel.asgi import ASGIApp, Receive, Scope, Send
from proxy.kernel.cross_origin import CrossOrigin
from proxy.kernel.exchange import Ask, Exchange
from proxy.kernel.exchange_parts import ChainPart
from proxy.kernel.policy_names import EntryName, Policies
from proxy.kernel.units import Mistake

BEFORE_BODY: Final = "before_body"
"""The method by which a plugin refuses a request before its body is read: ``async (exchange) -> None``."""


@dataclass(frozen=True, slots=True)
class Step:
    """An entry of a chain: its instance, and those for some policies; None where a policy turns the entry off."""

    name: str
    default: ASGIApp
    by_policy: Mapping[str | None, ASGIApp | None]

    def instance(self, policy: str | None) -> ASGIApp | None:
        """Return the instance that a caller with `policy` passes through."""
        return self.by_policy.get(policy, self.default)


@dataclass(frozen=True, slots=True)
class Chain:
    """A chain that was built.

    Attributes:
        app: what the frame calls.
        steps: the entries, the outermost first, and last the innermost app.
        cross_origin: what the frame decides about pages by; None where no plugin governs them.
    """

    app: ASGIApp
    steps: tuple[Step, ...]
    cross_origin: CrossOrigin | None = None

    @property
    def parts(self) -> list[tuple[str, ASGIApp]]:
        """Every instance under the name of its entry, the innermost first."""
        found: list[tuple[str, ASGIApp]] = []
        for step in reversed(self.steps):
            instances = {id(instance): instance for instance in (step.default, *step.by_policy.values())}
            found += [(step.name, instance) for instance in instances.values() if instance is not None]
        return found

    def path(self, exchange: Exchange) -> Iterator[tuple[str, ASGIApp | None]]:
        """Yield what a request passes through, the outermost first, None where its policy turns an entry off.

        The policy is looked up when an entry is reached: those above may only then have said which one it is.
        """
        for step in self.steps:
            yield step.name, step.instance(exchange.policy)

    def blame(self, error: BaseException) -> str | None:
        """Return the name of the entry that raised `error`: the innermost whose code its traceback passed through.

        Costs nothing until something is raised. A module that holds several plugins is told apart by `self`.
        """
        blamed = None
        parts = self.parts
        for frame, _ in traceback.walk_tb(error.__traceback__):
            module = frame.f_globals.get("__name__")
            owners = [(name, part) for name, part in parts if module in _modules(part)]
            if len({name for name, _ in owners}) > 1:
                owners = [(name, part) for name, part in owners if frame.f_locals.get("self") is part]
            if owners:
                blamed = owners[0][0]
        return blamed


def _modules(part: ASGIApp) -> tuple[str, ...]:
    if isinstance(part, FunctionType | MethodType):
        return (part.__module__,)
    return type(part).__module__, type(part).__call__.__module__


class Switch:
    """Passes each request to the instance for its policy."""

    __slots__ = ("_by_policy", "_default")

    def __init__(self, default: ASGIApp, by_policy: Mapping[str | None, ASGIApp]) -> None:
        self._default = default
        self._by_policy = by_policy

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Return the chosen app's own awaitable: a choice is no reason for another coroutine."""
        return self._by_policy.get(Exchange.of(scope).policy, self._default)(scope, receive, send)


class BeforeBody:
    """Lets the plugins that are still to come refuse a request before its body is read, where they can.

    There is one below the plugin that says who is calling, and one around each plugin that has a `before_body`: so it
    is asked where a body is wanted above it, and not where the request has come to it already.

    Args:
        app: what stands below.
        steps: those of the steps below that may have something to say, the outermost first.
    """

    __slots__ = ("_app", "_ask", "_steps")

    def __init__(self, app: ASGIApp, steps: tuple[Step, ...]) -> None:
        self._app = app
        self._steps = steps
        self._ask: Ask | None = self.ask if steps else None

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Say what will be asked from here on, and return the app's own awaitable."""
        Exchange.of(scope).part(ChainPart).before_body = self._ask
        return self._app(scope, receive, send)

    async def ask(self, exchange: Exchange) -> None:
        """Ask every step, in order; raises what the first one that refuses raises."""
        for step in self._steps:
            decide = getattr(step.instance(exchange.policy), BEFORE_BODY, None)
            if decide is not None:
                await decide(exchange)


def build(plan: Plan, inner: ASGIApp, services: Mapping[type, object]) -> Chain:
    """Construct the plugins around `inner`; raises Invalid with the problems of all constructors.

    `services` need not hold Policies and EntryName, which the plan knows itself.
    """
    app = inner
    steps = [Step(INNERMOST, inner, {})]
    gated: tuple[Step, ...] = ()  # what has a `before_body`, of the steps below
    above = False  # where nobody knows yet who is calling
    cross_origin: CrossOrigin | None = None
    problems: list[Problem] = []
    for link in reversed(plan.links):
        if link.plugin.sets_policy and not above:
            app, above = _gated(app, gated), True
        handed = {**services, Policies: Policies(plan.policies), EntryName: EntryName(link.name)}
        try:
            app, step = _wrap(link, app, handed)
            steps.append(step)
        except _Failed as failed:
            problems.append(_constructor_problem(plan.loaded, link, failed))
            continue
        if link.plugin.governs_pages:
            cross_origin = getattr(step.default, "cross_origin", None)
            if not isinstance(cross_origin, CrossOrigin):
                mistake = Mistake("the plugin says that it governs pages, but has no `cross_origin` to decide by")
                problems.append(plan.loaded.problem(link.path, mistake))
        if hasattr(step.default, BEFORE_BODY) and not above:
            app, gated = BeforeBody(app, gated), (step, *gated)
    if problems:
        raise Invalid(problems)
    if not above:
        app = _gated(app, gated)
    return Chain(app, tuple(reversed(steps)), cross_origin)


def _gated(app: ASGIApp, steps: tuple[Step, ...]) -> ASGIApp:
    return BeforeBody(app, steps) if steps else app


class _Failed(Exception):
    def __init__(self, path: Path, cause: Exception) -> None:
        self.path, self.cause = path, cause


def _wrap(link: Link, app: ASGIApp, services: Mapping[type, object]) -> tuple[ASGIApp, Step]:
    """Return `app` inside the plugin, behind a switch where policies differ, and the plugin's instances."""
    made: list[tuple[Options, ASGIApp]] = []

    def instance(options: Options, path: Path) -> ASGIApp:
        for known, plugin in made:
            if known == options:
                return plugin
        try:
            made.append((options, link.plugin.around(app, options, services)))
        except Exception as error:  # whatever a constructor raises
            raise _Failed(path, error) from error
        return made[-1][1]

    default = instance(link.options, link.path)
    chosen: dict[str | None, ASGIApp | None] = {}
    for policy, options in link.overrides.items():
        chosen[policy] = None if options is None else instance(options, ("policies", policy, link.name))
    if all(plugin is default for plugin in chosen.values()):
        return default, Step(link.name, default, {})
    by_policy = {policy: app if plugin is None else plugin for policy, plugin in chosen.items()}
    return Switch(default, by_policy), Step(link.name, default, chosen)


def _constructor_problem(loaded: Loaded, link: Link, failed: _Failed) -> Problem:
    cause = failed.cause
    if isinstance(cause, OSError) and cause.strerror:
        message = f"{cause.filename}: {cause.strerror}" if cause.filename else cause.strerror
    elif isinstance(cause, ValueError):
        message = str(cause)
    else:
        message = f"the plugin cannot be set up: {type(cause).__name__}: {cause}"
    for path in (link.path, failed.path):
        message = mask(message, loaded.root.at(path))
    return loaded.problem(failed.path, Mistake(message))
