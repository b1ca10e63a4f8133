"""``ollama-proxy status``: show once what a running proxy does."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import orjson
import typer
from rich.console import Group, RenderableType
from rich.text import Text

from proxy.commands import requests
from proxy.commands.remote import URL, CaOption, KeyOption, Remote, UrlOption
from proxy.commands.tables import console, seconds, size, state, table
from proxy.kernel.log_lines import escape_json

Document = Mapping[str, Any]


def status(
    url: UrlOption = URL,
    key: KeyOption = None,
    ca: CaOption = None,
    json: Annotated[bool, typer.Option("--json", help="Print the whole document for programs.")] = False,
) -> None:
    """Show what a running proxy does now; exits with 1 where it cannot serve."""
    with Remote(url, key, ca) as remote:
        document = remote.get("/-/status")
    if json:
        print(escape_json(orjson.dumps(document, option=orjson.OPT_INDENT_2)).decode())
    else:
        console().print(Group(*view(document)))
    if not document["ready"]["ready"]:
        raise typer.Exit(1)


def view(status: Document, *, recent: int = 10) -> Iterator[RenderableType]:
    """Yield the parts of a status for a terminal, with at most `recent` recent requests."""
    yield _head(status)
    yield from _problems(status["config"])
    yield table(
        "Backends",
        ("name", "state", "slots", "tokens/s", "first byte", "models in memory", "why"),
        map(_backend, status["backends"]),
        right=("slots", "tokens/s", "first byte"),
    )
    if status["workers"]:
        yield table(
            "Workers",
            ("number", "pid", "up for", "running requests", "connections"),
            map(_worker, status["workers"]),
            right=("pid", "up for", "running requests", "connections"),
        )
    yield table(
        f"Running requests: {len(status['requests'])}",
        ("who", "model", "route", "host", "state", "age", "first token", "tokens/s", "tokens", "id"),
        map(_request, status["requests"]),
        right=("age", "first token", "tokens/s", "tokens"),
    )
    if status["queue"]["waiting"]:
        queue = status["queue"]
        title = f"Queue: {queue['waiting']} waiting, the first for {seconds(queue['oldest'])}"
        rows = ((tenant["tenant"], str(tenant["waiting"])) for tenant in queue["tenants"])
        yield table(title, ("tenant", "waiting"), rows, right=("waiting",))
    yield from _journal(status["journal"])
    if status["limits"]:
        yield table(
            "Limits in use", ("who", "limit", "used", "resets in"), map(_limit, status["limits"]), right=("used",)
        )
    if status["recent"]:
        yield table(
            "Recent requests",
            ("who", "model", "route", "host, and why", "outcome", "first token", "took", "tokens"),
            map(_finished, status["recent"][:recent]),
            right=("first token", "took", "tokens"),
        )


def _journal(journal: Document) -> Iterator[RenderableType]:
    """Yield how many deferred requests there are, and which of them are dead."""
    counts = {name: number for name, number in journal["counts"].items() if number}
    if not journal["reached"]:
        yield Text(f"The journal at {journal['home']} cannot be reached.", style="bold red")
    elif counts:
        lasting = "" if journal["durable"] else ", gone with the process"
        told = ", ".join(f"{number} {name}" for name, number in counts.items())
        yield Text.assemble(("Deferred requests", "bold"), f" in {journal['home']}{lasting}: {told}\n")
        dead = [entry for entry in journal["entries"] if entry["state"] == "dead"]
        if dead:
            title = "Dead requests: queue them again with `ollama-proxy requests retry ID`"
            yield table(title, requests.COLUMNS, map(requests.row, dead), right=("attempts", "answer"))


def _head(status: Document) -> Text:
    config = status["config"]
    ready = status["ready"]
    return Text.assemble(
        (f"ollama-proxy {status['version']}", "bold"),
        f", up for {seconds(status['uptime'])}; ",
        ("ready", "green") if ready["ready"] else (f"not ready: {ready['reason']}", "bold red"),
        f"; policy file {config['generation']} for {seconds(config['age'])}: {config['file']}\n",
        (config["chain"], "dim"),
    )


def _problems(config: Document) -> Iterator[Text]:
    if config["problems"]:
        yield Text("The policy file was refused; the one before it is still in force:", style="bold red")
        yield Text("\n".join(config["problems"]), style="red")
    elif config["restart"]:
        yield Text(f"changed, but in force only after a restart: {', '.join(config['restart'])}", style="yellow")


def _backend(backend: Document) -> tuple[str | Text, ...]:
    slots = "" if backend["slots"] is None else f"/{backend['slots']}"
    memory = ", ".join(
        f"{model['name']} ({'loading' if model['loading'] else size(model['vram'])})" for model in backend["resident"]
    )
    since = f", for {seconds(backend['since'])}" if backend["since"] else ""
    return (
        backend["name"],
        state(backend["state"]),
        f"{backend['active']}{slots}",
        f"{backend['tokens_per_second']:.1f}",
        seconds(backend["first_byte"]),
        memory or "-",
        f"{backend['reason']}{since}",
    )


def _worker(worker: Document) -> tuple[str | Text, ...]:
    number = str(worker["number"])
    if worker["pid"] is None:
        return number, Text("not there", style="bold red"), "-", "-", "-"
    return number, str(worker["pid"]), seconds(worker["uptime"]), str(worker["requests"]), str(worker["connections"])


def _who(request: Document) -> str:
    return str(request["identity"] or request["client"])


def _rate(request: Document) -> str:
    rate = request["tokens_per_second"]
    return "-" if rate is None else f"{rate:.1f}"


def _request(request: Document) -> tuple[str | Text, ...]:
    return (
        _who(request),
        request["model"] or "-",
        request["route"] or "-",
        request["backend"] or "-",
        state(request["state"]),
        seconds(request["seconds"]),
        seconds(request["first_byte"]),
        _rate(request),
        str(request["chunks"]),
        request["id"],
    )


def _finished(request: Document) -> tuple[str | Text, ...]:
    why = " ".join(filter(None, (request["backend"], request["reason"] and f"({request['reason']})", request["error"])))
    return (
        _who(request),
        request["model"] or "-",
        request["route"] or "-",
        why or "-",
        state(request["outcome"]),
        seconds(request["first_byte"]),
        seconds(request["seconds"]),
        str(request["tokens_out"] or "-"),
    )


def _limit(limit: Document) -> tuple[str, ...]:
    per = "running" if limit["window"] is None else f"{limit['unit']} per {limit['window']}"
    resets = seconds(limit["resets_in"]) if limit["resets_in"] else "-"
    return limit["whom"], limit["limit"], f"{limit['used']:,} of {limit['amount']:,} {per}", resets
