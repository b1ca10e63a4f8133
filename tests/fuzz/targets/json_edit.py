"""Edits of JSON bodies: what is patched reads as wanted, and every other byte stands where it stood."""

from collections.abc import Iterator, Mapping
from reprlib import repr as brief
from typing import Any, Final

from proxy.kernel import body_json, json_edit
from proxy.kernel.errors import Refused
from tests.fuzz.cuts import dice
from tests.fuzz.oracles.strictjson import placed
from tests.fuzz.targets import json_gate
from tests.fuzz.targets.json_gate import expanded

TOKENS = json_gate.TOKENS

Path = tuple[str, ...]

PATCHES: Final[tuple[Mapping[str, Any], ...]] = (
    {"model": "llama3.2:3b"},
    {"keep_alive": None},
    {"options": {"num_ctx": 2048}},
    {"options": {"num_ctx": 1, "num_predict": -1, "stop": ["\u2028", '"']}, "model": "é"},
    {"stream_options": {"include_usage": True}},
    {"stream": False, "n": 1, "think": "high"},
    {"messages": [{"role": "user", "content": "x" * 300}]},
    {},
)


def check(data: bytes) -> None:
    """Raise where an edit of the body reads as anything but the body with the patch, or touches other bytes."""
    raw = expanded(data)
    try:
        document = body_json.parse(raw)
    except Refused:
        return
    numbers = dice(data)
    patches = [numbers.choice(PATCHES), numbers.choice(PATCHES)]
    ascii_keys = [key for key in document if key.isascii()]
    if ascii_keys:
        patches.append({numbers.choice(ascii_keys): 0})
    lists = [key for key in ascii_keys if isinstance(document[key], list)]
    if lists:
        patches.append({numbers.choice(lists): json_edit.Without({0, 2, 3})})
    for patch in patches:
        edited = json_edit.edit(raw, patch)
        wanted = json_edit.merged(document, patch)
        assert body_json.parse(edited) == wanted, f"{patch} gives {brief(edited)}"
        replaced = set(_replaced(document, patch))
        assert list(_untouched(edited, replaced)) == list(_untouched(raw, replaced)), (
            f"{patch} touched more: {brief(edited)}"
        )


def _replaced(document: Any, patch: Mapping[str, Any], path: Path = ()) -> Iterator[Path]:
    """Yield the members that a patch replaces or adds as a whole."""
    for key, value in patch.items():
        there = document.get(key)
        if isinstance(value, dict) and isinstance(there, dict):
            yield from _replaced(there, value, (*path, key))
        else:
            yield (*path, key)


def _untouched(raw: bytes, replaced: set[Path]) -> Iterator[bytes]:
    """Yield the tokens outside of what was replaced or added; a comma behind what was added first does not count."""
    opened = False
    for path, token in placed(raw):
        if any(path[:length] in replaced for length in range(1, len(path) + 1)) or (opened and token == b","):
            continue
        opened = token == b"{"
        yield token
