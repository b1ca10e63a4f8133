"""Mask secrets in texts for the log: keys, addresses and numbers that have a recognizable form.

No text makes this slow. A pattern looks at a bounded number of characters from each place where it might begin. Where
a form has no bound (a token, a run of letters and digits), a finder looks at a run of its characters once, from its
beginning, and never again from its middle. What has no form (a name, a diagnosis) cannot be found this way.
"""

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Final, Literal

Kind = Literal["keys", "emails", "numbers", "addresses"]
Span = tuple[int, int]
Finder = Callable[[str], Iterator[Span]]
"""A function that yields where one form occurs in a text: beginnings and ends, in order. Spans may overlap."""

MASK: Final = "***"

_TOKEN_BEGINS: Final = re.compile(r"\beyJ(?=[\w-]{5})", re.ASCII)
_TOKEN_PART: Final = re.compile(r"[\w-]*+", re.ASCII)
_TOKEN_REST: Final = re.compile(r"\.[\w-]{5,}+(?:\.[\w-]*+)*+", re.ASCII)
_RUN: Final = re.compile(r"(?<![\w+/=-])[\w+/=-]{32,}+", re.ASCII)
_DIGIT: Final = re.compile(r"\d", re.ASCII)
_WORD_EDGE: Final = re.compile(r"\b", re.ASCII)
_SHORTEST_KEY: Final = 32
_PASSES: Final = 4
"""The most passes over a masked text, so that no text is slow. No text is known in which the second finds anything."""
_DIGIT_WITHIN: Final = 64
"""A key has a digit within this many characters from its beginning; a long word has none."""


def _tokens(text: str) -> Iterator[Span]:
    """Find tokens of two or more parts: JWTs. A part that no other part follows is no token."""
    at = 0
    while begins := _TOKEN_BEGINS.search(text, at):
        part = _TOKEN_PART.match(text, begins.end())
        at = begins.end() if part is None else part.end()
        if rest := _TOKEN_REST.match(text, at):
            at = rest.end()
            yield begins.start(), at


def _long_runs(text: str) -> Iterator[Span]:
    """Find runs of letters and digits that are as long as a key. A span begins at the word that has the first digit."""
    for run in _RUN.finditer(text):
        at, end = run.span()
        while digit := _DIGIT.search(text, at, end):
            edge = _WORD_EDGE.search(text, max(at, digit.start() - _DIGIT_WITHIN), end)
            if edge is None or end - edge.start() < _SHORTEST_KEY:
                break
            if edge.start() <= digit.start():
                yield edge.start(), end
                break
            at = edge.start()


def _pattern(pattern: str, overlap: int = 0) -> Finder:
    """Return a finder for `pattern`, which must look at a bounded number of characters from each place.

    Args:
        pattern: a regular expression.
        overlap: the number of characters at the end of a match in which the next match may begin. In
            ``Bearer Bearer abcdef`` the second word is the value of the first match, and the beginning of the next.
    """
    compiled = re.compile(pattern, re.ASCII)

    def find(text: str) -> Iterator[Span]:
        at = 0
        while match := compiled.search(text, at):
            begins, ends = match.span()
            yield begins, ends
            at = max(begins + 1, ends - overlap)

    return find


_KINDS: Final[Mapping[Kind, tuple[Finder, ...]]] = {
    # Credentials: PEM blocks, tokens, what follows `Bearer`, `password:` and the like, known prefixes, long runs.
    "keys": (
        _pattern(r"-----BEGIN [A-Z ]{0,40}KEY-----[^-]{0,8192}(?:-----END [A-Z ]{0,40}KEY-----)?", overlap=64),
        _tokens,
        _pattern(r"(?i:\b(?:bearer|basic)\s{1,4})[\w.~+/=-]{6,4096}", overlap=len("bearer")),
        _pattern(
            r"(?i:\b(?:password|passwd|pwd|secret|token|api[ _-]?key)\b[\"']?\s{0,4}[:=]\s{0,4})[^\s\"',;]{1,256}",
            overlap=len("password:"),
        ),
        # Words begin so too (open-webui, skyfall, ghost); the separator behind the prefix tells a key from them.
        _pattern(r"\b(?:(?:sk|pk|op)[-_]|hf_|(?:gh[opsu]_|xox[abp]-|AKIA)(?=[A-Za-z_-]{0,255}\d))[\w-]{12,256}"),
        _long_runs,
    ),
    "emails": (_pattern(r"(?<![\w.+-])[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,8}"),),
    # Cards, accounts, phones: seven digits and more, in groups or not.
    "numbers": (_pattern(r"(?<![\w.])\+?(?:\d[ ./()-]{0,2}){6,30}\d(?!\w)"),),
    "addresses": (
        _pattern(r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?![\w.])"),
        _pattern(r"(?<![\w:])(?:[0-9A-Fa-f]{0,4}:){3,7}[0-9A-Fa-f]{1,4}(?![\w:])"),
    ),
}


class Redaction:
    """Masks the given kinds of text, and texts of the given shapes.

    Args:
        kinds: the kinds to mask.
        shapes: further forms to mask. ``#`` stands for a digit, ``?`` for a letter, every other character for itself
            in either case.
    """

    def __init__(self, kinds: Collection[Kind], shapes: Iterable[str] = ()) -> None:
        self._finders = [finder for kind, finders in _KINDS.items() if kind in kinds for finder in finders]
        self._finders += map(_shape, shapes)

    def first(self, text: str, limit: int) -> str:
        """Return the first `limit` characters, masked. A secret that the limit cuts through is masked whole."""
        return self._uncovered(self._between(text, 0, limit))

    def last(self, text: str, limit: int) -> str:
        """Return the last `limit` characters, masked. A secret that the limit cuts through is masked whole."""
        return self._uncovered(self._between(text, max(0, len(text) - limit), len(text)))

    def _uncovered(self, text: str) -> str:
        """Mask parts that look secret only beside a mask: they were part of a longer text without that form."""
        for _ in range(_PASSES):
            if MASK not in text or len(masked := self._between(text, 0, len(text))) >= len(text):
                break
            text = masked
        return text

    def _between(self, text: str, start: int, end: int) -> str:
        parts, at, masked = [], start, 0
        for begins, ends in sorted(span for find in self._finders for span in find(text)):
            if start < ends and begins < end:
                if begins >= masked:  # else it overlaps the span before
                    parts += [text[at : max(at, begins)], MASK]
                masked = at = max(masked, ends)
        return "".join([*parts, text[at:end]])


def _shape(shape: str) -> Finder:
    if not shape.strip("#? "):
        raise ValueError(f"the shape {shape!r} has no letter or digit of its own, so it would mask almost everything")
    inside = "".join({"#": r"\d", "?": "[A-Za-z]"}.get(char) or re.escape(char) for char in shape)
    return _pattern(rf"(?i:(?<!\w){inside}(?!\w))")
