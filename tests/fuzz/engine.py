"""One target under atheris: ``python -m tests.fuzz.engine <target> <libFuzzer's arguments>``.

Runs with atheris in ``PYTHONPATH``; ``scripts/fuzz`` sees to that. Ends at the first finding, with its traceback.
"""

import sys
from typing import Final

import atheris

from tests.fuzz.targets import target

GUIDED: Final = ["proxy", "middleware", "config", "yaml", "uvicorn.protocols"]
"""Packages whose branches guide the search."""


def main() -> None:
    """Import the target with its code instrumented, and hand over to libFuzzer."""
    name = sys.argv.pop(1)
    with atheris.instrument_imports(include=GUIDED):
        check = target(name).check
    atheris.Setup(sys.argv, check)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
