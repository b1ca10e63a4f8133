"""Check that no other distribution installs the import packages of this project.

Other projects may also use the names `proxy`, `middleware` and `config`. Where a distribution in the same environment
installs one of them, its files and ours are in one folder, and an import may read either.
"""

from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import packages_distributions
from typing import Final

DISTRIBUTION: Final = "ollama-proxy"
PACKAGES: Final = ("proxy", "middleware", "config")


def intruders(owners: Mapping[str, Sequence[str]] | None = None) -> Iterator[str]:
    """Yield a sentence for each other distribution that installs one of our packages, with the remedy.

    Args:
        owners: import package → distributions; by default those of this environment.
    """
    found = packages_distributions() if owners is None else owners
    for package in PACKAGES:
        for distribution in sorted({*found.get(package, ())} - {DISTRIBUTION}):
            yield (
                f"{distribution} installs a package called {package!r} as well, so that files of both are mixed; "
                f"install {DISTRIBUTION} into a virtual environment of its own"
            )
