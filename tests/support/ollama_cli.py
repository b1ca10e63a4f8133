"""What the Ollama CLI does with ``OLLAMA_AUTH=1``, with a key that ssh-keygen made."""

import shutil
import subprocess
from base64 import b64encode
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_ssh_private_key

SSH_KEYGEN: Final = shutil.which("ssh-keygen")


class OllamaKey:
    """One key pair in `folder`, of the kind that the CLI has in ``~/.ollama``."""

    def __init__(self, folder: Path, comment: str = "") -> None:
        assert SSH_KEYGEN is not None
        file = folder / f"id_{len(list(folder.iterdir()))}"
        subprocess.run([SSH_KEYGEN, "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", file], check=True)
        private = load_ssh_private_key(file.read_bytes(), None)
        assert isinstance(private, Ed25519PrivateKey)
        self.private = private
        self.line = file.with_suffix(".pub").read_text().strip()

    @property
    def blob(self) -> str:
        """The public key as the CLI sends it."""
        return self.line.split(" ")[1]

    def authorization(self, method: str, path: str, stamp: float) -> str:
        """The header's value for a request to `path?ts=stamp`."""
        return self.sign(f"{method},{path}?ts={int(stamp)}")

    def sign(self, text: str) -> str:
        return f"{self.blob}:{b64encode(self.private.sign(text.encode())).decode()}"
