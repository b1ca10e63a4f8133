"""proxy/commands/reload.py."""

from pathlib import Path

from config.load import load
from proxy.reload import Reloader
from proxy.simulator import Ollama
from tests.proxy.commands.test_status import invoke
from tests.support.proxy import running


async def test_a_file_is_put_in_force_or_refused(tmp_path: Path) -> None:
    file = tmp_path / "proxy.yaml"
    async with Ollama() as sim, running(sim.url) as proxy:
        result = await invoke(proxy, "reload")
        assert (result.exit_code, "without a policy file" in result.stderr) == (1, True)
        proxy.app.reloader = Reloader(proxy.app, lambda: load(file), file)
        file.write_text(f"backends: [{{name: b1, url: '{sim.url}'}}]\nmiddleware: [logging]\nlisten: 127.0.0.1:1\n")
        result = await invoke(proxy, "reload")
        assert result.stdout == "policy file 2 is in force\nonly after a restart: listen\n"
        file.write_text("backends: []\n")
        result = await invoke(proxy, "reload")
        assert result.exit_code == 1
        assert "refused; policy file 2 is still in force" in result.stderr
        assert "proxy.yaml:1:11" in result.stderr
