r"""JSON request bodies that Ollama and this proxy read alike, and edits that leave every other byte as it was.

Ollama reads with Go's encoding/json: keys match whatever their case (and U+017F is an ``s``, U+212A a ``k``), the
last of two equal keys wins, ``null`` changes nothing, what follows the first value is ignored, broken UTF-8 is mended.
A policy that read such a body in any other way could be passed by it. `parse` therefore accepts only what leaves no
choice, and everything it accepts is forwarded byte for byte.

Speed comes from three facts. A text that orjson writes again byte for byte cannot hold a key twice, so most bodies need
no second look. Any other has as many colons outside of its strings as keys, and more than the document where one stood
twice. And images are megabytes of base64 in a single string, in which no policy has any interest: they are
left out before anything is parsed (`proxy.kernel.image_stripping`).
"""

import json
from typing import Any, Final

import orjson

from proxy.kernel.errors import Refused
from proxy.kernel.image_stripping import Cut, origin, shorten
from proxy.kernel.json_bounds import DEPTH, check_counts, extent, outside_strings

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
"""Longest member name that a message repeats, in characters; secrets are longer, and the longest of Ollama has 21."""
_QUICK: Final = 256 * 1024
"""Bytes of a text that one pass reads within some milliseconds."""
_OBJECTS: Final = ("options", "reasoning", "thinking", "output_config")
"""Members that are objects whose own members are control keys too."""


def parse(raw: bytes) -> dict[str, Any]:
    """Return the JSON object in `raw` if it can be read in one way only.

    Strings of 8 KiB and more that can only be data (images, see `proxy.kernel.image_stripping`) are there with their
    first 128 bytes and ``…``.

    Raises:
        Refused: what `read` and `check` raise.
    """
    text, document = read(raw)
    check(text, document)
    return document


def read(raw: bytes, sent: int | None = None) -> tuple[bytes, dict[str, Any]]:
    """Return the JSON text `raw` with its images shortened, and the object in it.

    Args:
        raw: the text.
        sent: the bytes that were sent for it; as many as it has where left out.

    Raises:
        Refused: 400. Not one JSON object in plain UTF-8; a number beyond a double. 400 or 413: holds more than
            `proxy.kernel.json_bounds` allows.
    """
    if not raw:
        raise Refused(400, "missing request body")
    text, cuts = shorten(raw)
    check_counts(text, len(raw) if sent is None else sent)
    try:
        document = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise _not_plain(error, text, cuts) from None
    if document.__class__ is not dict:
        raise Refused(400, "the request body must be a JSON object")
    return text, document


def check(text: bytes, document: dict[str, Any]) -> None:
    """Refuse what `read` returned where Ollama might read it in another way.

    Raises:
        Refused: 400. Nested beyond 254 levels; a key that stands twice in its object; a control key in another
            spelling.
    """
    _check_spelling(document)
    for name in _OBJECTS:
        nested = document.get(name)
        if nested.__class__ is dict:
            _check_spelling(nested)
    if len(text) > _QUICK or not _is_canonical(document, text):
        depth, keys = extent(document)
        if depth > DEPTH:
            raise _too_deep()
        if keys < sum(piece.count(b":") for piece in outside_strings(text)):
            raise _repeated(text)


def fold(key: str) -> str:
    """Return `key` as Go's decoder compares it with the names it knows, all of which are ASCII."""
    return key.lower().replace("\u017f", "s")  # lower() knows the Kelvin sign; nothing else folds into ASCII


def _not_plain(error: orjson.JSONDecodeError, text: bytes, cuts: list[Cut]) -> Refused:
    """Return the mistake of a text that orjson refuses, and its place in the body.

    Of a text that is not UTF-8 orjson does not say where; PowerShell 5 sends Latin-1.
    """
    try:
        text.decode()
    except UnicodeDecodeError as broken:
        at = origin(broken.start, cuts)
        return Refused(400, f"the request body is not UTF-8 at byte {at}; send the body as UTF-8")
    before = error.doc[: error.pos].encode()  # it counts characters
    where = f"{error.msg.partition(': line')[0]} at byte {origin(len(before), cuts)}"
    hint = "; send the body as UTF-8" if b"\0" in text[:4] else ""  # it looks like UTF-16
    return Refused(400, f"the request body is not plain JSON: {where}{hint}")


def _check_spelling(document: dict[str, Any]) -> None:
    for key in document.keys() - CONTROL:
        if (known := fold(key)) in CONTROL:
            raise Refused(400, f'the key "{_shown(key)}" of the request body must be written "{known}"')


def _is_canonical(document: dict[str, Any], text: bytes) -> bool:
    """Return whether orjson writes `document` as `text`; then no key stands twice in it."""
    try:
        return orjson.dumps(document) == text
    except orjson.JSONEncodeError:  # nested deeper than it writes
        raise _too_deep() from None


def _too_deep() -> Refused:
    return Refused(400, f"the request body is nested too deeply, beyond {DEPTH} levels")


def _repeated(text: bytes) -> Refused:
    """Return which key of `text` stands twice; of a long text only that one does, as finding it takes time."""
    which = "a key"
    if len(text) <= _QUICK:
        try:
            _DUPLICATES.decode(text.decode())
        except _Twice as twice:
            which = f'the key "{_shown(str(twice))}"'
    return Refused(400, f"{which} stands twice in one object of the request body")


class _Twice(Exception):
    """A key, when it is found for the second time in its object."""


def _unique(pairs: list[tuple[str, Any]]) -> None:
    if len(dict(pairs)) < len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise _Twice(key)
            seen.add(key)


def _shown(key: str) -> str:
    """Return a key for an error; only its beginning where it may be a secret that got into the wrong place."""
    whole = len(key) <= _LONGEST_KEY or fold(key) in CONTROL
    return (key[:64] if whole else f"{key[:8]}…").encode("ascii", "backslashreplace").decode()


_DUPLICATES: Final = json.JSONDecoder(object_pairs_hook=_unique)
