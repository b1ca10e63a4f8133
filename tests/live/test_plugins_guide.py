"""docs/guides/plugins.md: its plugin is found and refuses as it says, its tests run."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import proxy.testing
from config.problems import Invalid
from middleware.auth.key_file_editor import add_key
from middleware.auth.keys import new_key
from proxy.app import check
from proxy.kernel.services import SERVICES
from proxy.simulator import Ollama
from tests.support.policy import load_text
from tests.support.proxy import running
from tests.support.wire import ask

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs/guides/plugins.md").read_text("utf-8")
EXAMPLES = re.findall(r"^```(\w+)\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL)
BACKEND = "backends: [{name: b1, url: 'http://127.0.0.1:1'}]\n"


def examples(language: str) -> list[str]:
    return [text for found, text in EXAMPLES if found == language]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return the folder of a policy file, with the guide's plugin and its tests in the files that it says."""
    for source in examples("python"):
        name = re.match(r"# ([\w/]+\.py)", source)
        assert name is not None, "an example does not say in which file it stands"
        (tmp_path / name[1]).parent.mkdir(exist_ok=True)
        (tmp_path / name[1]).write_text(source)
    return tmp_path


@pytest.mark.parametrize("text", examples("yaml"))
def test_examples_are_policy_files(text: str, folder: Path) -> None:
    check(load_text(BACKEND + text, folder=folder))


def test_its_option_is_checked_with_a_suggestion(folder: Path) -> None:
    (text,) = [text for text in examples("yaml") if "OneTeam" in text]
    with pytest.raises(Invalid, match=r"did you mean 'team'\?"):
        check(load_text(BACKEND + text.replace("team: physics", "taem: physics"), folder=folder))


def test_its_tests_run(folder: Path) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-o", "asyncio_mode=auto"]
    done = subprocess.run(
        [*command, "--rootdir", str(folder), str(folder)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{folder}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 passed" in done.stdout


async def test_it_lets_one_team_in(folder: Path) -> None:
    made = {}
    for name, tenant in (("ann", "physics"), ("bob", "chemistry")):
        made[name], entry = new_key(name, now=0, tenant=tenant)
        add_key(folder / "keys.yaml", entry)
    chain = [{"auth": {"keys": "keys.yaml"}}, {"use": "acme.team:OneTeam", "team": "physics"}]
    async with Ollama() as sim, running(sim.url, middleware=chain, folder=folder) as server:
        statuses = [
            (await ask(server.address, "GET", "/api/version", headers={"Authorization": f"Bearer {key}"})).status
            for key in made.values()
        ]
    assert statuses == [200, 403]


def test_every_service_is_named() -> None:
    table = GUIDE.partition("## Services")[2].partition("##")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == {service.__name__ for service in SERVICES}


def test_what_it_says_of_the_kit_is_in_the_kit() -> None:
    table = GUIDE.partition("## Testing it")[2].partition("## ")[0]
    named = set(re.findall(r"^\| `(\w+)", table, re.MULTILINE)) | set(re.findall(r"→ `(\w+)` \|", table))
    assert named <= set(proxy.testing.__all__)
    assert set(proxy.testing.__all__) - named == {"LogLines", "Model"}
