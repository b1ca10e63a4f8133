"""The wheel: what an installation has is what the checkout has, and nothing else."""

import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("proxy", "middleware", "config")


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (wheel,) = folder.glob("*.whl")
    with ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_every_file_of_the_packages_is_in_it(names: set[str]) -> None:
    """Scripts for Redis, the page, the schema, type markers; and the shipped policy file, for `demo`."""
    ours = {path.relative_to(ROOT) for package in PACKAGES for path in (ROOT / package).rglob("*") if path.is_file()}
    expected = {str(path) for path in ours if "__pycache__" not in path.parts}
    assert {"config/schema.json", "proxy/stores/scripts/admit.lua", "proxy/py.typed"} <= expected
    assert {*expected, "config/proxy.yaml"} <= names


def test_nothing_else_is_in_it(names: set[str]) -> None:
    top = {name.split("/")[0] for name in names}
    assert {name for name in top if not name.endswith(".dist-info")} == set(PACKAGES)
    assert not [name for name in names if "test" in name]


def test_the_command_is_installed(names: set[str]) -> None:
    assert any(name.endswith(".dist-info/entry_points.txt") for name in names)
