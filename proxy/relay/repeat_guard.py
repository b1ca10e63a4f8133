"""Recognise the end that Ollama makes of a stream whose model repeats itself.

Ollama compares each piece of text, without the white space around it, with the piece before it, and the first one with
an empty text. Once 31 comparisons in a row were equal, it drops the piece and ends the stream cleanly, without a final
record (``llm/server.go``, up to 0.34.0; later versions end with an error record). So such a stream ends with 31 equal
pieces, or consists of 30 blank ones. A model in JSON mode that writes nothing but spaces ends like this.

Ollama may also hold text back: then the pieces that it compared are not all in the stream. While the model thinks,
blank text behind the end of its thoughts is dropped, so a stream that ends with thoughts shows too little.
"""

from collections.abc import Iterable, Iterator
from typing import Any, Final, Literal

from proxy.kernel import json_bounds

Verdict = Literal["repeated", "hidden", "other"]
"""``hidden``: text may have been held back, so that the repetition may not be in the stream."""

EQUAL: Final = 31
"""Equal pieces at the end of such a stream."""
SPACE: Final = (
    "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000"
)
"""White space as Go's ``strings.TrimSpace`` has it; Python's ``strip`` removes four more characters."""

_THOUGHTS: Final = ("thinking", "reasoning", "reasoning_content")


def verdict(records: Iterable[bytes], *, whole: bool) -> Verdict:
    """Return why a stream ended that has no terminator.

    Args:
        records: the JSON of the stream's records, from the last one backwards.
        whole: whether these are all records of the stream.
    """
    last: str | None = None
    thinks: bool | None = None  # whether the last text is a thought, None until a piece has text
    equal = 0
    for equal, (text, thought) in enumerate(_pieces(records), 1):
        if thinks is None and text:
            thinks = thought
        bare = text.strip(SPACE)
        if last is None:
            last = bare
        elif bare != last:
            break
        if equal == EQUAL:
            return "repeated"
    else:
        if whole and last == "" and equal == EQUAL - 1:
            return "repeated"
    return "hidden" if thinks else "other"


def _pieces(records: Iterable[bytes]) -> Iterator[tuple[str, bool]]:
    """Yield the piece of text in each record that has one, and whether it is a thought.

    A record that cannot be read counts as a piece that equals no other one.
    """
    for number, data in enumerate(records):
        try:
            record = json_bounds.loads(data)
        except ValueError:
            yield f"unreadable {number}", False
            continue
        if isinstance(record, dict) and (piece := _piece(record)) is not None:
            yield piece


def _piece(record: dict[str, Any]) -> tuple[str, bool] | None:
    """Return the text in one record of any API, and whether it is a thought; None where the record is for no text."""
    kind = record.get("type")
    if isinstance(kind, str):
        delta = record.get("delta")
        if kind == "content_block_delta":
            return _text(delta, "text")
        if kind.endswith("text.delta") and isinstance(delta, str):  # response.output_text, response.reasoning_text
            return delta, "reasoning" in kind
        return None
    choices = record.get("choices")
    if isinstance(choices, list):
        choice = choices[0] if choices else None
        if not isinstance(choice, dict):
            return None
        return _text(choice, "text") if "text" in choice else _text(choice.get("delta"), "content")
    return _text(record, "response") if "response" in record else _text(record.get("message"), "content")


def _text(holder: object, name: str) -> tuple[str, bool] | None:
    """Return the text that `holder` has under `name` or as a thought; None where it has neither."""
    if not isinstance(holder, dict):
        return None
    text = holder.get(name)
    thought = next(filter(None, map(holder.get, _THOUGHTS)), None)
    if not isinstance(thought, str):
        return (text, False) if isinstance(text, str) else None
    return (thought + text, False) if isinstance(text, str) and text else (thought, True)
