"""The reference of the routes that are passed on to Ollama, in Markdown, made from their table."""

from typing import Final

from proxy.kernel.ollama_routes import OLLAMA
from proxy.kernel.route import Route

_REPEAT: Final = {"safe": "yes", "costly": "until the first byte", "never": "no"}
_STREAM: Final = {None: "", True: "unless `stream` is false", False: "where `stream` is true"}


def routes_page() -> str:
    """Return the page, in Markdown."""
    lines = [
        "# Routes",
        "",
        "Generated from `proxy/kernel/ollama_routes.py` by `scripts/generate`; not to be edited here.",
        "",
        "What is passed on to Ollama. A policy file may declare others, each like one of these: see",
        "[other routes](../guides/access.md#other-routes).",
        "",
        "| route | class | flavor | body | where its model is named | streams | sent again | |",
        "|---|---|---|---|---|---|---|---|",
        *map(_row, OLLAMA),
        "",
        "Where routes that run a model keep their parameters; `…` stands for any other parameter.",
        "",
        "| route | operation | parameters |",
        "|---|---|---|",
        *(_run(route) for route in OLLAMA if route.run is not None),
    ]
    return "\n".join(lines) + "\n"


def _row(route: Route) -> str:
    named = [f"`{name}`" for name in route.models]
    named += ["the path"] if route.model_in_path else []
    named += [f"`?{name}=`" for name in route.query]
    cells = (
        f"`{' '.join(route.methods)} {route.path}`",
        f"`{route.kind}`",
        route.flavor,
        "" if route.body == "none" else route.body,
        ", ".join(named),
        _STREAM[route.stream],
        _REPEAT[route.repeat],
        route.summary,
    )
    return f"| {' | '.join(cells)} |"


def _run(route: Route) -> str:
    run, stand = route.run, []
    if run is not None and run.parameters is not None:
        for name, places in run.parameters.members.items():
            where = ", ".join(f"`{'.'.join(place.path)}`" for place in places)
            stand.append(where if where == f"`{name}`" else f"`{name}` in {where}")
        stand += ["`options.…`"] if run.parameters.options else []
    return f"| `{route.path}` | {'' if run is None else run.operation} | {'; '.join(stand) or 'none'} |"
