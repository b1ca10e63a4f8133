"""Policy files as text, without a file."""

from collections.abc import Mapping
from pathlib import Path

from config.load import Loaded, load_bytes


def load_text(
    text: str, *, file: str = "proxy.yaml", folder: Path | None = None, env: Mapping[str, str] | None = None
) -> Loaded:
    """Read a policy file's text, as if it stood in `folder` (the working directory)."""
    return load_bytes(text.encode(), file=file, folder=folder or Path.cwd(), env=env)
