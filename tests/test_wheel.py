"""The wheel: what an installation has is what the checkout has, and nothing else."""

import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("proxy", "middleware", "config")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder), cwd=ROOT)
    (wheel,) = folder.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def names(wheel: Path) -> set[str]:
    with ZipFile(wheel) as archive:
        return set(archive.namelist())


def run(*command: str, cwd: Path) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_every_file_of_the_packages_is_in_it(names: set[str]) -> None:
    """Scripts for Redis, the page, the schema, type markers; and the shipped policy file, for `demo`."""
    ours = {path.relative_to(ROOT) for package in PACKAGES for path in (ROOT / package).rglob("*") if path.is_file()}
    expected = {str(path) for path in ours if "__pycache__" not in path.parts}
    assert {"config/schema.json", "proxy/stores/scripts/admit.lua", "proxy/py.typed"} <= expected
    assert {*expected, "config/proxy.yaml"} <= names


def test_nothing_else_is_in_it(names: set[str]) -> None:
    top = {name.split("/")[0] for name in names}
    assert {name for name in top if not name.endswith(".dist-info")} == set(PACKAGES)
    assert not [name for name in names if {"tests", "bench"} & {*name.split("/")} or "/test_" in name]


def test_the_command_is_installed(names: set[str]) -> None:
    assert any(name.endswith(".dist-info/entry_points.txt") for name in names)


def test_a_plugin_is_tested_as_the_guide_says_where_only_the_wheel_is_installed(wheel: Path, tmp_path: Path) -> None:
    """Of this checkout's environment the new one sees what the proxy depends on, and not the proxy."""
    run(sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "venv"), cwd=tmp_path)
    python = str(tmp_path / "venv" / "bin" / "python")
    install = ("install", "--quiet", "--disable-pip-version-check", "--no-index", "--no-deps", str(wheel))
    run(sys.executable, "-m", "pip", "--python", python, *install, cwd=tmp_path)
    packages = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=tmp_path).strip())
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    for module in ("proxy.testing", "proxy.app", "config.load"):
        found = run(python, "-c", f"import {module} as found; print(found.__file__)", cwd=tmp_path)
        assert Path(found).is_relative_to(packages)
    project = tmp_path / "project"
    guide = (ROOT / "docs" / "guides" / "plugins.md").read_text("utf-8")
    for name, source in re.findall(r"^```python\n# ([\w/]+\.py)\b(.*?)^```", guide, re.MULTILINE | re.DOTALL):
        file = project / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"#{source}")
    command = (python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-o", "asyncio_mode=auto")
    assert "4 passed" in run(*command, "--rootdir", str(project), str(project), cwd=project)
