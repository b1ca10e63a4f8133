"""The guide about queueing says what is so."""

import re
from pathlib import Path

import pytest

from config.backends import Pool
from proxy.app import check
from proxy.kernel.units import format_duration
from proxy.pool import busy_runners, parallel_runs
from proxy.queue import scheduler
from proxy.queue.fair_queue import PATIENCE
from tests.support.policy import load_text

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "guides" / "queueing.md").read_text()
EXAMPLES = re.findall(r"^```yaml\n(.*?)^```$", GUIDE, re.M | re.S)
REST = """
middleware: [{use: "tests.support.tenants:Believe"}, queue]
"""


@pytest.mark.parametrize("text", EXAMPLES)
def test_every_policy_file_in_it_is_right(text: str, tmp_path: Path) -> None:
    (tmp_path / "keys.yaml").write_text("keys: []\n")
    if "backends:" not in text:
        text = f'backends: [{{name: gpu-1, url: "http://127.0.0.1:11434"}}]{REST}{text}'
    check(load_text(text, folder=tmp_path))


def test_every_refusal_is_in_it() -> None:
    source = Path(scheduler.__file__).read_text()
    found = re.findall(r"_refused\(\s*(\d+), .*?codes\.(\w+)", source)
    raised = {(status, code.lower()) for status, code in found}
    assert raised == set(re.findall(r"^\| (\d+) \| `(\w+)` \|", GUIDE, re.M))
    assert len(raised) == 5


def test_how_many_pass_a_lower_priority() -> None:
    assert PATIENCE == 10
    assert "when ten requests have passed a lower priority, the eleventh" in GUIDE


def test_how_it_is_learned_how_many_run_and_when_a_runner_is_free() -> None:
    text = " ".join(GUIDE.split())
    assert (parallel_runs.ENOUGH, parallel_runs.LONGEST, busy_runners.LATE) == (6, 32, 2)
    assert "If six requests in a row waited" in text
    assert "lowered after twelve" in text
    assert f"after 2, 4, 8 … {parallel_runs.LONGEST} answers" in text
    assert "at more than twice the usual time" in text
    options = Pool()
    assert format_duration(options.grace) == "500ms"
    assert "at least for `pool.grace` (half a second)" in text
    assert f"at most for `pool.grace_at_most` ({options.grace_at_most:.0f} s)" in text
