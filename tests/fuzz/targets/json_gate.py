"""The JSON gate: whatever it accepts reads for Go, and for a strict reader, as it reads for us."""

import json
from reprlib import repr as brief
from typing import Any, Final

from proxy.kernel import body_json
from proxy.kernel.errors import Refused
from proxy.simulator import go_json
from tests.fuzz.oracles.strictjson import Ambiguous, read

SHAPE: Final = {
    "model": go_json.STRING,
    "name": go_json.STRING,
    "from": go_json.STRING,
    "stream": go_json.POINTER + go_json.BOOL,
    "keep_alive": go_json.ANY,
    "options": go_json.MAP,
    "messages": go_json.ANY,
    "prompt": go_json.ANY,
    "think": go_json.ANY,
    "num_ctx": go_json.ANY,
}
"""Members as Ollama's structs have them, in Go's types; those of ``options`` are kept as they are spelled."""

BLOB: Final = b"~~"
"""Stands in an input for a run of base64 that is long enough to be left out of what is parsed."""
_CUT: Final = "\u2026"
_PLAIN_DEPTH: Final = 8
_PLAIN_SIZE: Final = 4000

TOKENS = (
    b'{"model":"llama3"}',
    b'"model":"a",',
    b'"Model":"b",',
    b'"mod\\u0065l":"c",',
    b'"MODEL"',
    '"na\u017fme"'.encode(),
    '"\u212aeep_alive":0,'.encode(),
    b'"options":{"num_ctx":1}',
    b'"stream":true',
    b'"messages":[{"role":"user","content":"x","images":["~~"]}]',
    b"null",
    b"true",
    b"1e999",
    b"-0",
    b"1E5",
    b"18446744073709551616",
    b"0.1",
    b"NaN",
    b"[[[[",
    b"]]]]",
    b'{"a":',
    b"\\ud800",
    b"\\udc00",
    b"\\u0000",
    b"\xed\xa0\x80",
    b"\xff",
    b"\xef\xbb\xbf",
    b"\\",
    b'"',
    b",",
    b":",
    b"{",
    b"}",
    b" ",
    b"\n",
    b"\x00",
    b"//",
    b"\\/",
    b"\\n",
    b"~~",
)


def expanded(data: bytes) -> bytes:
    """Return an input with the first of its `BLOB` at their length."""
    return data.replace(BLOB, b"A" * 70_000, 2)


def check(data: bytes) -> None:
    """Raise where the gate lets a body through that somebody reads in another way, or refuses one nobody can."""
    raw = expanded(data)
    try:
        strict: Any = read(raw)
    except Ambiguous as error:
        strict = error
    try:
        document = body_json.parse(raw)
    except Refused as refused:
        assert 400 <= refused.status < 500
        assert not _is_plain(strict, raw), f"refused: {refused.message}"
        return
    if isinstance(strict, Ambiguous):
        raise AssertionError(f"let through, and {strict}")
    assert _same(document, strict), f"read as {brief(document)}, and says {brief(strict)}"
    for name in ("options", *document):
        members = document if name != "options" else document.get("options")
        for key in members if isinstance(members, dict) else ():
            known = go_json.fold(key)
            assert key == known or known not in body_json.CONTROL, f"Go takes {brief(key)} for {known!r}"
    try:
        go = go_json.decode(raw, SHAPE)
    except go_json.BadJSON as error:
        assert "cannot unmarshal" in str(error), f"let through, and for Go not JSON: {error}"  # a 400 of Ollama's
        return
    ours = {name: document.get(name, go_json.zero(SHAPE)[name]) for name in SHAPE}
    for name, value in ours.items():
        if value is not None:  # null leaves a field as it is
            assert _same(value, go[name]), f"{name} is {brief(value)}, and {brief(go[name])} for Go"


def _same(ours: Any, theirs: Any) -> bool:
    """Whether two readers read the same; a long text may be cut in ours, a large integer be a double in either."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        return (
            len(ours) == len(theirs)
            and all(map(_same, ours, theirs))
            and all(map(_same, ours.values(), theirs.values()))
        )
    if isinstance(ours, list) and isinstance(theirs, list):
        return len(ours) == len(theirs) and all(map(_same, ours, theirs))
    if isinstance(ours, str) and isinstance(theirs, str):
        return ours == theirs or (
            ours.endswith(_CUT) and len(theirs) > 7_000 and theirs.startswith(ours.removesuffix(_CUT))
        )
    if isinstance(ours, float) or isinstance(theirs, float):
        return not isinstance(ours, bool) and not isinstance(theirs, bool) and float(ours) == float(theirs)
    return type(ours) is type(theirs) and bool(ours == theirs)


def _is_plain(strict: Any, raw: bytes) -> bool:
    """Whether nobody can have a reason to refuse it: small, flat, ASCII, no key near to one that counts."""
    if not isinstance(strict, dict) or len(raw) > _PLAIN_SIZE or not raw.isascii() or b"\\u" in raw:
        return False
    if raw.count(b"[") + raw.count(b"{") > _PLAIN_DEPTH or any(len(word) > 15 for word in raw.split()):
        return False
    keys = {key for members in (strict, strict.get("options")) if isinstance(members, dict) for key in members}
    return all(key == key.lower() for key in keys) and "1e" not in json.dumps(strict).lower()
