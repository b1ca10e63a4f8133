"""Edits of a JSON text that leave every byte outside of them as it was.

The text is never read into a document: a member is found by stepping over what stands before it, a string or a bracket
at a time, so that an edit costs as much for a long conversation as for a long text.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final, NamedTuple

import orjson

from proxy.kernel.image_stripping import origin, shorten
from proxy.kernel.json_bounds import without_escapes

_MEMBER: Final = re.compile(
    rb'[ \t\r\n,]*+("[^"]*+")[ \t\r\n]*+:[ \t\r\n]*+("[^"]*+"|[^"\[\]{}, \t\r\n]*+)',
)
"""A key with its value, or with nothing where that is a list or an object."""
_ELEMENT: Final = re.compile(rb'[ \t\r\n,]*+("[^"]*+"|[^"\[\]{}, \t\r\n]*+)')
"""An element of a list, or nothing where that is a list or an object, or where the list ends."""
_TO_BRACKET: Final = re.compile(rb'[^"\[\]{}]*+(?:"[^"]*+"[^"\[\]{}]*+)*+[\[\]{}]')
_OPENING: Final = b"[{"
_BACKSLASH: Final = b"\\"


class Without:
    """In a patch: the list that is there, without some of its elements.

    Args:
        places: the places of these elements, the first of the list being 0.
    """

    __slots__ = ("places",)

    def __init__(self, places: Collection[int]) -> None:
        self.places = frozenset(places)


def edit(raw: bytes, patch: Mapping[str, Any]) -> bytes:
    """Return `raw` with `patch` merged in and every other byte unchanged.

    Args:
        raw: the JSON text of an object.
        patch: a merge patch (RFC 7396) without deletions: an object goes into the object that is there, everything
            else replaces what is there; what is not there becomes the first member. Its keys are ASCII. A `Without`
            leaves elements out of a list, which must be there.
    """
    text, cuts = shorten(raw)
    whole = memoryview(raw)
    out: list[bytes | memoryview] = []
    done = 0
    for start, end, replacement in sorted(_splices(Text(text), text.index(b"{"), patch)):
        out += (whole[done : origin(start, cuts)], replacement)
        done = origin(end, cuts)
    out.append(whole[done:])
    return b"".join(out)


def without_members(raw: bytes, names: Collection[str]) -> bytes:
    """Return the JSON text of an object without those of its members, and every other byte unchanged."""
    text, cuts = shorten(raw)
    reader = Text(text)
    members = list(reader.members(text.index(b"{")))
    kept = {place for place, (written, _) in enumerate(members) if orjson.loads(written) not in names}
    last = max(kept, default=-1)
    out, done = [], 0
    for place, (_, span) in enumerate(members):
        if place not in kept and place < last:
            out.append(raw[done : origin(span.key, cuts)])
            done = origin(members[place + 1][1].key, cuts)
    if last + 1 < len(members):
        start = members[last][1].end if kept else members[0][1].key
        out.append(raw[done : origin(start, cuts)])
        done = origin(members[-1][1].end, cuts)
    return b"".join([*out, raw[done:]])


def merged(document: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """Return what `body_json.parse` would of the edited text, given what it returned of the text before."""
    result = dict(document)
    for key, value in patch.items():
        there = result.get(key)
        if isinstance(value, Without):
            value = [element for place, element in enumerate(there or ()) if place not in value.places]
        result[key] = merged(there, value) if isinstance(value, dict) and isinstance(there, dict) else value
    return result


class Span(NamedTuple):
    """The place of an object's member in the text: from its key's opening quote to the end of its value."""

    key: int
    start: int
    end: int


class Text:
    """A valid JSON text, and the same with no quote or backslash escaped, in which positions are the same."""

    def __init__(self, text: bytes) -> None:
        self.text = text
        self._flat = without_escapes(text)

    def members(self, at: int) -> Iterator[tuple[bytes, Span]]:
        """Yield the members of the object whose brace stands at `at`, each with its key as it is written."""
        text, flat, position = self.text, self._flat, at + 1
        while member := _MEMBER.match(flat, position):
            key, end_of_key = member.span(1)
            start, position = member.span(2)
            if start == position:
                position = self._end_of(start)
            yield text[key:end_of_key], Span(key, start, position)

    def elements(self, at: int) -> list[tuple[int, int]]:
        """Return the start and the end of each element of the list whose bracket stands at `at`."""
        flat, position, found = self._flat, at + 1, []
        while element := _ELEMENT.match(flat, position):
            start, position = element.span(1)
            if start == position:
                if flat[start : start + 1] == b"]":
                    break
                position = self._end_of(start)
            found.append((start, position))
        return found

    def _end_of(self, start: int) -> int:
        """Return where the list or the object ends that begins at `start`."""
        flat, depth, position = self._flat, 1, start + 1
        while depth:
            bracket = _TO_BRACKET.match(flat, position)
            if bracket is None:
                raise ValueError("a list or an object has no end")
            position = bracket.end()
            depth += 1 if flat[position - 1] in _OPENING else -1
        return position


def _splices(text: Text, at: int, patch: Mapping[str, Any]) -> Iterator[tuple[int, int, bytes]]:
    """Yield what to put where to merge `patch` into the object at `at`: start, end, replacement."""
    empty, left = True, dict(patch)
    plain = {orjson.dumps(key): key for key in patch}
    for written, span in text.members(at):
        empty = False
        key = plain.get(written) if _BACKSLASH not in written else orjson.loads(written)
        if key not in left:
            continue
        value = left.pop(key)
        if isinstance(value, Without):
            yield from _gaps(text.elements(span.start), value.places)
        elif isinstance(value, dict) and text.text[span.start] == b"{"[0]:
            yield from _splices(text, span.start, value)
        else:
            yield span.start, span.end, orjson.dumps(value)
        if not left:
            return
    if left:
        yield at + 1, at + 1, orjson.dumps(left)[1:-1] + (b"" if empty else b",")


def _gaps(elements: list[tuple[int, int]], places: Collection[int]) -> Iterator[tuple[int, int, bytes]]:
    """Yield what to cut out of a list, each time with one comma as long as an element is left."""
    kept = [place for place in range(len(elements)) if place not in places]
    last = kept[-1] if kept else -1
    for place in sorted(places):
        if place < last:
            yield elements[place][0], elements[place + 1][0], b""
    if last + 1 < len(elements):
        yield elements[last][1] if kept else elements[0][0], elements[-1][1], b""
