"""The policy files of the soak are right, and differ."""

from pathlib import Path

from bench.soak.policy import CALLERS, OPERATOR, write_keys, write_policy
from config.load import load
from proxy.app import check


def test_both_files_are_taken_and_differ(tmp_path: Path) -> None:
    assert set(write_keys(tmp_path)) == {*CALLERS, OPERATOR}
    texts = []
    for turn in range(2):
        path = write_policy(tmp_path, 1024, 1025, [1026, 1027], turn)
        check(load(path))
        texts.append(path.read_text())
    assert texts[0] != texts[1]
    assert write_policy(tmp_path, 1024, 1025, [1026, 1027], 2).read_text() == texts[0]
