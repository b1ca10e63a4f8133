"""Every target over what is kept, and over mutations of it."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.corpora import FOLDER, kept, mutations
from tests.fuzz.targets import NAMES, target

MOST_BYTES = 300_000
"""Of all that is kept: the repository is not the place for more."""


def test_each_target_is_in_the_table_and_has_inputs() -> None:
    files = {path.stem for path in (Path(__file__).parent / "targets").glob("*.py")} - {"__init__"}
    assert files == set(NAMES) == {path.name for path in FOLDER.iterdir()}


def test_what_is_kept_stays_small() -> None:
    assert sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file()) < MOST_BYTES


@pytest.mark.parametrize(("name", "file"), [(name, file) for name in NAMES for file in kept(name)])
def test_what_is_kept_holds(name: str, file: str) -> None:
    target(name).check((FOLDER / name / file).read_bytes())


@pytest.mark.parametrize("name", NAMES)
def test_mutations_hold(name: str) -> None:
    tried = target(name)

    @settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
    @given(mutations(list(kept(name).values()), tried.TOKENS))
    def holds(data: bytes) -> None:
        tried.check(data)

    holds()


@given(st.binary(max_size=300))
@settings(max_examples=20)
def test_any_bytes_hold_for_every_target(data: bytes) -> None:
    for name in NAMES:
        target(name).check(data)


def test_the_oracles_import_nothing_of_ours() -> None:
    """Nor do they import the simulator, which has a model of its own."""
    for path in (Path(__file__).parent / "oracles").glob("*.py"):
        text = path.read_text()
        assert not [line for line in text.splitlines() if line.startswith(("from proxy", "import proxy", "from mid"))]
