"""``parameters``: which parameters of a model's run a request may choose, and by which names it may call models."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import orjson

from middleware.parameter_places import BARE, ENDLESS, ROUTES, RUNNER, Place, leading, places
from middleware.parameter_rules import Anything, Flag, Lifetime, NotAllowed, Number, Rule, Thinking, Whole
from proxy.asgi import ASGIApp, Receive, Scope, Send
from proxy.errors import Refused
from proxy.exchange import Exchange
from proxy.explain import Explanation
from proxy.models import parse as parse_model
from proxy.multipart import fields

_UNBOUNDED: Final = "num_predict"
"""Left out, it means a reply without a bound: a `max` holds there, too."""
_POSITIVE: Final = frozenset({"num_ctx", "n"})
"""Of these there is at least one."""


@dataclass(frozen=True, slots=True)
class _Step:
    """One parameter on one route."""

    name: str
    rule: Rule[Any]
    places: tuple[Place, ...]
    bare: str | None = None
    """The member without which the request only loads or unloads the model; for ``keep_alive``."""

    def apply(self, document: Mapping[str, Any], patch: dict[str, Any]) -> None:
        """Add what has to change to `patch`; raises ValueError or NotAllowed."""
        lead = leading(self.places, document)
        said = False
        asked = None
        for place in self.places:
            if place.fallback and said:
                continue
            written = place.find(document)
            value = None if written is None else self._read(place, written)
            if value is not None:
                wanted = self._judge(value, document)
                if wanted is not value:
                    (lead if place.fallback and wanted is not None else place).put(patch, wanted)
                if place is lead or place.fallback:
                    said = True
                else:
                    asked = wanted  # where Ollama does not read it, and it would not hold
        if not said:
            value = self.rule.missing(endless=self.name == _UNBOUNDED) if asked is None else asked
            if value is not None:
                self._check_bare(None, value, document)
                lead.put(patch, value)

    def _read(self, place: Place, written: Any) -> Any:
        """Return what Ollama will use; where the rule decides alone, what Ollama refuses is no worse than the rest."""
        try:
            return place.read(written)
        except ValueError:
            if self.rule.drop or self.rule.set is not None:
                return written
            raise

    def _judge(self, value: Any, document: Mapping[str, Any]) -> Any:
        """Return what becomes of `value`, None where it is dropped; raises ValueError or NotAllowed."""
        wanted = None if self.rule.drop else self.rule.judge(value, endless=ENDLESS.get(self.name))
        if wanted is not value:
            self._check_bare(value, wanted, document)
        return wanted

    def _check_bare(self, value: Any, wanted: Any, document: Mapping[str, Any]) -> None:
        """Raise NotAllowed where the change would make a load of what is to unload a model, or the reverse."""
        if self.bare is not None and not document.get(self.bare) and (value == 0) != (wanted == 0):
            raise NotAllowed(f"may not be used to {'unload' if value == 0 else 'load'} a model")


class Parameters:
    """Sets, bounds or refuses the parameters of a request, and replaces names of models by others.

    A parameter has its name in Ollama's own API; the OpenAI and Anthropic routes are governed under the same names,
    as far as they have the parameter. A body in which nothing changes is forwarded as it came, and of one that changes
    every other byte is kept.

    Args:
        num_ctx: size of the context, tokens. Another size than the loaded one makes Ollama reload the model.
        num_predict: length of the reply, tokens (``max_tokens``, ``max_output_tokens``). A `max` also holds for
            requests that ask for no bound.
        keep_alive: how long the model stays in memory afterwards, a duration or ``forever``; `0s` unloads it at once.
        temperature: how freely tokens are chosen.
        top_p: the share of probability that tokens are chosen from.
        top_k: the number of tokens that are chosen from.
        seed: what the choice is seeded with.
        n: how many replies (OpenAI routes).
        think: whether and how much a model thinks first (``reasoning_effort``, ``thinking``).
        shift: whether a talk that outgrows the context goes on without its beginning. Another value than the loaded
            one makes Ollama reload the model.
        runner: `drop` or `refuse` everything else that makes Ollama reload a model and others wait: ``shift``, and of
            the options ``num_gpu``, ``num_thread``, ``num_batch``, ``main_gpu``, ``use_mmap``, ``draft_num_predict``
            and those that older versions had. A rule of its own goes before it.
        options: rules for other members of Ollama's ``options``, by their names, for example ``num_gpu``.
        aliases: names by which clients may call models → the models they get, for example ``gpt-4o: llama3.3:70b``.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        num_ctx: Whole | None = None,
        num_predict: Whole | None = None,
        keep_alive: Lifetime | None = None,
        temperature: Number | None = None,
        top_p: Number | None = None,
        top_k: Whole | None = None,
        seed: Whole | None = None,
        n: Whole | None = None,
        think: Thinking | None = None,
        shift: Flag | None = None,
        runner: Literal["drop", "refuse"] | None = None,
        options: Mapping[str, Anything] | None = None,
        aliases: Mapping[str, str] | None = None,
    ) -> None:
        self._app = app
        named: dict[str, Rule[Any] | None] = {
            "num_ctx": num_ctx,
            "num_predict": num_predict,
            "keep_alive": keep_alive,
            "temperature": temperature,
            "top_p": top_p,
            "top_k": top_k,
            "seed": seed,
            "n": n,
            "think": think,
            "shift": shift,
        }
        if strange := [name for name in options or {} if not name.isascii()]:
            raise ValueError(f"{strange[0]!r} is not the name of an option")
        if twice := named.keys() & (options or {}).keys():
            raise ValueError(f"{min(twice)} has a rule of its own; it cannot stand under options")
        rules = {**named, **(options or {})}
        if runner is not None:
            rest = Anything.model_validate({runner: True})
            rules |= {name: rest for name in ("shift", *RUNNER) if rules.get(name) is None}
        for name, rule in rules.items():
            if rule is not None:
                _check(name, rule)
        self._plans = {route: tuple(_steps(route, rules)) for route in ROUTES}
        self._aliases = dict(_aliases(aliases or {}))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Change what the policy wants changed, and pass the request on."""
        await self._change(Exchange.of(scope))
        await self._app(scope, receive, send)

    async def explain(self, exchange: Exchange) -> Explanation:
        """Say what would be changed, and change it."""
        try:
            patch = await self._change(exchange)
        except Refused as refused:
            return Explanation("refuse", refused.message)
        if patch:
            return Explanation("change", f"the body gets {orjson.dumps(patch).decode()}")
        return Explanation("pass", "nothing in the body changes")

    async def _change(self, exchange: Exchange) -> dict[str, Any]:
        """Change the request; return what was merged into its body. Raises Refused."""
        route = exchange.route
        patch: dict[str, Any] = {}
        if route is None:
            return patch
        if self._aliases and (route.kind == "inference" or route.path == "/api/show"):
            await self._rename(exchange, patch)
        if plan := self._plans.get(route.path):
            await self._govern(exchange, plan, patch)
        if patch:
            exchange.edit(patch)
        return patch

    async def _rename(self, exchange: Exchange, patch: dict[str, Any]) -> None:
        """Replace the names that are aliases. One in the query stays: it is not part of the body."""
        for place, text in (await exchange.names()).items():
            name = parse_model(text)
            target = self._aliases.get(name.key) if name else None
            if target is None:
                continue
            if place == "form":
                body = await exchange.body()
                field = next(field for field in fields(body, exchange.scope) if field.name == "model")
                exchange.put_body(body[: field.start] + target.encode() + body[field.end :])
            elif place != "query":
                patch[place] = target

    async def _govern(self, exchange: Exchange, plan: tuple[_Step, ...], patch: dict[str, Any]) -> None:
        document = await exchange.json()
        for step in plan:
            try:
                step.apply(document, patch)
            except NotAllowed as error:
                who = f"policy '{exchange.policy}'" if exchange.policy else "you"
                raise Refused(403, f"{step.name} {error} for {who}", code="parameter_not_allowed") from None
            except ValueError as error:
                raise Refused(400, f"{step.name} {error}") from None


def _steps(route: str, rules: Mapping[str, Rule[Any] | None]) -> Iterator[_Step]:
    for name, rule in rules.items():
        if rule is not None and (found := places(route, name)):
            yield _Step(name, rule, found, BARE.get(route) if name == "keep_alive" else None)


def _check(name: str, rule: Rule[Any]) -> None:
    """Raise ValueError where the rule would write what Ollama refuses, or reads as something else."""
    place = next((found[0] for route in ROUTES if (found := places(route, name))), Place((name,)))
    for value in rule.values:
        try:
            read = place.read(place.write(value))
        except ValueError as error:
            raise ValueError(f"{name}: a value of the rule {error}") from None
        if isinstance(value, float) and read != value:
            raise ValueError(f"{name}: a value of the rule must be a whole number")
        if name in _POSITIVE and value < 1:
            raise ValueError(f"{name}: a value of the rule must be at least 1")
    endless = ENDLESS.get(name)
    if endless is not None and rule.max is not None and rule.max <= endless:
        raise ValueError(f"{name}: as a max, {rule.max} would mean that there is none")
    if rule.default is not None:
        try:
            kept = rule.judge(rule.default, endless=endless) == rule.default
        except NotAllowed:
            kept = False
        if not kept:
            raise ValueError(f"{name}: the default is not among the values allowed")


def _aliases(aliases: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield canonical key and target of each alias; raises ValueError."""
    for alias, target in aliases.items():
        name = parse_model(alias)
        if name is None or parse_model(target) is None:
            raise ValueError(f"aliases: {alias if name is None else target!r} is not the name of a model")
        yield name.key, target
