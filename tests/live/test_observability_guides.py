"""The examples of the guides to logs, metrics and traces are policy files that hold."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from proxy.app import check
from proxy.telemetry.metric_table import METERS, MODELS, PROCESS, SETS, SPREAD, TENANTS
from tests.support.policy import load_text

GUIDES = Path(__file__).parents[2] / "docs/guides"
BLOCKS = [
    (name, number, text)
    for name in ("logs.md", "metrics.md", "tracing.md", "operations.md")
    for number, text in enumerate(re.findall(r"```yaml\n(.*?)```", (GUIDES / name).read_text(), re.DOTALL))
]


def policy_file(text: str, folder: Path) -> str | None:
    """Return the whole file that an example is a part of; None for what is no part of one."""
    if "scrape_configs" in text:
        return None
    document: Any = yaml.safe_load(text)
    if isinstance(document, list):
        document = {"middleware": document}
    (folder / "keys.yaml").write_text("keys: []\n")
    return yaml.safe_dump({"backends": [{"name": "b1", "url": "http://127.0.0.1:1"}]} | document, sort_keys=False)


@pytest.mark.parametrize(("name", "number", "text"), BLOCKS, ids=[f"{name} {number}" for name, number, _ in BLOCKS])
def test_examples_are_policy_files(name: str, number: int, text: str, tmp_path: Path) -> None:
    whole = policy_file(text, tmp_path)
    if whole is not None:
        check(load_text(whole, env={"OTLP_TOKEN": "x"}, folder=tmp_path))


def test_the_examples_were_found() -> None:
    assert len(BLOCKS) >= 7


def test_metrics_and_numbers_in_the_guides_are_those_of_the_code() -> None:
    known = {meter.name for meter in (*METERS, *PROCESS)}
    for name in ("logs.md", "metrics.md", "tracing.md"):
        named = set(re.findall(r"`((?:ollama_proxy|gen_ai|process)_[a-z_]+)`", (GUIDES / name).read_text()))
        assert named - {"gen_ai_"} <= known
    guide = (GUIDES / "metrics.md").read_text()
    for number in (MODELS, TENANTS, SETS, SPREAD):
        assert re.search(rf"\b{number}\b", guide)
