"""JSON read so that nothing is left to choose: RFC 8259 with every "should" a "must"; and where its members stand."""

import json
import re
from collections.abc import Iterator
from typing import Any, Final, NoReturn

_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_TOKEN: Final = re.compile(rb'"(?:[^"\\]|\\.)*"|[-+.0-9A-Za-z]+|[{}\[\],:]|[ \t\r\n]+', re.DOTALL)


class Ambiguous(ValueError):
    """Two readers may read something else in it, or one of them nothing."""


def read(raw: bytes) -> dict[str, Any]:
    """Return the object in `raw`; raises Ambiguous."""
    try:
        document = json.loads(raw.decode(), object_pairs_hook=_unique, parse_constant=_constant, parse_float=_finite)
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise Ambiguous(f"not JSON: {error}") from None
    except ValueError as error:  # among them integers of thousands of digits
        raise Ambiguous(str(error)) from None
    if not isinstance(document, dict):
        raise Ambiguous("not an object")
    _check_texts(document)
    return document


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise Ambiguous("a key stands twice")
    return found


def _constant(name: str) -> NoReturn:
    raise Ambiguous(f"{name} is not JSON")


def _finite(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise Ambiguous("a number beyond a double")
    return value


def _check_texts(value: Any) -> None:
    stack = [value]
    while stack:
        one = stack.pop()
        if isinstance(one, str) and _SURROGATE.search(one):
            raise Ambiguous("half of a surrogate pair")
        if isinstance(one, dict):
            stack += [*one, *one.values()]
        elif isinstance(one, list):
            stack += one
        elif isinstance(one, int) and not isinstance(one, bool) and abs(one) >= 2**1024:
            raise Ambiguous("a number beyond a double")


def placed(raw: bytes) -> Iterator[tuple[tuple[str, ...], bytes]]:
    """Yield the tokens of the valid JSON `raw` with the members of objects each is in; what is in lists is one.

    A key and its colon are in their member, white space behind a value is not. Found by tokens alone, without a parser.
    """
    path: list[str] = []
    depth = lists = 0
    in_member = has_value = False
    for match in _TOKEN.finditer(raw):
        token = match[0]
        if token in (b"[", b"]"):
            lists += 1 if token == b"[" else -1
            has_value = not lists
        elif lists:
            pass
        elif token == b"{":
            yield tuple(path), token
            depth += 1
            in_member = has_value = False
            continue
        elif token in (b"}", b","):
            if in_member:
                path.pop()
            if token == b"}":
                depth -= 1
            in_member = has_value = token == b"}" and depth > 0
        elif token[:1] == b'"' and not in_member:
            path.append(json.loads(token, strict=False))
            in_member = True
        elif token.isspace():
            yield tuple(path[:-1] if has_value else path), token
            continue
        elif token != b":":
            has_value = True
        yield tuple(path), token
