"""Prometheus' own judge of metrics, rules and queries."""

import shutil
import subprocess
from pathlib import Path

FOUND = shutil.which("promtool") is not None


def promtool(*arguments: str, stdin: bytes = b"", folder: Path | None = None) -> str:
    """Run it and return what it prints; fails the test with that where it is not content."""
    done = subprocess.run(["promtool", *arguments], input=stdin, capture_output=True, cwd=folder, check=False)
    said = (done.stdout + done.stderr).decode()
    assert done.returncode == 0, said
    return said
