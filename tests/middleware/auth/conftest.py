from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Need
from tests.support.ollama_cli import SSH_KEYGEN, OllamaKey


@pytest.fixture
def ollama_key(tmp_path: Path, need: Need) -> Callable[..., OllamaKey]:
    """Make a key pair with ssh-keygen: ``ollama_key("alice@laptop")``."""
    need("ssh-keygen", SSH_KEYGEN is not None)
    folder = tmp_path / "ssh"
    folder.mkdir()
    return lambda comment="": OllamaKey(folder, comment)
