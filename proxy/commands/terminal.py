"""Print text from outside on a terminal, with its control characters escaped.

Strangers write the names of models, versions, error texts of backends, headers and lines of files. A terminal obeys
escape sequences in them: these can change its title, its clipboard, and what is on the screen already. Everything that
the commands print passes through `say` and `complain`, or through `proxy.commands.tables.SafeConsole`.
"""

import sys
from typing import TextIO


def printable(text: str) -> str:
    """Return `text` with everything escaped that is not printable.

    Escaped are control characters (C0 and C1, line ends included), direction overrides and other invisible marks, line
    and paragraph separators, unusual spaces, and lone surrogates.
    """
    if text.isprintable():
        return text
    return "".join(sign if sign.isprintable() else _escaped(sign) for sign in text)


def printable_lines(text: str) -> str:
    """Return `text` as `printable` does, but keep its line ends."""
    return "\n".join(map(printable, text.split("\n")))


def say(*texts: object, out: TextIO | None = None) -> None:
    """Print each of `texts` on its own line to `out`, by default stdout."""
    for text in texts:
        print(printable(str(text)), file=out or sys.stdout, flush=True)


def complain(*texts: object) -> None:
    """Print each of `texts` on its own line to stderr, in red where stderr is a terminal."""
    red, plain = ("\x1b[31m", "\x1b[0m") if sys.stderr.isatty() else ("", "")
    for text in texts:
        print(f"{red}{printable(str(text))}{plain}", file=sys.stderr, flush=True)


def _escaped(sign: str) -> str:
    return sign.encode("unicode_escape").decode()
