"""One input again, with its traceback: ``python -m tests.fuzz.again <target> <file>``."""

import sys
from pathlib import Path

from tests.fuzz.targets import target

if __name__ == "__main__":
    target(sys.argv[1]).check(Path(sys.argv[2]).read_bytes())
    print("nothing is wrong")
