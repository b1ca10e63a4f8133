r"""JSON request bodies that Ollama and this proxy read alike, and edits that leave every other byte as it was.

Ollama reads with Go's encoding/json: keys match whatever their case (and U+017F is an ``s``, U+212A a ``k``), the
last of two equal keys wins, ``null`` changes nothing, what follows the first value is ignored, broken UTF-8 is mended.
A policy that read such a body in any other way could be passed by it. `parse` therefore accepts only what leaves no
choice, and everything it accepts is forwarded byte for byte.

Speed comes from two facts. A text that orjson writes again byte for byte cannot hold a key twice, so most bodies need
no second look. And images are megabytes of base64 in a single string, in which no policy has any interest: they are
left out before anything is parsed (`proxy.blobs`).
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

import orjson

from proxy.blobs import origin, shorten
from proxy.errors import Refused

VALUES: Final = 500_000
"""Beyond so many, a body costs seconds and a hundred times its size in memory to read. Texts have commas too."""

CONTROL: Final = frozenset(
    {
        # which model, and where it comes from
        *("model", "name", "from", "source", "destination", "remote_host", "files", "adapters", "modelfile", "path"),
        *("insecure", "username", "password", "quantize", "quantization", "parameters", "renderer", "parser"),
        *("requires", "license", "info"),
        # what is asked of it
        *("messages", "prompt", "suffix", "system", "template", "context", "images", "input", "instructions", "raw"),
        *("tools", "tool_choice", "format", "response_format", "text", "truncate", "truncation", "shift", "dimensions"),
        *("encoding_format", "verbose", "width", "height", "steps", "conversation", "background", "include"),
        *("previous_response_id", "metadata", "user"),
        # how it is answered
        *("stream", "stream_options", "keep_alive", "options", "think", "thinking", "reasoning", "reasoning_effort"),
        *("effort", "type", "budget_tokens", "output_config", "n", "best_of", "echo", "logprobs", "top_logprobs"),
        *("max_tokens", "max_completion_tokens", "max_output_tokens", "stop_sequences", "logit_bias"),
        *("_debug_render_only", "debug_render_only"),
        # options of a model and its runner
        *("num_ctx", "num_predict", "num_keep", "num_batch", "num_gpu", "main_gpu", "num_thread", "numa", "low_vram"),
        *("use_mmap", "use_mlock", "f16_kv", "logits_all", "vocab_only", "seed", "stop", "temperature", "top_k"),
        *("top_p", "min_p", "tfs_z", "typical_p", "repeat_last_n", "repeat_penalty", "presence_penalty"),
        *("frequency_penalty", "mirostat", "mirostat_tau", "mirostat_eta", "penalize_newline"),
    }
)
"""The members that Ollama knows, as they are written; in any other spelling they are refused."""

_LONGEST_KEY: Final = 24
"""Characters of a member that no secret is as short as; of those that Ollama knows the longest has 21."""
_OBJECTS: Final = ("options", "reasoning", "thinking", "output_config")
"""Members that are objects whose own members are control keys too."""


def parse(raw: bytes) -> dict[str, Any]:
    """Return the JSON object in `raw` if it can be read in one way only.

    Strings of 64 KiB and more without a quote, a backslash or a space (images) are there with their first 128 bytes
    and ``…``.

    Raises:
        Refused: 400. Not one JSON object in plain UTF-8; nested beyond 254 levels; half a million values and more; a
            number beyond a double; a key that stands twice in its object; a control key in another spelling.
    """
    text, document = _read(raw)
    _check_spelling(document)
    for name in _OBJECTS:
        nested = document.get(name)
        if nested.__class__ is dict:
            _check_spelling(nested)
    if not _is_canonical(document, text):
        _check_duplicates(text)
    return document


def load(raw: bytes) -> dict[str, Any]:
    """Return the JSON object in `raw`, shortened like `parse` does, but however it is spelled; for hints only.

    Raises:
        Refused: 400. Not one JSON object.
    """
    return _read(raw)[1]


def fold(key: str) -> str:
    """Return `key` as Go's decoder compares it with the names it knows, all of which are ASCII."""
    return key.lower().replace("\u017f", "s")  # lower() knows the Kelvin sign; nothing else folds into ASCII


def edit(raw: bytes, patch: Mapping[str, Any]) -> bytes:
    """Return `raw`, which `parse` accepted, with `patch` merged in and every byte outside of it unchanged.

    Args:
        raw: the JSON text of an object.
        patch: a merge patch (RFC 7396) without deletions: an object goes into the object that is there, everything
            else replaces what is there; what is not there becomes the first member. Its keys are ASCII.
    """
    text, cuts = shorten(raw)
    latin = text.decode("latin-1")  # one character per byte: positions in it are positions in `text`
    whole = memoryview(raw)
    out: list[bytes | memoryview] = []
    done = 0
    for start, end, replacement in sorted(_splices(latin, latin.index("{"), patch)):
        out += (whole[done : origin(start, cuts)], replacement)
        done = origin(end, cuts)
    out.append(whole[done:])
    return b"".join(out)


def merged(document: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """Return what `parse` would of the edited text, given what it returned of the text before."""
    result = dict(document)
    for key, value in patch.items():
        there = result.get(key)
        result[key] = merged(there, value) if isinstance(value, dict) and isinstance(there, dict) else value
    return result


class Span(NamedTuple):
    """Where a member of an object stands in the text: from its key's opening quote to the end of its value."""

    key: int
    start: int
    end: int


def members(text: str, at: int) -> dict[str, Span]:
    """Return the members of the object whose brace stands at `at` in the valid JSON `text`.

    In a text that was read as Latin-1 so that positions count bytes, only the keys in ASCII are what they say.
    """
    found: dict[str, Span] = {}
    position = _next(text, at + 1)
    while text[position] != "}":
        key_at = position
        key, position = _SCANNER.raw_decode(text, position)
        start = _next(text, _next(text, position) + 1)
        end = _SCANNER.raw_decode(text, start)[1]
        found[key] = Span(key_at, start, end)
        position = _next(text, end)
        if text[position] == ",":
            position = _next(text, position + 1)
    return found


def _read(raw: bytes) -> tuple[bytes, dict[str, Any]]:
    if not raw:
        raise Refused(400, "missing request body")
    text, cuts = shorten(raw)
    if len(text) > 2 * VALUES and text.count(b",") > VALUES:
        raise Refused(400, "the request body holds too many values")
    try:
        document = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        before = error.doc[: error.pos].encode()  # it counts characters
        where = f" at byte {origin(len(before), cuts)}"
        raise Refused(400, f"the request body is not plain JSON: {error.msg.partition(': line')[0]}{where}") from None
    if document.__class__ is not dict:
        raise Refused(400, "the request body must be a JSON object")
    return text, document


def _check_spelling(document: dict[str, Any]) -> None:
    for key in document.keys() - CONTROL:
        if (known := fold(key)) in CONTROL:
            raise Refused(400, f'the key "{_shown(key)}" of the request body must be written "{known}"')


def _is_canonical(document: dict[str, Any], text: bytes) -> bool:
    """Whether orjson writes `document` as `text`; then no key of it stood twice."""
    try:
        return orjson.dumps(document) == text
    except orjson.JSONEncodeError:  # nested deeper than it writes, and than Python reads by recursion
        raise Refused(400, "the request body is nested too deeply") from None


def _check_duplicates(text: bytes) -> None:
    _DUPLICATES.decode(text.decode())


def _unique(pairs: list[tuple[str, Any]]) -> None:
    if len(dict(pairs)) < len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise Refused(400, f'the key "{_shown(key)}" stands twice in one object of the request body')
            seen.add(key)


def _splices(text: str, at: int, patch: Mapping[str, Any]) -> Iterator[tuple[int, int, bytes]]:
    """Yield what to put where to merge `patch` into the object at `at`: start, end, replacement."""
    found = members(text, at)
    new = {key: value for key, value in patch.items() if key not in found}
    if new:
        yield at + 1, at + 1, orjson.dumps(new)[1:-1] + (b"," if found else b"")
    for key in patch.keys() & found.keys():
        value, span = patch[key], found[key]
        if isinstance(value, dict) and text[span.start] == "{":
            yield from _splices(text, span.start, value)
        else:
            yield span.start, span.end, orjson.dumps(value)


def _next(text: str, position: int) -> int:
    """Skip white space."""
    while text[position] in " \t\r\n":
        position += 1
    return position


def _shown(key: str) -> str:
    """Return a key for an error; only its beginning where it may be a secret that got into the wrong place."""
    whole = len(key) <= _LONGEST_KEY or fold(key) in CONTROL
    return (key[:64] if whole else f"{key[:8]}…").encode("ascii", "backslashreplace").decode()


_SCANNER: Final = json.JSONDecoder()
_DUPLICATES: Final = json.JSONDecoder(object_pairs_hook=_unique)
