"""``ollama-proxy top``: show continuously what a running proxy does."""

import time
from contextlib import suppress
from typing import Annotated, Any, Final

import typer
from rich.console import Group, RenderableType
from rich.live import Live
from rich.text import Text

from proxy.commands.remote import URL, CaOption, Failed, KeyOption, Remote, UrlOption
from proxy.commands.status import view
from proxy.commands.tables import console

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
    screen = console()
    with (
        Remote(url, key, ca) as remote,
        Live(console=screen, screen=screen.is_terminal, auto_refresh=False) as live,
        suppress(KeyboardInterrupt),
    ):
        picture = Picture(remote.get("/-/status"))
        live.update(picture.show(height=screen.height), refresh=True)
        looks = 1
        while looks != count:
            time.sleep(every)
            try:
                picture.take(remote.look("/-/status"))
            except Failed as error:
                picture.lost = error.messages[0]
            live.update(picture.show(height=screen.height), refresh=True)
            looks += 1


class Picture:
    """The screen of `top`. It keeps the values of its graphs, and the last status while the proxy does not answer."""

    def __init__(self, status: dict[str, Any]) -> None:
        self.lost: str | None = None
        self._tokens: list[float] = []
        self._running: list[float] = []
        self.take(status)

    def take(self, status: dict[str, Any]) -> None:
        """Take the next status of the proxy."""
        self.lost = None
        self._status = status
        self._tokens = [*self._tokens, sum(backend["tokens_per_second"] for backend in status["backends"])][-KEPT:]
        self._running = [*self._running, float(len(status["requests"]))][-KEPT:]

    def show(self, *, height: int) -> RenderableType:
        """Return the screen, with as many recent requests as there is room for."""
        status = self._status
        graphs = Text.assemble(
            ("tokens/s ", "dim"),
            f"{self._tokens[-1]:8.1f} ",
            (graph(self._tokens), "cyan"),
            "\n",
            ("running  ", "dim"),
            f"{self._running[-1]:8.0f} ",
            (graph(self._running), "cyan"),
        )
        used = (
            16 + len(status["backends"]) + len(status["requests"]) + len(status["limits"]) + 4 * bool(status["workers"])
        )
        head, *rest = view(status, recent=max(0, height - used))
        lost = [Text(f"{self.lost}; trying again", style="bold red")] if self.lost else []
        return Group(head, *lost, graphs, *rest)


def graph(values: list[float]) -> str:
    """Return `values` as a line of bars; the largest value has the highest bar."""
    most = max(values, default=0.0) or 1.0
    return "".join(BARS[round(value / most * (len(BARS) - 1))] for value in values)
