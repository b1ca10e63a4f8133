"""The models and blobs that a simulated Ollama has on its disk."""

import hashlib
import re
from dataclasses import replace
from datetime import UTC, datetime

from proxy.simulator import model_names
from proxy.simulator.settings import Model

_DIGEST = re.compile(r"sha256[:-][0-9a-fA-F]{64}")


class Disk:
    """Models by their canonical key, and the digests of blobs with their sizes; `foreign` blobs are no GGUF."""

    def __init__(self, models: tuple[str | Model, ...]) -> None:
        self.models: dict[str, Model] = {}
        self.blobs: dict[str, int] = {}
        self.foreign: set[str] = set()
        for model in models:
            self.add(model if isinstance(model, Model) else Model.of(model))

    def add(self, model: Model) -> None:
        """Put `model` into the store under its short name, in the place of one of the same name; it becomes a blob."""
        name = model_names.parse_stored(model.name)
        self.models[name.key] = replace(model, name=name.short)
        self.blobs[f"sha256:{model.digest}"] = model.size

    def get(self, key: str) -> Model | None:
        """Return the model under its canonical key."""
        return self.models.get(key)

    def __contains__(self, name: str) -> bool:
        return model_names.parse_stored(name).key in self.models

    def copy(self, source: str, destination: model_names.Name) -> bool:
        """Copy the model with the key `source`; False if there is none."""
        if (model := self.models.get(source)) is None:
            return False
        self.models[destination.key] = replace(model, name=destination.short, modified_at=datetime.now(UTC))
        return True

    def remove(self, key: str) -> bool:
        """Delete a model; False if there is none."""
        return self.models.pop(key, None) is not None

    def listed(self) -> list[Model]:
        """Return the models, the most recently modified first."""
        return sorted(self.models.values(), key=lambda model: int(model.modified_at.timestamp()), reverse=True)


def digest_of(raw: str) -> str | None:
    """Return a blob's digest as ``sha256:<hex>``, or None if `raw` is not one."""
    return raw.replace("-", ":", 1) if _DIGEST.fullmatch(raw) else None


def layers(name: str, count: int, size: int) -> list[tuple[str, int]]:
    """Return (digest, bytes) of the layers of a model in the registry, the first being the weights."""
    digests = [f"sha256:{hashlib.sha256(f'{name}#{n}'.encode()).hexdigest()}" for n in range(count)]
    return [(digest, size if n == 0 else 1_000 + n) for n, digest in enumerate(digests)]
