"""What the large client programs send, sent again: the policy file that ships has an answer for each request.

``scripts/clients --record NAME`` recorded tests/live/clients/recorded: the program's own requests for one question, the
key replaced, long texts cut short. Those of Open WebUI are from its server: a chat with all that its pages ask for
behind it, an embedding, a pull.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from middleware.auth.key_file_editor import add_key
from middleware.auth.keys import new_key
from proxy.simulator import Ollama
from proxy.testing import temporary_proxy
from tests.support.client_actions import SHIPPED
from tests.support.client_programs import FOLDER, PAGES
from tests.support.wire import ask

RECORDED = sorted((FOLDER / "recorded").glob("*.jsonl"))
MANAGING = {"/api/pull"}
"""What only an operator may ask for."""


def requests() -> list[Any]:
    found = []
    for path in RECORDED:
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
            sent = json.loads(line)
            found.append(pytest.param(sent, id=f"{path.stem}-{number}-{sent['target']}"))
    return found


@pytest.mark.parametrize("sent", requests())
async def test_a_recorded_request_is_answered(sent: dict[str, Any], tmp_path: Path) -> None:
    path = sent["target"].partition("?")[0]
    key, entry = new_key("alice", now=0.0, policy="operators" if path in MANAGING else None)
    add_key(tmp_path / "keys.yaml", entry)
    async with Ollama(tokens=5, max_tokens=5) as sim:
        text = SHIPPED.replace("http://127.0.0.1:11434", sim.url)
        async with temporary_proxy(text, folder=tmp_path, probes=False) as proxy:
            headers = {name: value.replace("KEY", key) for name, value in sent["headers"]}
            body = None if sent["body"] is None else json.dumps(sent["body"]).encode()
            answer = await ask(proxy.address, sent["method"], sent["target"], body, headers)
            assert (answer.status, answer.clean) == (200, True), answer.body
            assert sim.seen(path), "the host never saw it"
            line = await proxy.log.request()
            assert line["outcome"] == "completed"
            assert line["identity"] == "alice" or path == "/"


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.stem)
def test_what_was_recorded_has_its_page_and_no_secret(path: Path) -> None:
    assert (PAGES / f"{path.stem}.md").exists()
    text = path.read_text("utf-8")
    assert "op_" not in text
    assert all(len(line) < 200_000 for line in text.splitlines())
