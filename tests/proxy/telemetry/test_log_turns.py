"""proxy/telemetry/log_turns.py: the lock is one of processes, so another process tries it."""

import os
import subprocess
import sys

from proxy.telemetry.log_turns import Turns, make_turns

TRY = """
import sys
from proxy.telemetry.log_turns import Turns
turns = Turns(int(sys.argv[1]))
if turns.take():
    print("torn" if turns.torn else "whole")
    turns.torn = True
else:
    print("taken")
"""


def another(fd: int) -> str:
    done = subprocess.run(
        [sys.executable, "-c", TRY, str(fd)], pass_fds=[fd], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_one_at_a_time_and_a_death_within_a_line_is_seen() -> None:
    fd = make_turns()
    try:
        turns = Turns(fd)
        assert turns.take()
        assert another(fd) == "taken"
        turns.give_back()
        assert another(fd) == "whole"  # and it ends within its turn
        assert turns.take()
        assert turns.torn
        turns.torn = False
        turns.give_back()
        assert another(fd) == "whole"
    finally:
        os.close(fd)
