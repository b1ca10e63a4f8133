r"""JSON as Go's encoding/json reads and writes it, which is not how Python does.

Reading (``Decoder.Decode`` into a struct): keys match case-insensitively, with Unicode's simple folds; of two equal
keys the last wins, but two maps are merged; ``null`` empties pointers, maps and slices and leaves everything else as
it was; whatever follows the first value is ignored; invalid UTF-8 and lone surrogates become U+FFFD.

Writing: ``<``, ``>``, ``&``, U+2028 and U+2029 are escaped, everything else beyond ASCII stands as it is.
"""

import json
import math
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Final

import orjson

from proxy.simulator.go_syntax import syntax_error

Pairs = list[tuple[str, Any]]

_LONGEST_WORD: Final = 64

# How a field of a struct takes a value; named after its Go type. Any other type can be named too: one that begins with
# ``[]`` takes an array (what its items have to be is checked for ``[]int`` and ``[]string``), the rest an object.
STRING: Final = "string"
BOOL: Final = "bool"
INT: Final = "int"
FLOAT: Final = "float64"
FLOAT32: Final = "float32"
ANY: Final = "interface {}"
MAP: Final = "map[string]interface {}"
INTS: Final = "[]int"
STRINGS: Final = "[]string"
POINTER: Final = "*"  # in front of another: null makes it None, which is also where it begins

Shape = Mapping[str, str]

_ZERO: Final[dict[str, Callable[[], object]]] = {
    STRING: str, BOOL: bool, INT: int, FLOAT: float, FLOAT32: float, ANY: lambda: None, MAP: dict,
}  # fmt: skip
_TYPES: Final[dict[str, tuple[type[Any], ...]]] = {
    STRING: (str,), BOOL: (bool,), INT: (int,), FLOAT: (int, float), FLOAT32: (int, float), ANY: (object,),
}  # fmt: skip
_ITEMS: Final = {INTS: INT, STRINGS: STRING}
_NAMES: Final = {"[]api.Tools": "api.Tools"}  # types that are arrays by another name


class BadJSON(ValueError):
    """A body that Go refuses; the text is close to Go's own."""


class NoJSON(BadJSON):
    """A body with nothing in it (Go's ``io.EOF``)."""


def parse(body: bytes) -> object:
    """Read the first value of `body`. Objects come as lists of pairs, arrays as tuples, so that nothing is lost.

    Raises:
        BadJSON: no value, or not JSON.
    """
    # A surrogate for each broken byte, and in the end U+FFFD for each surrogate.
    text = body.decode("utf-8", "surrogateescape").lstrip(" \t\r\n")
    if not text:
        raise NoJSON("EOF")
    try:
        value = _freeze(_DECODER.raw_decode(text)[0])
    except json.JSONDecodeError as error:
        raise BadJSON(syntax_error(text, error)) from None
    except RecursionError:
        raise BadJSON("exceeded max depth") from None
    except ValueError as error:  # a constant JSON has not, or an integer of thousands of digits
        raise BadJSON(str(error)) from None
    return value


def decode(body: bytes, shape: Shape, struct: str = "") -> dict[str, Any]:
    """Read `body` into a struct that has the fields of `shape`; fields that are not in it keep Go's zero value.

    `struct` is the name of the Go type (``api.ChatRequest``), for the texts of errors.
    """
    value = parse(body)
    if value is None:
        return zero(shape)
    if not isinstance(value, list):
        raise BadJSON(f"json: cannot unmarshal {kind_of(value)} into Go value of type {struct}")
    return fill(zero(shape), value, shape, struct.rpartition(".")[2])


def zero(shape: Shape) -> dict[str, Any]:
    """Return the struct before anything was read."""
    return {name: _zero(kind) for name, kind in shape.items()}


def _zero(kind: str) -> object:
    if kind.startswith("[]"):
        return []
    return _ZERO[kind]() if kind in _ZERO else None  # None for pointers, and for structs


def fill(struct: dict[str, Any], pairs: Pairs, shape: Shape, name_of_struct: str = "") -> dict[str, Any]:
    """Take the pairs in their order, as Go does, and return `struct`."""
    by_fold = {fold(name): name for name in shape}
    for key, value in pairs:
        name = key if key in shape else by_fold.get(fold(key))
        if name is None:
            continue
        kind = shape[name]
        if value is None:
            if kind.startswith((POINTER, "[]")) or kind in (ANY, MAP):
                struct[name] = _zero(kind)
            continue
        plain_kind = kind.removeprefix(POINTER)
        field = f"{name_of_struct}.{name}"
        _check(value, plain_kind, field)
        if plain_kind == MAP:
            struct[name] = {**(struct[name] or {}), **plain(value)}
        elif plain_kind.startswith("[]"):
            for item in value if plain_kind in _ITEMS else ():
                if item is not None:
                    _check(item, _ITEMS[plain_kind], field)
            struct[name] = [*value]
        else:
            struct[name] = value if plain_kind in (STRING, BOOL, INT) else plain(value)
    return struct


def _check(value: object, kind: str, field: str) -> None:
    """Refuse a value that a field of type `kind` does not take."""
    types = (tuple,) if kind.startswith("[]") else _TYPES.get(kind, (list,))
    if not isinstance(value, types) or (isinstance(value, bool) and kind in (INT, FLOAT, FLOAT32)):
        shown = _NAMES.get(kind, kind)
        raise BadJSON(f"json: cannot unmarshal {kind_of(value)} into Go struct field {field} of type {shown}")


def plain(value: Any) -> Any:
    """Return `value` as dicts and lists: what Go puts into an ``interface {}``, where keys keep their case.

    Raises BadJSON for a number beyond a double.
    """
    if isinstance(value, float) and math.isinf(value):
        raise BadJSON("json: cannot unmarshal number into Go value of type float64")
    if isinstance(value, list):
        return {key: plain(item) for key, item in value}
    if isinstance(value, tuple):
        return [plain(item) for item in value]
    return value


def fold(name: str) -> str:
    """Return `name` under simple case folding, so that U+017F is an ``s`` but ``ß`` is not ``ss``."""
    if name.isascii():
        return name.lower()
    return "".join(folded if len(folded := char.casefold()) == 1 else char for char in name)


def dumps(value: object) -> bytes:
    """Write `value` as ``json.Marshal`` would."""
    return escape(orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS))


def quote(text: str) -> bytes:
    """Write one string, quotes included. Words are cached, because models repeat theirs; longer text is not kept."""
    return _word(text) if len(text) <= _LONGEST_WORD else dumps(text)


@lru_cache(maxsize=8192)
def _word(text: str) -> bytes:
    return dumps(text)


def escape(data: bytes) -> bytes:
    """Escape in JSON what Go's encoder does beyond need; all of it can stand in strings only."""
    for raw, escaped in _ESCAPES:
        if raw in data:
            data = data.replace(raw, escaped)
    return data


_ESCAPES: Final = (
    (b"<", rb"\u003c"),
    (b">", rb"\u003e"),
    (b"&", rb"\u0026"),
    ("\u2028".encode(), rb"\u2028"),
    ("\u2029".encode(), rb"\u2029"),
)


def _constant(name: str) -> object:
    """Refuse NaN, Infinity and -Infinity, which Python's decoder would take."""
    where = "in numeric literal" if name.startswith("-") else "looking for beginning of value"
    raise ValueError(f"invalid character {name.lstrip('-')[0]!r} {where}")


class _Object(list[tuple[str, Any]]):
    """An object while it is being read; told from an array by its type."""


_DECODER: Final = json.JSONDecoder(object_pairs_hook=_Object, parse_constant=_constant)


def _freeze(value: Any) -> Any:
    """Turn arrays into tuples and mend surrogates; objects stay lists of pairs."""
    if isinstance(value, str):
        return _mend(value)
    if isinstance(value, _Object):
        return [(_mend(key), _freeze(item)) for key, item in value]
    if isinstance(value, list):
        return tuple(_freeze(item) for item in value)
    return value


def _mend(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        return "".join("\ufffd" if "\ud800" <= char <= "\udfff" else char for char in text)
    return text


def kind_of(value: object) -> str:
    """Return what Go calls the kind of a value that `parse` has read."""
    if isinstance(value, bool):
        return "bool"
    kinds = {str: "string", int: "number", float: "number", list: "object", tuple: "array"}
    return kinds.get(type(value), "null")
