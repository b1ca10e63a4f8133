"""proxy/commands/requests.py, over a real socket."""

import json

from proxy.simulator import Ollama
from tests.proxy.commands.test_status import invoke
from tests.support.journals import ANN, BOB, claim, entry
from tests.support.proxy import Running, running


async def dead(proxy: Running) -> str:
    """Put a dead request into the journal; return its id."""
    journal = proxy.app.journal
    new = await journal.add(entry(ANN, body=b"my secret words", priority=9))
    await journal.finish(await claim(journal), "dead", error="dead: my secret words")
    return new.id


async def test_requests_are_listed_and_shown() -> None:
    async with Ollama() as sim, running(sim.url) as proxy:
        name = await dead(proxy)
        waiting = await proxy.app.journal.add(entry(BOB))
        result = await invoke(proxy, "requests", "list")
        assert result.exit_code == 0, result.output
        for text in (name, waiting.id, "ann", "red", "bob", "/api/chat", "1 queued", "1 dead"):
            assert text in result.stdout
        assert "secret" not in result.stdout
        only = json.loads((await invoke(proxy, "requests", "list", "--state", "dead", "--json")).stdout)
        assert [one["id"] for one in only["entries"]] == [name]
        assert (await invoke(proxy, "requests", "list", "-s", "nonesuch")).exit_code == 1
        shown = await invoke(proxy, "requests", "show", name)
        assert "error code" in shown.stdout
        assert json.loads((await invoke(proxy, "requests", "show", name, "--json")).stdout)["state"] == "dead"
        assert (await invoke(proxy, "requests", "show", "nonesuch/../x")).exit_code == 1


async def test_status_tells_of_the_dead_ones() -> None:
    async with Ollama() as sim, running(sim.url) as proxy:
        name = await dead(proxy)
        shown = (await invoke(proxy, "status")).stdout
        assert "Deferred requests in memory, gone with the process: 1 dead" in shown
        assert "Dead requests" in shown
        assert name in shown


async def test_requests_are_cancelled_retried_and_purged() -> None:
    async with Ollama() as sim, running(sim.url) as proxy:
        first, second = await dead(proxy), await dead(proxy)
        assert (await invoke(proxy, "requests", "retry", first)).stdout == f"queued {first} again\n"
        assert (await invoke(proxy, "requests", "cancel", first)).stdout == f"cancelled {first}\n"
        refused = await invoke(proxy, "requests", "cancel", second)
        assert (refused.exit_code, "is dead already" in refused.stderr) == (1, True)
        assert (await invoke(proxy, "requests", "purge", "-s", "dead", "-s", "cancelled")).stdout == (
            "deleted 2 requests\n"
        )
        assert (await invoke(proxy, "requests", "purge")).exit_code == 2
