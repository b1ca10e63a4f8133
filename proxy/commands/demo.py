"""``ollama-proxy demo``: two simulated Ollama hosts, the proxy in front with the shipped policy file, lines to try.

All of the output can be pasted into a shell as it is.
"""

import asyncio
import signal
import sys
import tempfile
import time
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from shlex import quote
from typing import Final

from config.load import load
from config.settings import Log
from config.tree import Data
from middleware.auth.key_file_editor import add_key
from middleware.auth.keys import new_key
from proxy.app import App
from proxy.commands.announce import announce
from proxy.server.server import new_event_loop, serve
from proxy.simulator import Ollama
from proxy.telemetry.log_setup import configure
from proxy.telemetry.log_writer import Writer
from proxy.wiring import server_options

_HEAD: Final = """
# Two simulated Ollama hosts run at {hosts}, the proxy in front of them at {proxy}.
# It works by {config}, with a key made for this run. To try, paste into another terminal:

curl -s {curl}/api/chat -H "Authorization: Bearer {key}" \\
  -d '{{"model": "llama3.2", "messages": [{{"role": "user", "content": "Why is the sky blue?"}}]}}'
"""
_PAGE: Final = """
# To watch, open {proxy}/-/ and sign in with {watcher}
"""
_CLIENTS: Final = {
    "ollama": """
{python} - <<'END'
import ollama
client = ollama.Client("{proxy}", headers={{"Authorization": "Bearer {key}"}})
for part in client.generate("llama3.2", "Why is the sky blue?", stream=True):
    print(part.response, end="", flush=True)
END
""",
    "openai": """
{python} - <<'END'
import openai
client = openai.OpenAI(base_url="{proxy}/v1", api_key="{key}")
question = [{{"role": "user", "content": "Why is the sky blue?"}}]
for part in client.chat.completions.create(model="llama3.2", messages=question, stream=True):
    print(part.choices[0].delta.content or "", end="", flush=True)
END
""",
    "anthropic": """
{python} - <<'END'
import anthropic
client = anthropic.Anthropic(base_url="{proxy}", api_key="{key}")
question = [{{"role": "user", "content": "Why is the sky blue?"}}]
with client.messages.stream(model="llama3.2", max_tokens=64, messages=question) as stream:
    for text in stream.text_stream:
        print(text, end="", flush=True)
END
""",
}
"""Example programs, each by the package that it needs."""
_TAIL: Final = """
# The log follows, one JSON line per request. Ctrl-C ends everything.
"""


def shipped_config() -> Path:
    """Return the policy file that comes with the project: that of the checkout, or the copy in the wheel."""
    root = Path(str(files("config"))).parent / "proxy.yaml"
    return root if root.exists() else Path(str(files("config") / "proxy.yaml"))


def run_demo(listen: str) -> None:
    """Run the demonstration until SIGTERM or SIGINT; raises Invalid and ServerError, as `serve` does."""
    with (
        tempfile.TemporaryDirectory(prefix="ollama-proxy-demo-") as folder,
        asyncio.Runner(loop_factory=new_event_loop) as runner,
    ):
        runner.run(_run(listen, Path(folder)))


async def _run(listen: str, folder: Path) -> None:
    config = shipped_config()
    copy = folder / config.name
    copy.write_bytes(config.read_bytes())
    keys = []
    for name, policy in (("demo", None), ("watcher", "operators")):
        key, entry = new_key(name, now=time.time(), policy=policy)
        add_key(folder / "keys.yaml", entry)
        keys.append(key)
    sink = Writer()
    configure(sink, format=Log().format, level=Log().level)
    async with Ollama(token_delay=0.05, load_delay=0.3) as one, Ollama(token_delay=0.05, load_delay=0.3) as two:
        hosts = [one.url, two.url]
        backends: list[Data] = [{"name": f"gpu-{number}", "url": url} for number, url in enumerate(hosts, 1)]
        app = App(load(copy, changes={"backends": backends, "listen": [listen]}), sink)
        stop = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        try:
            async with serve(app.frame, server_options(app.settings)) as server:
                app.server = server
                _say(hosts, server.addresses[0], config, *keys)
                announce(app, server.addresses)
                await stop.wait()
        finally:
            sink.close()


def _say(hosts: list[str], address: str, config: Path, key: str, watcher: str) -> None:
    curl = proxy = f"http://{address}"
    parts = [_PAGE, *(lines for package, lines in _CLIENTS.items() if find_spec(package) is not None)]
    if address.startswith("unix:"):  # neither browsers nor the client libraries can connect to it
        curl, proxy = f"--unix-socket {quote(address.removeprefix('unix:'))} http://localhost", address
        parts = []
    text = "".join([_HEAD, *parts, _TAIL])
    values = {
        "hosts": " and ".join(hosts),
        "proxy": proxy,
        "curl": curl,
        "config": config.name,
        "key": key,
        "watcher": watcher,
        "python": sys.executable,
    }
    print(text.format_map(values), file=sys.stderr, flush=True)
