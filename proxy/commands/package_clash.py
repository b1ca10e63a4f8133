"""Whether the import packages at our root are ours alone.

`proxy`, `middleware` and `config` are names that others like too. Where a distribution in the same environment brings
one of them along, its files and ours lie in one folder, and no import tells which of them was read.
"""

from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import packages_distributions
from typing import Final

DISTRIBUTION: Final = "ollama-proxy"
PACKAGES: Final = ("proxy", "middleware", "config")


def intruders(owners: Mapping[str, Sequence[str]] | None = None) -> Iterator[str]:
    """Yield a sentence for each distribution that installs a package of ours too, and what to do about it.

    Args:
        owners: import package → distributions; those of this environment where left out.
    """
    found = packages_distributions() if owners is None else owners
    for package in PACKAGES:
        for distribution in sorted({*found.get(package, ())} - {DISTRIBUTION}):
            yield (
                f"{distribution} installs a package called {package!r} as well, so that files of both are mixed; "
                f"install {DISTRIBUTION} into a virtual environment of its own"
            )
