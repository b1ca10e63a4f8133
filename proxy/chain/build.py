"""Build the chain: the plugins of a plan, each around the next, with the innermost app in the middle.

Plugins know nothing of policies. Where policies change a plugin's options, there is one instance for each distinct set
of options, and a switch in front of them. Elsewhere there is no switch.
"""

import traceback
from collections.abc import Awaitable, Iterator, Mapping
from dataclasses import dataclass
from types import FunctionType, MethodType
from typing import Final

from config.load import Loaded
from config.model_validation import mask
from config.problems import Invalid, Path, Problem
from proxy.chain.plan import INNERMOST, Link, Plan
from proxy.chain.plugin_lookup import Options
from proxy.kernel.asgi import ASGIApp, Receive, Scope, Send
from proxy.kernel.cross_origin import CrossOrigin
from proxy.kernel.defined_policies import EntryName, Policies
from proxy.kernel.exchange import Ask, Exchange
from proxy.kernel.exchange_parts import ChainPart
from proxy.kernel.units import Mistake

BEFORE_BODY: Final = "before_body"
"""The name of the method by which a plugin refuses a request before its body is read: ``async (exchange) -> None``."""


@dataclass(frozen=True, slots=True)
class Step:
    """An entry of a chain: its default instance, and its instances by policy; None where a policy turns it off."""

    name: str
    default: ASGIApp
    by_policy: Mapping[str | None, ASGIApp | None]

    def instance(self, policy: str | None) -> ASGIApp | None:
        """Return the instance for a caller with `policy`; None where the policy turns the entry off."""
        return self.by_policy.get(policy, self.default)


@dataclass(frozen=True, slots=True)
class Chain:
    """A built chain.

    Attributes:
        app: the outermost app, which the frame calls.
        steps: the entries, the outermost first; the last one is the innermost app.
        cross_origin: the rules for pages of other origins, for the frame; None where no plugin sets them.
    """

    app: ASGIApp
    steps: tuple[Step, ...]
    cross_origin: CrossOrigin | None = None

    @property
    def parts(self) -> list[tuple[str, ASGIApp]]:
        """All instances, each with the name of its entry, the innermost first."""
        found: list[tuple[str, ASGIApp]] = []
        for step in reversed(self.steps):
            instances = {id(instance): instance for instance in (step.default, *step.by_policy.values())}
            found += [(step.name, instance) for instance in instances.values() if instance is not None]
        return found

    def path(self, exchange: Exchange) -> Iterator[tuple[str, ASGIApp | None]]:
        """Yield the instances that a request passes, the outermost first, and None where its policy turns an entry off.

        The policy is looked up when an entry is reached, as an entry above may only just have set it.
        """
        for step in self.steps:
            yield step.name, step.instance(exchange.policy)

    def blame(self, error: BaseException) -> str | None:
        """Return the name of the entry that raised `error`: the innermost one whose code is in its traceback.

        It costs nothing until an error is raised. Where a module holds several plugins, `self` tells them apart.
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
    """Passes each request to the instance for the caller's policy."""

    __slots__ = ("_by_policy", "_default")

    def __init__(self, default: ASGIApp, by_policy: Mapping[str | None, ASGIApp]) -> None:
        self._default = default
        self._by_policy = by_policy

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Call the instance and return its awaitable, without a coroutine of its own."""
        return self._by_policy.get(Exchange.of(scope).policy, self._default)(scope, receive, send)


class BeforeBody:
    """Lets the plugins further in refuse a request before its body is read.

    One stands below the plugin that sets the caller's policy, and one around each plugin that has a `before_body`. So
    the plugin is asked where a body is read above it, and not where the request has already reached it.

    Args:
        app: the app below.
        steps: the steps below that have a `before_body`, the outermost first.
    """

    __slots__ = ("_app", "_ask", "_steps")

    def __init__(self, app: ASGIApp, steps: tuple[Step, ...]) -> None:
        self._app = app
        self._steps = steps
        self._ask: Ask | None = self.ask if steps else None

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Set the plugins that are asked from here on, and return the app's awaitable."""
        Exchange.of(scope).part(ChainPart).before_body = self._ask
        return self._app(scope, receive, send)

    async def ask(self, exchange: Exchange) -> None:
        """Ask every step, in order; raises the error of the first step that refuses."""
        for step in self._steps:
            decide = getattr(step.instance(exchange.policy), BEFORE_BODY, None)
            if decide is not None:
                await decide(exchange)


def build(plan: Plan, inner: ASGIApp, services: Mapping[type, object]) -> Chain:
    """Construct the plugins around `inner` and return the chain; raises Invalid with the problems of all constructors.

    `services` need not hold Policies and EntryName: these come from the plan.
    """
    app = inner
    steps = [Step(INNERMOST, inner, {})]
    gated: tuple[Step, ...] = ()  # the steps below that have a `before_body`
    above = False  # whether the caller's policy is not yet known here
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
    """Return the plugin around `app`, behind a switch where policies differ, and the step with its instances."""
    made: list[tuple[Options, ASGIApp]] = []

    def instance(options: Options, path: Path) -> ASGIApp:
        for known, plugin in made:
            if known == options:
                return plugin
        try:
            made.append((options, link.plugin.around(app, options, services)))
        except Exception as error:  # a constructor may raise anything
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
