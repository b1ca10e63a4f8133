"""``ollama-proxy logs``: print the JSON lines of a log in a form for people, with filters."""

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final, TextIO, get_args

import orjson
import typer
from rich.text import Text

from proxy.commands.remote import fail
from proxy.commands.tables import STATES, SafeConsole, seconds
from proxy.commands.terminal import printable, printable_lines
from proxy.kernel.errors import Outcome
from proxy.kernel.log_lines import console_line, escape_json
from proxy.kernel.model_names import parse as parse_model
from proxy.kernel.units import parse_duration

LOOK_EVERY: Final = 0.25
"""Seconds between two reads of a file with ``--follow``."""

OUTCOMES: Final = get_args(Outcome)

Line = Mapping[str, Any]
Wanted = Callable[[Line], bool]


def logs(
    file: Annotated[Path | None, typer.Argument(help="The log; standard input where left out.")] = None,
    identity: Annotated[str | None, typer.Option(help="Only requests of this caller.")] = None,
    model: Annotated[str | None, typer.Option(help="Only requests for this model; * stands for anything.")] = None,
    backend: Annotated[str | None, typer.Option(help="Only requests that this backend served.")] = None,
    outcome: Annotated[str | None, typer.Option(help="Only requests that ended so: completed, refused, …")] = None,
    since: Annotated[str | None, typer.Option(help="Only lines since then: 10m, 2h, or 2026-01-31T12:00:00Z.")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Wait for more lines.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the lines as they are.")] = False,
) -> None:
    """Show a log for people; with filters only the requests that fit. What is no JSON passes as it is."""
    wanted = _filters(identity, model, backend, outcome, since)
    console = SafeConsole(soft_wrap=True)
    try:
        for text in _read(file, follow):
            line = _parsed(text)
            if line is None:
                if not wanted:
                    console.print(Text(printable(text)))
            elif all(fits(line) for fits in wanted):
                console.out(escape_json(text.encode()).decode()) if json else console.print(pretty(line))
    except KeyboardInterrupt:
        pass
    except BrokenPipeError:  # the reader closed the pipe, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        fail(f"{file}: {error.strerror}")


def pretty(line: Line) -> Text:
    """Return a log line in a form for people; the line of a request has its fields in the order of interest."""
    if line.get("event") != "request":
        return Text(printable_lines(console_line(line).decode()))
    outcome = str(line.get("outcome"))
    reason = f" ({line['reason']})" if line.get("reason") else ""
    parts = [
        _word(line.get("identity") or line.get("client_address")),
        f"{line.get('method')} {_word(line.get('route') or line.get('path'))}",
        _word(line.get("model")),
        f"{_word(line.get('backend'))}{reason}",
        *_times(line),
        *_tokens(line),
    ]
    text = Text(f"{str(line.get('time'))[11:23]} ", style="dim")
    text.append(f"{outcome} {line.get('status') or '-'} ", style=STATES.get(outcome, "bold"))
    text.append("  ".join(part for part in parts if part != "-"), style="default not dim")
    if line.get("error"):
        by = f" by {line['error_plugin']}" if line.get("error_plugin") else ""
        text.append(f"  {line.get('error_code')}{by}: {printable(str(line['error']))}", style="yellow not dim")
    text.append(f"  {line.get('request_id')}", style="dim")
    return text


def _times(line: Line) -> Iterator[str]:
    if line.get("queue_ms"):
        yield f"queued {seconds(line['queue_ms'] / 1000)}"
    if line.get("ttft_ms") is not None:
        yield f"first {seconds(line['ttft_ms'] / 1000)}"
    if line.get("total_ms") is not None:
        yield f"took {seconds(line['total_ms'] / 1000)}"


def _tokens(line: Line) -> Iterator[str]:
    if line.get("tokens_out") is not None:
        rate = f", {line['tokens_per_second']}/s" if line.get("tokens_per_second") else ""
        yield f"{line.get('tokens_in') or 0}+{line['tokens_out']} tokens{rate}"


def _word(value: object) -> str:
    return "-" if value is None else printable(str(value))


def _filters(
    identity: str | None, model: str | None, backend: str | None, outcome: str | None, since: str | None
) -> list[Wanted]:
    """Return the filters that a line must pass."""
    if outcome is not None and outcome not in OUTCOMES:
        raise typer.BadParameter(f"expected {', '.join(OUTCOMES)}", param_hint="--outcome")
    exact = {"identity": identity, "backend": backend, "outcome": outcome}
    found: list[Wanted] = [partial(_says, name, value) for name, value in exact.items() if value is not None]
    if model is not None:
        name_ = parse_model(model)
        patterns = {model.lower(), name_.short if name_ is not None else model}
        found.append(lambda line: any(fnmatchcase(str(line.get("model")).lower(), pattern) for pattern in patterns))
    if since is not None:
        earliest = _moment(since)
        found.append(lambda line: str(line.get("time", "")) >= earliest)
    return found


def _says(name: str, value: str, line: Line) -> bool:
    return line.get(name) == value


def _moment(text: str) -> str:
    """Return a point in time, or a duration before now, in the format of a log line."""
    try:
        moment = datetime.fromtimestamp(time.time() - parse_duration(text), UTC)
    except (OverflowError, OSError, ValueError):  # a Mistake, or a time before the first date that Python knows
        try:
            moment = datetime.fromisoformat(text).astimezone(UTC)
        except (ValueError, OverflowError):
            raise typer.BadParameter("expected 10m, 2h, or 2026-01-31T12:00:00Z", param_hint="--since") from None
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%f")[:23] + "Z"


def _parsed(text: str) -> Line | None:
    try:
        line = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    return line if isinstance(line, dict) else None


def _read(file: Path | None, follow: bool) -> Iterator[str]:
    if file is None:
        yield from (line.rstrip("\n") for line in sys.stdin)
        return
    with open(file, encoding="utf-8", errors="backslashreplace") as stream:
        yield from _lines(stream)
        while follow:
            time.sleep(LOOK_EVERY)
            yield from _lines(stream)
            if _replaced(file, stream):
                break
    if follow:
        yield from _read(file, follow)


def _lines(stream: TextIO) -> Iterator[str]:
    """Yield the complete lines; leave an incomplete last line for the next call."""
    while True:
        start = stream.tell()
        line = stream.readline()
        if not line.endswith("\n"):
            stream.seek(start)
            return
        yield line.rstrip("\n")


def _replaced(file: Path, stream: TextIO) -> bool:
    """Return whether the file was rotated or truncated."""
    try:
        status, ours = os.stat(file), os.fstat(stream.fileno())
    except FileNotFoundError:
        return False
    return status.st_ino != ours.st_ino or status.st_size < stream.tell()
