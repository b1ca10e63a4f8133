"""Decide by the text of an Ollama error answer whether the error is about the request or the host.

Ollama answers many mistakes of callers with 500, and a cloud model that cannot be reached with 502; only the text tells
them apart. Version 0.32.15 answered the texts that ``tests/proxy/relay/test_error_classifier.py`` lists as RECORDED.
The others come from the code of Ollama and llama.cpp and from reports, and were not recorded here.

A caller's own words in an error (a template, a name) stand after its beginning, so the tables of beginnings are checked
first. Texts about the host are checked before texts that may stand anywhere in an error about the request: a sick host
that seems healthy attracts requests and fails them all. A text in no table is judged by the answers of other hosts: see
`proxy.pool.blame`.
"""

import re
from typing import Final

import orjson

from proxy.kernel.asgi import Header
from proxy.kernel.errors import About, ErrorRecord, UpstreamAnswer

LONGEST: Final = 2048
"""Characters of a text that are checked."""

_BEGIN_ABOUT_THE_REQUEST: Final = (
    'option "',  # option "temperature" must be of type float32
    "invalid option",
    "invalid format",  # invalid format: "xml"; expected "json" or a valid JSON Schema object
    "unknown format",
    "invalid json schema",
    "json: ",  # json: cannot unmarshal string into Go value of type api.GenerateRequest
    "invalid character",
    "template: ",  # template: :1: unclosed action
    "unexpected eof",
    "illegal base64",
    "image: unknown format",
    "invalid image",
    "invalid input",
    "invalid message",
    "invalid duration",
    "time: invalid duration",
    "unsupported quantization type",
    "supplied file was not in gguf format",
    "unqualified name",
    "invalid model name",
    "pull model manifest: ",  # the registry has no such model, or cannot be reached
    "prediction aborted, token repeat limit",  # the model repeats itself
    "there was an error signing out",
    "account unavailable",
)
_BEGIN_ABOUT_THE_CLOUD: Final = re.compile(
    r'(?:get|post|put|head|patch|delete) "https?://(?:[\w-]+\.)*(?:ollama\.com|ollama\.ai)[:/"]'
)
"""A request that the host passed on: ``Post "https://ollama.com:443/api/chat?ts=1": dial tcp: …``."""
_NO_SUCH_MODEL: Final = re.compile(r"/manifests/.*: no such file or directory")
"""``open /models/manifests/…: no such file or directory``: the host has no model of that name."""
_NO_SUCH_FILE: Final = re.compile(r"/blobs/sha256[-:][0-9a-f]+: no such file or directory")
"""A file that a request for a new model names, and nobody has sent. (To run a model, the host needs its files.)"""
_CANNOT: Final = re.compile(
    r"does not support (?:embed|tools|thinking|insert|completion|chat|generat|vision|audio|image|multimodal|rerank)"
)
"""The model, or its runner, lacks an ability. (A text about an ability of the GPU is about the host.)"""
_ABOUT_THE_REQUEST: Final = (
    "is missing data required for image input",
    "exceeds the available context size",
    "exceeds the context length",
    "exceeds maximum context length",
    "exceeds context window",
    "prompt is too long",
    "prompt too long",
    "image: unknown format",
    "illegal base64",
    "failed to decode image",
    "failed to load image",
    "failed to parse grammar",
    "failed to load model vocabulary required for format",
    "json schema conversion failed",
    "invalid json schema",
)
_BEGIN_THE_RUNNER_DIED: Final = (
    "an error was encountered while running the model",  # …: CUDA error: …; …: unexpected EOF; …: wsarecv: …
    'do embedding request: post "http://127.0.0.1',
    "post predict:",
    "error reading llm response",
)
_THE_RUNNER_DIED: Final = (
    "runner process has terminated",
    "runner process no longer running",
    "runner terminated",
    "model runner has unexpectedly stopped",
)
_ABOUT_THE_HOST: Final = (
    "cuda error",
    "rocm error",
    "hip error",
    "metal error",
    "out of memory",
    "requires more system memory",
    "insufficient memory",
    "cannot allocate memory",
    "no space left on device",
    "too many open files",
    "unable to load model",
    "error loading model",
    "no such file",
    "permission denied",
    "timed out waiting for llama runner",
    "unable to create llama context",
    "input/output error",
)

_BUSY: Final = b"maximum pending requests exceeded"

_CHANGES: Final = re.compile(r"0x[0-9a-f]+|\b[0-9a-f]{8,}\b|\d+(?:\.\d+)*")
_SPACE: Final = re.compile(r"\s+")


def error_answer(status: int, headers: list[Header], body: bytes) -> UpstreamAnswer:
    """Return a backend's whole error answer, classified by its status and text."""
    text = text_of(body) if status >= 500 else None
    return UpstreamAnswer(
        status,
        headers,
        body,
        busy=status == 503 and _BUSY in body,
        missing=status == 404,
        about="unknown" if text is None else about(text),
        said=None if text is None else comparable(text),
    )


def error_record(text: str, *, manages: bool) -> ErrorRecord:
    """Return the error in a 200, classified by its text.

    `manages`: the request does not run a model, but pulls, pushes or creates one. An error of these that is not known
    to be about the host is about the request: a registry refuses it, or is out of reach.
    """
    text = text[:LONGEST]
    concerns = about(text)
    if manages and (concerns == "unknown" or _NO_SUCH_FILE.search(text.lower())):
        concerns = "request"
    return ErrorRecord(text, about=concerns, said=comparable(text))


def text_of(body: bytes) -> str | None:
    """Return the message of an error answer in the form of Ollama, OpenAI or Anthropic; None for any other form."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    error = document.get("error") if isinstance(document, dict) else None
    if isinstance(error, dict):
        error = error.get("message")
    return error[:LONGEST] if isinstance(error, str) else None


def about(text: str) -> About:
    """Return what an error with this text is about: ``request``, ``host``, ``crash`` (the runner died), ``unknown``."""
    said = text.lower().lstrip()
    if said.startswith(_BEGIN_ABOUT_THE_REQUEST) or _BEGIN_ABOUT_THE_CLOUD.match(said):
        return "request"
    if said.startswith(_BEGIN_THE_RUNNER_DIED) or any(sign in said for sign in _THE_RUNNER_DIED):
        return "crash"
    if _NO_SUCH_MODEL.search(said):
        return "request"
    if any(sign in said for sign in _ABOUT_THE_HOST):
        return "host"
    return "request" if _CANNOT.search(said) or any(sign in said for sign in _ABOUT_THE_REQUEST) else "unknown"


def comparable(text: str) -> str:
    """Return `text` without what differs between hosts in the same error: numbers, addresses, digests, spaces."""
    return _SPACE.sub(" ", _CHANGES.sub("#", text.lower())).strip()
