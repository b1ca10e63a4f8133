"""Text from outside, on a terminal: shown, never obeyed.

Names of models, versions, error texts of backends, headers and lines of files are written by strangers. A terminal
takes an escape sequence in them for a command: it changes its title, its clipboard, what stands on the screen already.
All that the commands print passes through `say` and `complain`, or through `proxy.commands.tables.SafeConsole`.
"""

import sys
from typing import TextIO


def printable(text: str) -> str:
    """Return `text` with everything escaped that is not for the eye.

    That are controls (C0 and C1, line ends among them), direction overrides and other marks without a shape, line and
    paragraph separators, odd spaces, lone surrogates.
    """
    if text.isprintable():
        return text
    return "".join(sign if sign.isprintable() else _escaped(sign) for sign in text)


def printable_lines(text: str) -> str:
    """Return `printable` of text that may have several lines."""
    return "\n".join(map(printable, text.split("\n")))


def say(*texts: object, out: TextIO | None = None) -> None:
    """Print each of `texts` on a line of its own, to stdout where no other stream is given."""
    for text in texts:
        print(printable(str(text)), file=out or sys.stdout, flush=True)


def complain(*texts: object) -> None:
    """Print each of `texts` on a line of its own to stderr, in red where that is a terminal."""
    red, plain = ("\x1b[31m", "\x1b[0m") if sys.stderr.isatty() else ("", "")
    for text in texts:
        print(f"{red}{printable(str(text))}{plain}", file=sys.stderr, flush=True)


def _escaped(sign: str) -> str:
    return sign.encode("unicode_escape").decode()
