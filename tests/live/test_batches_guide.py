"""The guide about background mode and batches says what is so, and its programs work."""

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest

from proxy.app import check
from proxy.background.responses_api import QUIET
from proxy.batches.batches_api import ENDPOINTS
from proxy.batches.input_lines import MOST_PROBLEMS
from proxy.batches.keeper import EVERY
from proxy.batches.owned import MOST_LISTED
from proxy.kernel import error_codes as codes
from proxy.kernel.batch_terms import BatchOptions
from tests.live.test_sdk_batches import jsonl, line
from tests.support.policy import load_text
from tests.support.sdk_place import placed

GUIDE = (Path(__file__).parents[2] / "docs" / "guides" / "batches.md").read_text()
FLAT = " ".join(GUIDE.split())
POLICIES = re.findall(r"^```yaml\n(.*?)^```$", GUIDE, re.M | re.S)
PROGRAMS = re.findall(r"^```python\n(.*?)^```$", GUIDE, re.M | re.S)


@pytest.mark.parametrize("text", POLICIES)
def test_every_policy_file_in_it_is_right(text: str, tmp_path: Path) -> None:
    (tmp_path / "keys.yaml").write_text("keys: []\n")
    check(load_text(f'backends: [{{name: gpu-1, url: "http://127.0.0.1:11434"}}]\n{text}', folder=tmp_path))


def test_every_option_is_in_it_with_the_default() -> None:
    assert set(re.findall(r"^\| `(\w+)` \|", GUIDE, re.M)) == set(BatchOptions.model_fields)
    said = load_text(f'backends: [{{name: gpu-1, url: "http://127.0.0.1:11434"}}]\n{POLICIES[0]}')
    assert said is not None
    assert "{batches: {lines: 10000, size: 64MiB, open: 10, window: 24h, keep: 7d}}" in GUIDE
    defaults = BatchOptions()
    assert (defaults.lines, defaults.size, defaults.open) == (10_000, 64 * 2**20, 10)
    assert (defaults.window, defaults.keep) == (86_400.0, 7 * 86_400.0)


def test_the_codes_and_numbers_in_it_are_those_of_the_code() -> None:
    for code in re.findall(r"\b\d{3} `(\w+)`", FLAT):
        assert code in codes.TABLE
    for endpoint in ENDPOINTS:
        assert f"`{endpoint}`" in FLAT
    assert f"a comment every {QUIET:g} seconds" in FLAT
    assert f"with its line, {'a hundred' if MOST_PROBLEMS == 100 else '?'} at most" in FLAT
    assert f"of all that are kept, {MOST_LISTED}" in FLAT
    assert f"every {'two' if EVERY == 2.0 else '?'} seconds" in FLAT


@pytest.mark.parametrize("program", PROGRAMS, ids=["background", "batch", "messages"])
async def test_every_program_in_it_works(
    program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "requests.jsonl").write_bytes(jsonl(line("q1")))
    monkeypatch.chdir(tmp_path)
    async with placed(tmp_path) as place:
        text = program.replace("http://127.0.0.1:11435", place.proxy.url).replace("op_...", place.keys["alice"])
        text = re.sub(r"time\.sleep\(\d\)", "time.sleep(0)", text)
        text = text.replace('open("requests.jsonl", "rb")', '__import__("pathlib").Path("requests.jsonl")')
        names: dict[str, Any] = {}

        def run() -> None:
            exec(text, names)
            names["client"].close()

        await asyncio.to_thread(run)
    assert capsys.readouterr().out.strip()
