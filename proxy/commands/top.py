"""``ollama-proxy top``: what a running proxy does, while it does it."""

import time
from typing import Annotated, Any, Final

import typer
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from proxy.commands.remote import URL, CaOption, KeyOption, Remote, UrlOption
from proxy.commands.status import view

BARS: Final = "▁▂▃▄▅▆▇█"
KEPT: Final = 60


def top(
    url: UrlOption = URL,
    key: KeyOption = None,
    ca: CaOption = None,
    every: Annotated[float, typer.Option(min=0.2, help="Seconds between two looks.")] = 1.0,
    count: Annotated[int, typer.Option(min=0, help="End after so many looks; 0 for never.")] = 0,
) -> None:
    """Show what a running proxy does, until Ctrl-C: backends, queue, running requests, limits."""
    remote = Remote(url, key, ca)
    picture = Picture()
    console = Console()
    looks = 0
    with Live(console=console, screen=console.is_terminal, auto_refresh=False) as live:
        while True:
            live.update(picture.show(remote.get("/-/status"), height=console.height), refresh=True)
            looks += 1
            if looks == count:
                break
            try:
                time.sleep(every)
            except KeyboardInterrupt:
                break


class Picture:
    """One screen after another; remembers what its graphs need."""

    def __init__(self) -> None:
        self.tokens: list[float] = []
        self.running: list[float] = []

    def show(self, status: dict[str, Any], *, height: int) -> RenderableType:
        """Return the screen for `status`, with as many recent requests as there is room for."""
        self.tokens = [*self.tokens, sum(backend["tokens_per_second"] for backend in status["backends"])][-KEPT:]
        self.running = [*self.running, float(len(status["requests"]))][-KEPT:]
        graphs = Text.assemble(
            ("tokens/s ", "dim"),
            f"{self.tokens[-1]:8.1f} ",
            (graph(self.tokens), "cyan"),
            "\n",
            ("running  ", "dim"),
            f"{self.running[-1]:8.0f} ",
            (graph(self.running), "cyan"),
        )
        used = 16 + len(status["backends"]) + len(status["requests"]) + len(status["limits"])
        head, *rest = view(status, recent=max(0, height - used))
        return Group(head, graphs, *rest)


def graph(values: list[float]) -> str:
    """Return `values` as a line of bars, the largest the highest."""
    most = max(values, default=0.0) or 1.0
    return "".join(BARS[round(value / most * (len(BARS) - 1))] for value in values)
