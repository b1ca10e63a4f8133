"""``parameters``: the parameters that a request may choose for a model's run, and aliases of models."""

from collections.abc import Iterator, Mapping
from typing import Any, Literal

import orjson

from middleware.parameters.accessors import RUNNER
from middleware.parameters.plan import Plan, plan_of
from middleware.parameters.rule_check import check_rule
from middleware.parameters.rules import Anything, Context, Flag, Lifetime, NotAllowed, Number, Rule, Thinking, Whole
from proxy.kernel import error_codes as codes
from proxy.kernel.asgi import ASGIApp, Receive, Scope, Send, header
from proxy.kernel.body_encoding import ENCODING
from proxy.kernel.body_form import with_field
from proxy.kernel.errors import Refused
from proxy.kernel.exchange import Exchange
from proxy.kernel.exchange_parts import ParametersPart
from proxy.kernel.explain import Explanation
from proxy.kernel.model_names import parse as parse_model
from proxy.kernel.parameter_places import KNOWN
from proxy.kernel.route import Route
from proxy.kernel.worker_threads import off_loop


class Parameters:
    """Sets, bounds or refuses the parameters of a request, and replaces aliases of models by their names.

    Each parameter is named as in Ollama's own API. The same name also governs the OpenAI and Anthropic routes, if they
    have the parameter. An unchanged body is forwarded as it came; in a changed body, every other byte is kept.

    Args:
        num_ctx: size of the context, in tokens. If it differs from the loaded model's, Ollama reloads the model; what
            is above the context that the model was trained with counts as that. The OpenAI and Anthropic routes have
            no place for it: with `v1: derive` their requests go to a model that the proxy derives with this context,
            once on each host, and with `v1: {llama3.2: llama3.2-32k}` to the one that you made.
        num_predict: length of the reply, in tokens (``max_tokens``, ``max_output_tokens``). A `max` also holds for
            requests that ask for no bound.
        keep_alive: how long the model stays in memory afterwards, a duration or ``forever``; `0s` unloads it at once. A
            rule that would make a load of an unload, or an unload of a load, refuses the request (403).
        temperature: how freely tokens are chosen.
        top_p: the share of probability that tokens are chosen from.
        top_k: the number of tokens that are chosen from.
        seed: the seed of the random choice.
        n: how many replies (OpenAI routes).
        think: whether and how much a model thinks first (``reasoning_effort``, ``thinking``).
        shift: whether a conversation that outgrows the context continues without its beginning. If it differs from the
            loaded model's, Ollama reloads the model.
        runner: `drop` or `refuse` everything else that makes Ollama reload a model and others wait: ``shift``, and of
            the options ``num_gpu``, ``num_thread``, ``num_batch``, ``main_gpu``, ``use_mmap``, ``draft_num_predict``
            and those of older versions. A parameter's own rule takes precedence.
        options: rules for other members of Ollama's ``options``, by their names, for example ``num_gpu``.
        aliases: names by which clients may call models → the models they get, for example ``gpt-4o: llama3.3:70b``.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        num_ctx: Context | None = None,
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
                check_rule(name, rule)
        self._plans = {parameters: plan_of(parameters, rules) for parameters in KNOWN}
        self._aliases = dict(_aliases(aliases or {}))
        self._named = dict(_aliases(num_ctx.named)) if isinstance(num_ctx, Context) else {}
        derives = isinstance(num_ctx, Context) and num_ctx.v1 == "derive"
        self._num_ctx = num_ctx.missing() if derives and num_ctx is not None else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Apply the rules and aliases, and pass the request on."""
        await self._change(Exchange.of(scope))
        await self._app(scope, receive, send)

    @staticmethod
    def cannot_govern(route: Route, options: Mapping[str, Any]) -> str | None:
        """Return why these options cannot govern `route`, or None; see `proxy.chain.plugin_lookup.Plugin`."""
        run = route.run
        if all(value is None for name, value in options.items() if name != "aliases"):
            return None
        if route.unknown_parameters or (run is not None and run.parameters is None):
            return "nobody knows where its requests keep their parameters; parameters: none says that they have none"
        if run is not None and run.parameters is not None and run.parameters.any and route.body != "json":
            return "its parameters are only found in a JSON body"
        return None

    async def explain(self, exchange: Exchange) -> Explanation:
        """Explain what would be changed, and change it."""
        try:
            patch = await self._change(exchange)
        except Refused as refused:
            return Explanation("refuse", refused.message)
        if patch:
            return Explanation("change", f"the body gets {orjson.dumps(patch).decode()}")
        return Explanation("pass", "nothing in the body changes")

    async def _change(self, exchange: Exchange) -> dict[str, Any]:
        """Change the request, and return the patch that was merged into its body. Raises Refused."""
        route = exchange.route
        patch: dict[str, Any] = {}
        if route is None:
            return patch
        if self._aliases and (route.kind == "inference" or (route.kind == "read" and route.models)):
            await self._rename(exchange, route, patch, self._aliases)
        placeless = _has_no_place_for_num_ctx(route)
        if placeless and self._named:
            await self._rename(exchange, route, patch, self._named)
        parameters = None if route.run is None else route.run.parameters
        plan = None if parameters is None else self._plans.get(parameters)
        if plan is not None and (plan.always or plan.options):
            await self._govern(exchange, plan, patch)
        if placeless and self._num_ctx is not None:
            await self._derive(exchange, self._num_ctx, patch)
        if patch:
            exchange.edit(patch)
        return patch

    async def _derive(self, exchange: Exchange, num_ctx: int, patch: dict[str, Any]) -> None:
        """Have the backend's name of the model replaced by that of one with a context of `num_ctx`."""
        document = await exchange.json()
        if header(exchange.scope["headers"], ENCODING) is not None:  # the name can only be replaced in a plain body
            patch |= {"model": document["model"], **patch} if "model" in document else {}
        exchange.part(ParametersPart).num_ctx = num_ctx

    async def _rename(
        self, exchange: Exchange, route: Route, patch: dict[str, Any], aliases: Mapping[str, str]
    ) -> None:
        """Replace `aliases` in the body. An alias in the query or the path stays, since only the body is changed."""
        for place, text in (await exchange.names()).items():
            name = parse_model(patch.get(place, text))  # the target of an alias may be renamed in turn
            target = aliases.get(name.key) if name else None
            if target is None:
                continue
            if place == "form":
                body = await exchange.body()
                exchange.put_body(
                    await off_loop(exchange.caller, with_field, body, exchange.scope, "model", target.encode())
                )
            elif place in route.models:
                patch[place] = target

    async def _govern(self, exchange: Exchange, plan: Plan, patch: dict[str, Any]) -> None:
        document = await exchange.json()
        for step in plan.steps(document):
            try:
                step.apply(document, patch)
            except NotAllowed as error:
                who = f"policy '{exchange.policy}'" if exchange.policy else "you"
                raise Refused(403, f"{step.name} {error} for {who}", code=codes.PARAMETER_NOT_ALLOWED) from None
            except ValueError as error:
                raise Refused(400, f"{step.name} {error}") from None


def _has_no_place_for_num_ctx(route: Route) -> bool:
    """Return whether `route` runs a model, and its requests cannot say with which context."""
    parameters = None if route.run is None else route.run.parameters
    return route.body == "json" and parameters is not None and not parameters.places("num_ctx")


def _aliases(aliases: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield the canonical key and the target of each alias; raises ValueError."""
    for alias, target in aliases.items():
        name = parse_model(alias)
        if name is None or parse_model(target) is None:
            raise ValueError(f"aliases: {alias if name is None else target!r} is not the name of a model")
        yield name.key, target
