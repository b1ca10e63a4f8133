"""The selection strategies by name: what `pool.prefer` in the policy file may list.

``proxy/pool/selection.py`` has a function for each name, and a test holds the two tables together. To add a strategy,
add a row here and a function there; the policy file, its schema and its reference follow from this table.
"""

from collections.abc import Mapping
from typing import Final

STRATEGIES: Final[Mapping[str, str]] = {
    "resident": "The backend has the model in its memory, or is loading it.",
    "affinity": "The backend answered this conversation before, so the prompt is in its cache.",
    "least_busy": "The backend has the lowest load for its weight, multiplied by how slow its first byte is.",
}
"""What each strategy prefers, by its name in the policy file."""

DEFAULT_ORDER: Final = ("resident", "affinity", "least_busy")
"""The strategies that decide where the policy file names none, the most important first."""
