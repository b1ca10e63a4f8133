"""The format of numbers and tables in the output of the commands."""

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from rich import box
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from proxy.commands.terminal import printable, printable_lines
from proxy.kernel.log_sink import LogSink
from proxy.telemetry.log_setup import configure

PIPED: Final = 200
"""The width of output that goes to no terminal, in columns."""
STATES: Final = {
    "up": "green",
    "suspect": "yellow",
    "down": "bold red",
    "ejected": "red",
    "draining": "blue",
    "answering": "green",
    "queued": "yellow",
    "loading": "yellow",
    "completed": "green",
    "running": "green",
    "failed": "red",
    "dead": "bold red",
    "expired": "yellow",
    "refused": "yellow",
    "cancelled": "yellow",
    "upstream_failed": "red",
    "upstream_truncated": "red",
    "timed_out": "red",
}


class Aside(LogSink):
    """Prints to stderr, for people, what the parts that a command uses log."""

    def __init__(self) -> None:
        configure(self, format="console", level="warning")

    def write(self, line: bytes) -> None:
        """See `LogSink.write`."""
        print(printable_lines(line.decode()), file=sys.stderr)


class SafeConsole(Console):
    """A console that reads no text as markup, and escapes control characters of texts; those of rich itself pass."""

    def __init__(self, *, width: int | None = None, soft_wrap: bool = False) -> None:
        super().__init__(width=width, soft_wrap=soft_wrap, highlight=False, markup=False, emoji=False)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
        """See `Console.render`: everything that is printed passes here."""
        for segment in super().render(renderable, options):
            if segment.control or segment.text.isprintable():
                yield segment
            else:
                yield segment._replace(text=printable_lines(segment.text))


def console() -> SafeConsole:
    """Return the console of the commands: as wide as the terminal, or `PIPED` columns where there is none."""
    found = SafeConsole()
    return found if found.is_terminal or "COLUMNS" in os.environ else SafeConsole(width=PIPED)


def seconds(value: float | None) -> str:
    """Return a duration in a short form: ``850 ms``, ``4.2 s``, ``3 m 20 s``, ``5 h 10 m``."""
    if value is None:
        return "-"
    if value < 0.9995:
        return f"{value * 1000:.0f} ms"
    if value < 60:
        return f"{value:.1f} s"
    minutes, rest = divmod(int(value), 60)
    if minutes < 60:
        return f"{minutes} m {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} m" if hours < 48 else f"{hours // 24} days"


def size(value: int) -> str:
    """Return a number of bytes in the largest unit that fits."""
    for unit, bytes_ in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if value >= bytes_:
            return f"{value / bytes_:.1f} {unit}"
    return f"{value} B"


def state(word: str | None) -> Text:
    """Return a state or an outcome in its color."""
    return Text(word or "-", style=STATES.get(word or "", ""))


def table(
    title: str, columns: Sequence[str], rows: Iterable[Sequence[str | Text]], *, right: Sequence[str] = ()
) -> Table:
    """Return a table; the columns in `right` are aligned to the right. Texts are not read as markup."""
    made = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        made.add_column(column, justify="right" if column in right else "left", overflow="fold")
    for row in rows:
        made.add_row(*(cell if isinstance(cell, Text) else Text(printable(cell)) for cell in row))
    return made
