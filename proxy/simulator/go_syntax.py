"""Go's words for JSON that does not parse: which byte is wrong, and where it stands."""

import re
from json import JSONDecodeError
from typing import Final

ENDED: Final = "unexpected EOF"

_STRING: Final = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)
_LITERALS: Final = {"t": "true", "f": "false", "n": "null"}


def syntax_error(text: str, error: JSONDecodeError) -> str:
    """Return Go's error for what Python's `error` says of `text`."""
    at, said = error.pos, error.msg
    if at >= len(text.rstrip(" \t\r\n")) or said.startswith("Unterminated"):
        return ENDED
    if said.startswith("Expecting property name"):
        return _wrong(text, at, "looking for beginning of object key string")
    if said.startswith("Expecting ':'"):
        return _wrong(text, at, "after object key")
    if said.startswith("Expecting ','"):
        if text[at] == "." and text[at - 1].isdigit():
            return _wrong(text, at + 1, "after decimal point in numeric literal")
        return _wrong(text, at, "after object key:value pair" if _in_object(text[:at]) else "after array element")
    if said.startswith("Invalid control character"):
        return _wrong(text, at, "in string literal")
    if said.startswith("Invalid \\u"):
        digits = text.rfind("\\u", 0, at + 3) + 2
        while text[digits : digits + 1] in tuple("0123456789abcdefABCDEF"):
            digits += 1
        return _wrong(text, digits, "in \\u hexadecimal character escape")
    if said.startswith("Invalid \\"):
        return _wrong(text, at + 1, "in string escape code")
    return _no_value(text, at)


def _no_value(text: str, at: int) -> str:
    """Return the error of something at `at` that begins no value, or like one that it is not."""
    if text[at] == "-":
        return _wrong(text, at + 1, "in numeric literal")
    if literal := _LITERALS.get(text[at]):
        for number, letter in enumerate(literal):
            if text[at + number : at + number + 1] != letter:
                return _wrong(text, at + number, f"in literal {literal} (expecting '{letter}')")
    return _wrong(text, at, "looking for beginning of value")


def _wrong(text: str, at: int, where: str) -> str:
    if at >= len(text):
        return ENDED
    byte = text[at].encode("utf-8", "surrogateescape")[:1].decode("latin-1")  # Go looks at bytes
    return f"invalid character {_quoted(byte)} {where}"


def _quoted(char: str) -> str:
    if char in "'\"":
        return "'\\''" if char == "'" else "'\"'"
    return repr(char)


def _in_object(text: str) -> bool:
    """Return whether an object is what is open at the end of `text`, and not an array."""
    opened = [""]
    for char in _STRING.sub("", text):
        if char in "{[":
            opened.append(char)
        elif char in "}]":
            opened.pop()
    return opened[-1] == "{"
