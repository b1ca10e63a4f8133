"""Masking what a log must not keep: kinds of text that can be told by their form.

Every pattern is bounded in what it may try at one place, so that no text makes it slow. What has no form (a name, a
diagnosis) cannot be found this way.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Final, Literal

Kind = Literal["keys", "emails", "numbers", "addresses"]

MASK: Final = "***"

_KINDS: Final[Mapping[Kind, str]] = {
    # Credentials: PEM blocks, tokens of three parts, what follows `Bearer`, `password:` and the like, known prefixes,
    # and every run of letters and digits that is as long as a key.
    "keys": (
        r"-----BEGIN [A-Z ]{0,40}KEY-----[^-]{0,8192}(?:-----END [A-Z ]{0,40}KEY-----)?"
        r"|\beyJ[\w-]{5,4096}\.[\w-]{5,8192}(?:\.[\w-]{0,2048})?"
        r"|(?i:\b(?:bearer|basic)\s{1,4})[\w.~+/=-]{6,4096}"
        r"|(?i:\b(?:password|passwd|pwd|secret|token|api[ _-]?key)\b[\"']?\s{0,4}[:=]\s{0,4})[^\s\"',;]{1,256}"
        r"|\b(?:sk|pk|op|gh[opsu]|xox[abp]|AKIA|hf)[-_]?[\w-]{12,256}"
        r"|\b(?=[\w+/=-]{0,64}\d)[\w+/=-]{32,4096}"
    ),
    "emails": r"(?<![\w.+-])[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,8}",
    # Cards, accounts, phones: seven digits and more, in groups or not.
    "numbers": r"(?<![\w.])\+?(?:\d[ ./()-]{0,2}){6,30}\d(?!\w)",
    "addresses": (
        r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?![\w.])"
        r"|(?<![\w:])(?:[0-9A-Fa-f]{0,4}:){3,7}[0-9A-Fa-f]{1,4}(?![\w:])"
    ),
}


class Redaction:
    """Masks some kinds of text, and shapes.

    Args:
        kinds: which of those that are known.
        shapes: further ones: ``#`` stands for a digit, ``?`` for a letter, everything else for itself in either case.
    """

    def __init__(self, kinds: Collection[Kind], shapes: Iterable[str] = ()) -> None:
        wanted = [pattern for kind, pattern in _KINDS.items() if kind in kinds] + [_pattern(shape) for shape in shapes]
        # Without anything to look for this is a pattern that is nowhere.
        self._pattern = re.compile("|".join(f"(?:{pattern})" for pattern in wanted) or r"(?!)", re.ASCII)

    def first(self, text: str, limit: int) -> str:
        """Return the first `limit` characters, masked; what stands behind them helps to see what is cut there."""
        return self._between(text, 0, limit)

    def last(self, text: str, limit: int) -> str:
        """Return the last `limit` characters, masked; what stands before them helps to see what is cut there."""
        return self._between(text, max(0, len(text) - limit), len(text))

    def _between(self, text: str, start: int, end: int) -> str:
        parts, at = [], start
        for match in self._pattern.finditer(text):
            if start < match.end() and match.start() < end:
                parts += [text[at : max(at, match.start())], MASK]
                at = match.end()
        return "".join([*parts, text[at:end]])


def _pattern(shape: str) -> str:
    if not shape.strip("#? "):
        raise ValueError(f"the shape {shape!r} has no letter or digit of its own, so it would mask almost everything")
    inside = "".join({"#": r"\d", "?": "[A-Za-z]"}.get(char) or re.escape(char) for char in shape)
    return rf"(?i:(?<!\w){inside}(?!\w))"
