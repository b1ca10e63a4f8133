"""Run programs as a user would, and say what the user sees: one JSON object a line, in both directions.

A job is ``{"code": …, "env": {…}, "stop_after": pieces or null}``. While it runs, each piece of text that it prints is
``{"text": …}``; at its end there is ``{"end": null}``, or with the last line of the traceback. With `stop_after`,
printing that piece is interrupted as Ctrl-C would, and the process lives on: who stops is the program, not its end.
"""

import contextlib
import gc
import json
import os
import sys
import traceback
import warnings

WIRE = sys.stdout


class Screen:
    """Takes what a program prints."""

    encoding = "utf-8"

    def __init__(self, stop_after: int | None) -> None:
        self._left = stop_after

    def write(self, text: str) -> int:
        """Pass a piece on, or interrupt the program."""
        if text.strip():
            say(text=text)
            if self._left is not None:
                self._left -= 1
                if self._left == 0:
                    raise KeyboardInterrupt
        return len(text)

    def flush(self) -> None:
        """Nothing is held back."""

    def isatty(self) -> bool:
        """It is a pipe."""
        return False


def say(**event: object) -> None:
    """Send one event."""
    WIRE.write(json.dumps(event) + "\n")
    WIRE.flush()


def run(code: str, stop_after: int | None) -> str | None:
    """Run one program; return the end of its traceback, or None where it came to its own end."""
    with contextlib.redirect_stdout(Screen(stop_after)):  # type: ignore[type-var]
        try:
            exec(compile(code, "recipe.py", "exec"), {"__name__": "__main__"})
        except BaseException as error:
            return "".join(traceback.format_exception_only(error)).strip()
    return None


def main() -> None:
    """Take jobs until there are no more."""
    warnings.simplefilter("ignore")
    for line in sys.stdin:
        job = json.loads(line)
        os.environ.update(job["env"])
        ended = run(job["code"], job["stop_after"])
        gc.collect()
        say(end=ended)


main()
