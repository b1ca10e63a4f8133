"""proxy/announce.py."""

import io

from config.load import load_text
from proxy.announce import announce
from proxy.app import App
from proxy.simulator import Ollama
from tests.support.backend import eventually
from tests.support.proxy import Lines


async def test_what_it_says() -> None:
    async with Ollama("llama3.2", version="0.33.0") as sim, Ollama() as gone:
        await gone.stop()
        text = f"backends: [{{name: a, url: '{sim.url}'}}, {{name: b, url: '{gone.url}'}}]\nmiddleware: [logging]\n"
        app = App(load_text(text), Lines())
        out = io.StringIO()
        announce(app, ["127.0.0.1:1", "unix:/run/x.sock"], out)
        await eventually(lambda: "chain" in out.getvalue())
        lines = out.getvalue().splitlines()
        assert "listens on http://127.0.0.1:1, unix:/run/x.sock" in lines[0]
        assert lines[1] == f"  backend a at {sim.url}: Ollama 0.33.0, 1 models (llama3.2:latest)"
        assert "not reachable now" in lines[2]
        assert lines[3] == "  chain   logging → dispatch"
        await app.pool.aclose()
