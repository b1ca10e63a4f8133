"""``ollama-proxy requests``: the deferred requests and batches of a running proxy: their states, not their words."""

from collections.abc import Mapping
from typing import Annotated, Any, Final
from urllib.parse import quote, urlencode

import orjson
import typer
from rich.text import Text

from proxy.commands.remote import URL, CaOption, KeyOption, Remote, UrlOption
from proxy.commands.tables import console, size, state, table
from proxy.commands.terminal import say
from proxy.kernel.log_lines import escape_json

commands: Final = typer.Typer(
    help="List, show, cancel, retry and purge deferred requests and batches.", no_args_is_help=True
)

IdArgument = Annotated[str, typer.Argument(metavar="ID", help="The id of the request or batch.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
StateOption = Annotated[
    list[str] | None, typer.Option("--state", "-s", help="Only those in this state; may be given several times.")
]
COLUMNS: Final = ("id", "kind", "state", "who", "tenant", "model", "route", "attempts", "answer", "created", "why")


@commands.command("list")
def list_requests(
    states: StateOption = None,
    batch: Annotated[str | None, typer.Option(help="Only the requests of this batch.")] = None,
    after: Annotated[str | None, typer.Option(help="Go on behind the entry of this id.")] = None,
    limit: Annotated[int, typer.Option(help="At most so many, of up to 1000.", min=1, max=1000)] = 100,
    json: JsonOption = False,
    url: UrlOption = URL,
    key: KeyOption = None,
    ca: CaOption = None,
) -> None:
    """List deferred requests and batches, the newest first."""
    asked = {"state": ",".join(states or ()), "parent": batch or "", "after": after or "", "limit": str(limit)}
    query = urlencode({name: value for name, value in asked.items() if value})
    with Remote(url, key, ca) as remote:
        found = remote.get(f"/-/journal?{query}")
    if json:
        _print(found)
        return
    counts = ", ".join(f"{number} {name}" for name, number in found["counts"].items() if number)
    title = f"Deferred requests: {counts or 'none'}"
    console().print(table(title, COLUMNS, map(row, found["entries"]), right=("attempts", "answer")))


@commands.command("show")
def show(
    name: IdArgument, json: JsonOption = False, url: UrlOption = URL, key: KeyOption = None, ca: CaOption = None
) -> None:
    """Show the state of one deferred request or batch."""
    with Remote(url, key, ca) as remote:
        entry = remote.get(f"/-/journal/{quote(name, safe='')}")
    if json:
        _print(entry)
    else:
        known = ((field.replace("_", " "), str(value)) for field, value in entry.items() if value is not None)
        console().print(table(f"{entry['kind']} {entry['id']}", ("", ""), known))


@commands.command("cancel")
def cancel(name: IdArgument, url: UrlOption = URL, key: KeyOption = None, ca: CaOption = None) -> None:
    """End a deferred request, or a batch with its requests."""
    with Remote(url, key, ca) as remote:
        say(remote.post(f"/-/journal/{quote(name, safe='')}/cancel")["done"])


@commands.command("retry")
def retry(name: IdArgument, url: UrlOption = URL, key: KeyOption = None, ca: CaOption = None) -> None:
    """Queue a deferred request again that is dead, failed, cancelled or expired."""
    with Remote(url, key, ca) as remote:
        say(remote.post(f"/-/journal/{quote(name, safe='')}/retry")["done"])


@commands.command("purge")
def purge(
    states: Annotated[
        list[str],
        typer.Option("--state", "-s", help="completed, failed, cancelled, expired or dead; may be repeated."),
    ],
    url: UrlOption = URL,
    key: KeyOption = None,
    ca: CaOption = None,
) -> None:
    """Delete the deferred requests in these states, with what was asked and answered."""
    with Remote(url, key, ca) as remote:
        say(remote.post(f"/-/purge?{urlencode({'state': ','.join(states)})}")["done"])


def row(entry: Mapping[str, Any]) -> tuple[str | Text, ...]:
    """Return the cells of an entry; see `COLUMNS`."""
    place = f" ({entry['position']} before it)" if entry["position"] else ""
    return (
        entry["id"],
        entry["kind"],
        Text.assemble(state(entry["state"]), place),
        entry["identity"] or entry["client"],
        entry["tenant"] or "-",
        entry["model"] or "-",
        entry["route"] or "-",
        str(entry["attempts"]),
        size(entry["recorded"]),
        entry["created"],
        entry["error_code"] or "-",
    )


def _print(document: Mapping[str, Any]) -> None:
    print(escape_json(orjson.dumps(document, option=orjson.OPT_INDENT_2)).decode())
