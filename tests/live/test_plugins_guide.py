"""docs/guides/plugins.md: its plugin loads, is checked and refuses as it says, and it names every service."""

import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from config.load import load_text
from config.problems import Invalid
from middleware.auth.key_file import add_key
from middleware.auth.keys import new_key
from proxy.app import check
from proxy.kernel.services import SERVICES
from proxy.simulator import Ollama
from proxy.testing import call, make_exchange, ok
from tests.support.proxy import running
from tests.support.wire import ask

GUIDE = (Path(__file__).parents[2] / "docs/guides/plugins.md").read_text("utf-8")
EXAMPLES = re.findall(r"^```(\w+)\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL)
BACKEND = "backends: [{name: b1, url: 'http://127.0.0.1:1'}]\n"


def examples(language: str) -> list[str]:
    return [text for found, text in EXAMPLES if found == language]


@pytest.fixture
def one_team(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The guide's plugin, in a module of the name that it says."""
    module = ModuleType("acme.team")
    monkeypatch.setitem(sys.modules, "acme", ModuleType("acme"))
    monkeypatch.setitem(sys.modules, "acme.team", module)
    (source,) = [text for text in examples("python") if "class OneTeam" in text]
    exec(compile(source, "acme/team.py", "exec"), module.__dict__)
    module.OneTeam.__module__ = "acme.team"
    return module.OneTeam


@pytest.mark.usefixtures("one_team")
@pytest.mark.parametrize("text", examples("yaml"))
def test_examples_are_policy_files(text: str, tmp_path: Path) -> None:
    check(load_text(BACKEND + text, folder=tmp_path))


@pytest.mark.usefixtures("one_team")
def test_its_option_is_checked_with_a_suggestion(tmp_path: Path) -> None:
    (text,) = [text for text in examples("yaml") if "OneTeam" in text]
    with pytest.raises(Invalid, match=r"did you mean 'team'\?"):
        check(load_text(BACKEND + text.replace("team: physics", "taem: physics"), folder=tmp_path))


async def test_its_test_holds(one_team: Any) -> None:
    (source,) = [text for text in examples("python") if "async def test_" in text]
    names: dict[str, Any] = {"OneTeam": one_team, "make_exchange": make_exchange, "call": call, "ok": ok}
    exec(compile(source, "test_team.py", "exec"), names)
    await names["test_others_are_refused"]()


async def test_it_lets_one_team_in(one_team: Any, tmp_path: Path) -> None:
    made = {}
    for name, tenant in (("ann", "physics"), ("bob", "chemistry")):
        made[name], entry = new_key(name, now=0, tenant=tenant)
        add_key(tmp_path / "keys.yaml", entry)
    chain = [{"auth": {"keys": "keys.yaml"}}, {"use": "acme.team:OneTeam", "team": "physics"}]
    async with Ollama() as sim, running(sim.url, middleware=chain, folder=tmp_path) as proxy:
        statuses = [
            (await ask(proxy.address, "GET", "/api/version", headers={"Authorization": f"Bearer {key}"})).status
            for key in made.values()
        ]
    assert statuses == [200, 403]


def test_every_service_is_named() -> None:
    table = GUIDE.partition("## Services")[2].partition("##")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == {service.__name__ for service in SERVICES}
