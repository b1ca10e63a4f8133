"""proxy/commands/top.py."""

from typing import Any

import pytest
from rich.console import Console

from proxy.commands.remote import Failed
from proxy.commands.top import BARS, Picture, graph
from proxy.simulator import Ollama
from tests.proxy.commands.test_status import invoke
from tests.support.proxy import running


async def test_it_shows_the_proxy_so_many_times() -> None:
    async with Ollama() as sim, running(sim.url) as proxy:
        result = await invoke(proxy, "top", "--count", "2", "--every", "0.2")
        assert result.exit_code == 0, result.output
        assert "tokens/s" in result.stdout
        assert "Running requests: 0" in result.stdout


async def test_a_proxy_that_is_not_there_is_said() -> None:
    async with Ollama() as sim, running(sim.url) as proxy:
        pass
    result = await invoke(proxy, "top", "--count", "1")
    assert (result.exit_code, "cannot be reached" in result.stderr) == (1, True)


def shown(picture: Picture) -> str:
    console = Console(width=120)
    with console.capture() as captured:
        console.print(picture.show(height=40))
    return captured.get()


def status(rate: float) -> dict[str, Any]:
    return {
        "version": "1",
        "uptime": 1,
        "ready": {"ready": True, "reason": ""},
        "config": {"generation": 1, "age": 1, "file": "f", "chain": "c", "problems": [], "restart": []},
        "backends": [
            {
                "name": "b1",
                "state": "up",
                "reason": "answers",
                "since": 0,
                "slots": None,
                "active": 0,
                "tokens_per_second": rate,
                "first_byte": None,
                "resident": [],
            }
        ],
        "requests": [],
        "queue": {"waiting": 0},
        "limits": [],
        "journal": {"home": "memory", "durable": False, "reached": True, "counts": {}, "entries": []},
        "workers": [],
        "recent": [],
    }


def test_it_remembers_what_it_draws_and_survives_a_lost_connection() -> None:
    picture = Picture(status(10))
    picture.take(status(20))
    assert "    20.0 ▅█" in shown(picture)
    picture.lost = Failed("http://x cannot be reached").messages[0]
    assert "http://x cannot be reached; trying again" in shown(picture)
    picture.take(status(0))
    assert "trying again" not in shown(picture)


@pytest.mark.parametrize(
    ("values", "drawn"),
    [([], ""), ([0.0], BARS[0]), ([0, 1], BARS[0] + BARS[-1]), ([5, 10, 2.5], BARS[4] + BARS[7] + BARS[2])],
)
def test_a_graph_is_a_line_of_bars(values: list[float], drawn: str) -> None:
    assert graph(values) == drawn
