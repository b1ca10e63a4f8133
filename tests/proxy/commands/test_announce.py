"""proxy/commands/announce.py."""

import io

from proxy.app import App
from proxy.commands.announce import announce
from proxy.server.server import serve
from proxy.simulator import Ollama
from proxy.testing import LogLines
from proxy.wiring import server_options
from tests.support.backend import eventually
from tests.support.policy import load_text


async def test_what_it_says() -> None:
    async with Ollama("llama3.2", version="0.33.0") as sim, Ollama() as gone:
        await gone.stop()
        text = f"backends: [{{name: a, url: '{sim.url}'}}, {{name: b, url: '{gone.url}'}}]\nmiddleware: [logging]\n"
        app = App(load_text(text), LogLines())
        out = io.StringIO()
        announce(app, ["127.0.0.1:1", "unix:/run/x.sock"], out)
        await eventually(lambda: "page" in out.getvalue())
        lines = out.getvalue().splitlines()
        assert "listens on http://127.0.0.1:1, unix:/run/x.sock" in lines[0]
        assert lines[1] == f"  backend a at {sim.url}: Ollama 0.33.0, 1 models (llama3.2:latest)"
        assert "not reachable now" in lines[2]
        assert lines[3] == "  chain   logging → dispatch"
        assert lines[4] == "  page    http://127.0.0.1:1/-/"
        await app.pool.aclose()


async def test_it_says_where_the_page_is_if_anywhere() -> None:
    text = "backends: [{name: a, url: 'http://127.0.0.1:1'}]\nops: {listen: '127.0.0.1:0'}\n"
    app = App(load_text(text), LogLines())
    async with serve(app.frame, server_options(app.settings)) as server:
        assert app.ops_server is not None
        assert f"  page    http://{app.ops_server.addresses[0]}/-/" in await said(app, *server.addresses)
        app.ops_server = None
        assert "page" not in await said(app, "unix:/x")


async def said(app: App, *addresses: str) -> str:
    out = io.StringIO()
    announce(app, addresses, out)
    await eventually(lambda: "chain" in out.getvalue())
    return out.getvalue()
