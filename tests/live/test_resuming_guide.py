"""The guide about resuming: its client loops get every byte once, over connections that break."""

import asyncio
import re
import socket
import struct
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from random import Random

import pytest

from proxy.app import check
from proxy.simulator import Ollama
from tests.support.client_programs import NODE
from tests.support.policy import load_text
from tests.support.process import start_process
from tests.support.proxy import running

GUIDE = (Path(__file__).parents[2] / "docs" / "guides" / "resuming.md").read_text()
POLICIES = re.findall(r"^```yaml\n(.*?)^```$", GUIDE, re.M | re.S)
[PYTHON] = [code for code in re.findall(r"^```python\n(.*?)^```$", GUIDE, re.M | re.S) if "def stream(" in code]
[JAVASCRIPT] = re.findall(r"^```js\n(.*?)^```$", GUIDE, re.M | re.S)

BODY = '{"model": "llama3.2", "messages": [{"role": "user", "content": "hi"}], "stream": true}'
MAINS = {
    "python": f"""
import json, sys
with httpx.Client(base_url=sys.argv[1]) as client:
    for data in stream(client, "/api/chat", json.loads('{BODY}')):
        sys.stdout.buffer.write(data)
""",
    "js": f"""
for await (const data of stream(process.argv[2], "/api/chat", {BODY}, {{}})) process.stdout.write(data);
""",
}
LOOPS = {
    "python": (sys.executable, PYTHON.replace("time.sleep(0.5)", "time.sleep(0.005)") + MAINS["python"]),
    "js": (NODE, JAVASCRIPT.replace("setTimeout(wake, 500)", "setTimeout(wake, 5)") + MAINS["js"]),
}


@pytest.mark.parametrize("text", POLICIES)
def test_every_policy_file_in_it_is_right(text: str, tmp_path: Path) -> None:
    (tmp_path / "keys.yaml").write_text("keys: []\n")
    check(load_text(f'backends: [{{name: gpu-1, url: "http://127.0.0.1:11434"}}]\n{text}', folder=tmp_path))


class Mobile:
    """The network between a client and the proxy: it breaks each connection after some bytes of the answer.

    Attributes:
        url: where the client finds the proxy.
        broken: the connections that it broke.
    """

    def __init__(self, to: tuple[str, int], random: Random) -> None:
        self._to = to
        self._random = random
        self.url = ""
        self.broken = 0

    @asynccontextmanager
    async def up(self) -> AsyncIterator["Mobile"]:
        server = await asyncio.start_server(self._connect, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield self
        finally:
            server.close()
            await server.wait_closed()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        theirs, ours = await asyncio.open_connection(*self._to)
        asking = asyncio.create_task(_pipe(reader, ours))
        lasts = self._random.randint(1000, 3000)
        with suppress(ConnectionError):
            while data := await theirs.read(lasts):
                writer.write(data)
                await writer.drain()
                lasts -= len(data)
                if not lasts:
                    self.broken += 1
                    reset = struct.pack("ii", 1, 0)
                    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
                    break
        asking.cancel()
        ours.close()
        writer.close()


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()


@pytest.mark.parametrize("language", LOOPS)
async def test_its_loop_gets_each_byte_once(language: str, tmp_path: Path) -> None:
    interpreter, code = LOOPS[language]
    if interpreter is None:
        pytest.skip("there is no Node.js")
    file = tmp_path / "loop.mjs"
    file.write_text(code)
    async with Ollama(tokens=150, token_delay=0.002) as ollama:
        async with running(ollama.url, middleware=["logging", "resumable", "retry"]) as proxy:
            async with Mobile(proxy.address, Random(7)).up() as mobile:
                program = await start_process(interpreter, str(file), mobile.url, stdout=asyncio.subprocess.PIPE)
                printed, _ = await program.communicate()
            [asked] = [one for one in ollama.requests if one.path == "/api/chat"]
            assert printed == b"".join(asked.sent)
            assert (program.returncode, asked.state) == (0, "done")
            assert mobile.broken >= 5
