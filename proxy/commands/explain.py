"""``ollama-proxy explain``: show what each plugin would decide about a request, and why. Nothing is sent."""

import asyncio
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Final

import orjson
import typer
from rich.text import Text

from config.load import Loaded
from config.problems import Invalid
from proxy.app import App
from proxy.commands.remote import Remote, fail
from proxy.commands.tables import Aside, console
from proxy.kernel.errors import Refused
from proxy.ops.explaining import account, read_supposed

SIGNS: Final = {
    "pass": ("✓", "green"),
    "change": ("✎", "cyan"),
    "wait": ("…", "yellow"),
    "refuse": ("✗", "bold red"),
    "skip": ("-", "dim"),
    "off": ("-", "dim"),
    "silent": ("?", "dim"),
}

MethodArgument = Annotated[str, typer.Argument(help="GET, POST, …", show_default=False)]
PathArgument = Annotated[str, typer.Argument(help="/api/chat, /v1/models, …", show_default=False)]
AsOption = Annotated[
    str | None, typer.Option("--as", help="Who asks: an API key or token, or the name or id of a key.", metavar="WHO")
]
ClaimsOption = Annotated[Path | None, typer.Option(help="A JSON file with a token's claims.", metavar="FILE")]
ModelOption = Annotated[str | None, typer.Option(help="The model asked for.")]
BodyOption = Annotated[Path | None, typer.Option(help="A JSON file with the request's body.", metavar="FILE")]
AddressOption = Annotated[str | None, typer.Option(help="Where the request comes from; this machine if left out.")]
RunningOption = Annotated[
    str | None,
    typer.Option("--url", help="Ask this running proxy, which knows counters, queue and backends.", metavar="URL"),
]


def request_of(
    method: str,
    path: str,
    who: str | None,
    claims: Path | None,
    model: str | None,
    body: Path | None,
    address: str | None,
) -> dict[str, Any]:
    """Return the document that describes the request, as ``POST /-/explain`` takes it."""
    document = {
        "method": method.upper(),
        "path": path,
        "as": who,
        "model": model,
        "address": address,
        "claims": _json(claims),
        "body": _json(body),
    }
    return {name: value for name, value in document.items() if value is not None}


def ask_running(url: str, key: str | None, ca: Path | None, request: Mapping[str, Any]) -> None:
    """Let a running proxy explain a request, and print the result."""
    with Remote(url, key, ca) as remote:
        show(remote.post("/-/explain", request))


def ask_file(loaded: Loaded, request: Mapping[str, Any]) -> None:
    """Explain a request by a policy file alone: no state of backends, and no counters but those of a shared store."""
    try:
        app = App(loaded, Aside())
        show(asyncio.run(_explain(app, request)))
    except Invalid as error:
        fail(*map(str, error.problems))
    except Refused as error:
        fail(error.message)


async def _explain(app: App, request: Mapping[str, Any]) -> dict[str, Any]:
    try:
        await app.store.connect()
        return asdict(await account(app.chain, app.frame.current.routes, read_supposed(request), app.bodies))
    finally:
        await app.store.aclose()
        await app.pool.aclose()


def show(found: Mapping[str, Any]) -> None:
    """Print what would happen to a request; exits with 1 where the request would be refused."""
    screen = console()
    route = f"{found['route']} ({found['kind']})" if found["route"] else "no such route"
    caller = f"{found['identity'] or 'nobody'}, tenant {found['tenant'] or '-'}, policy {found['policy'] or '-'}"
    for name, value in (("route", route), ("model", found["model"] or "-"), ("caller", caller)):
        screen.print(Text.assemble((f"{name:<8}", "dim"), value))
    width = max(len(step["name"]) for step in found["steps"])
    for step in found["steps"]:
        sign, style = SIGNS[step["verdict"]]
        name, verdict = f"{step['name']:<{width}}  ", f"{step['verdict']:<7} "
        screen.print(Text.assemble((f"{sign} ", style), (name, "bold"), (verdict, style), step["text"]))
    if found["steps"][-1]["verdict"] == "refuse":
        raise typer.Exit(1)


def _json(file: Path | None) -> Any:
    if file is None:
        return None
    try:
        return orjson.loads(file.read_bytes())
    except OSError as error:
        fail(f"{file}: {error.strerror}")
    except orjson.JSONDecodeError as error:
        fail(f"{file} is not JSON: {error}")
