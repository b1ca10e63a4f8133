"""proxy/ops/explaining.py."""

from pathlib import Path
from typing import Any

import pytest

from middleware.auth.key_file_editor import add_key
from middleware.auth.keys import new_key
from proxy.app import App
from proxy.kernel.errors import Refused
from proxy.ops.document_types import Account
from proxy.ops.explaining import Supposed, account, read_supposed
from proxy.testing import LogLines
from tests.support.plugins import Tag
from tests.support.policy import load_text

TEXT = f"""
backends:
  - {{name: gpu-1, url: "http://127.0.0.1:1"}}
  - {{name: gpu-2, url: "http://127.0.0.1:2"}}
middleware:
  - logging
  - auth: {{keys: keys.yaml, anonymous: guests}}
  - access
  - rate_limit: {{requests: 60/minute, tokens: 1000/day}}
  - use: {Tag.__module__}:Tag
    name: tag
  - retry
policies:
  guests: {{access: {{models: ["llama3.2"]}}}}
  operators: {{access: {{routes: [read, inference, manage, ops]}}, rate_limit: off}}
"""


@pytest.fixture
def app(tmp_path: Path) -> App:
    for name, policy in (("alice", None), ("op", "operators")):
        add_key(tmp_path / "keys.yaml", new_key(name, now=0, policy=policy)[1])
    return App(load_text(TEXT, folder=tmp_path), LogLines())


async def explained(app: App, **supposed: Any) -> Account:
    asked = Supposed(**{"method": "POST", "path": "/api/chat", "model": "llama3.2", **supposed})
    return await account(app.chain, app.frame.current.routes, asked, app.bodies)


def verdicts(found: Account) -> dict[str, str]:
    return {step.name: step.verdict for step in found.steps}


async def test_every_plugin_is_asked_in_order_and_nothing_is_counted(app: App) -> None:
    for _ in range(3):
        found = await explained(app, caller="alice")
    assert (found.route, found.kind, found.model) == ("/api/chat", "inference", "llama3.2:latest")
    assert (found.identity, found.policy) == ("alice", None)
    assert list(verdicts(found)) == ["logging", "auth", "access", "rate_limit", "tag", "retry", "dispatch"]
    assert verdicts(found)["rate_limit"] == "pass"
    assert "0 of 60 requests per minute" in next(step.text for step in found.steps if step.name == "rate_limit")
    assert verdicts(found)["tag"] == "silent"
    assert found.backend in ("gpu-1", "gpu-2")
    assert not app.frame.live
    assert await app.board.in_use() == []


async def test_a_path_is_decoded_as_the_server_does(app: App) -> None:
    found = await explained(app, caller="op", path="/%61pi/pull?x=%2F")
    assert found.route == "/api/pull"


async def test_a_policy_changes_what_follows_auth(app: App) -> None:
    found = await explained(app, caller="op", path="/api/delete", method="DELETE")
    assert verdicts(found)["rate_limit"] == "off"
    assert verdicts(found)["access"] == "pass"
    assert found.steps[-1].text.startswith("there are several backends")
    assert verdicts(await explained(app, caller="alice", path="/api/delete", method="DELETE"))["access"] == "refuse"


async def test_one_that_is_refused_gets_no_further(app: App) -> None:
    found = await explained(app, model="phi4")
    assert (found.policy, list(verdicts(found))[-1]) == ("guests", "access")
    assert found.steps[-1].verdict == "refuse"
    assert found.backend is None


async def test_keys_and_names_that_are_none_are_refused(app: App) -> None:
    for caller in ("mallory", "op_nonesuch"):
        found = await explained(app, caller=caller)
        assert [(step.name, step.verdict) for step in found.steps][-1] == ("auth", "refuse")


async def test_what_has_no_route_is_refused_at_the_end(app: App) -> None:
    found = await explained(app, caller="alice", path="/nonesuch", model=None)
    assert (found.route, found.steps[-1].text) == (None, "404 page not found")
    assert (await explained(app, caller="alice", method="PUT")).steps[-1].verdict == "refuse"


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("/api/tags", "the proxy answers from what it knows of all backends"),
        ("/-/backends/gpu-2/api/tags", "it goes to gpu-2 (pinned)"),
        ("/-/backends/none/api/tags", "there is no backend of that name; there are gpu-1, gpu-2"),
        ("/-/status", "the proxy itself answers"),
    ],
)
async def test_who_answers(app: App, path: str, text: str) -> None:
    for backend in app.pool.backends:
        backend.seen_at, backend.models = 1.0, {}
    found = await explained(app, method="GET", path=path, caller="op", model=None)
    assert found.steps[-1].text == text


async def test_no_backend(app: App) -> None:
    for backend in app.pool.backends:
        backend.slots = 0
    assert (await explained(app, caller="alice")).steps[-1].verdict == "wait"


async def test_a_body_is_bounded_as_the_policy_file_says_and_takes_no_room(tmp_path: Path) -> None:
    add_key(tmp_path / "keys.yaml", new_key("alice", now=0, policy=None)[1])
    bounded = App(load_text(TEXT + "server: {body: {each: 1KiB, total: 4KiB}}\n", folder=tmp_path), LogLines())
    found = await explained(bounded, caller="alice", body=b'{"prompt":"%s"}' % (b"x" * 2000))
    assert found.steps[-1].verdict == "refuse"
    assert "larger than the 1024 bytes" in found.steps[-1].text
    assert bounded.bodies.held == 0


async def test_a_model_is_put_into_the_body_that_is_given(app: App) -> None:
    found = await explained(app, caller="alice", body=b'{"model":"x","options":{"num_predict":7}}')
    assert found.model == "llama3.2:latest"
    for body in (b"nonsense", b"[]"):
        with pytest.raises(Refused):
            await explained(app, body=body)


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"method": "GET"},
        {"method": "GET", "path": 7},
        {"method": "GET", "path": "/", "as": 7},
        {"method": "GET", "path": "/", "claims": []},
        {"method": "GET", "path": "/", "who": "me"},
    ],
)
def test_a_description_that_is_none_is_refused(document: dict[str, Any]) -> None:
    with pytest.raises(Refused) as refused:
        read_supposed(document)
    assert refused.value.status == 400


def test_a_description_is_read() -> None:
    found = read_supposed(
        {"method": "POST", "path": "/api/chat?x=1", "as": "a", "model": "m", "body": {"b": 1}, "claims": {"c": 1}}
    )
    assert (found.method, found.path, found.caller, found.model) == ("POST", "/api/chat?x=1", "a", "m")
    assert (found.body, found.claims, found.address) == (b'{"b":1}', {"c": 1}, "127.0.0.1")
    assert "caller" not in repr(found)
