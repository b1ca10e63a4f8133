"""proxy/relay/error_classifier.py: what a real Ollama said, as a table."""

from collections.abc import Callable, Mapping
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.kernel.errors import About
from proxy.relay.error_classifier import LONGEST, about, comparable, error_answer, error_record, text_of

CLOUD = 'Post "https://ollama.com:443/api/chat?ts=1796032345": proxyconnect tcp: connection refused'
RECORDED = [
    (500, 'option "temperature" must be of type float32'),
    (500, 'option "num_predict" must be of type integer'),
    (500, 'option "use_mmap" must be of type boolean'),
    (500, 'invalid format: "\\"xml\\""; expected "json" or a valid JSON Schema object'),
    (500, "This server does not support embeddings. Start it with `--embeddings`"),
    (500, "unsupported quantization type Q99 - supported types are F32, F16, Q4_K_S, Q4_K_M, Q8_0"),
    (500, 'pull model manifest: Get "https://registry.ollama.ai/v2/library/nope/manifests/latest": connection refused'),
    (500, "open /models/manifests/registry.ollama.ai/me/tiny/latest: no such file or directory"),
    (500, "there was an error signing out"),
    (502, CLOUD),
    (502, CLOUD.replace("/api/chat", "/v1/messages")),
    (502, CLOUD.replace("/api/chat", "/api/web_search")),
    (503, "account unavailable"),
]
"""Statuses and texts of a 0.32.15 for what was the caller's mistake, or the cloud's."""
KNOWN = [  # as messages of Ollama and llama.cpp, recorded by nobody here
    "template: :1: unclosed action",
    'template: :1: function "runner process has terminated" not defined',
    "json: cannot unmarshal string into Go value of type api.GenerateRequest",
    "registry.ollama.ai/library/tiny:latest does not support insert",
    '"tiny" does not support thinking',
    "request (8813 tokens) exceeds the available context size (512 tokens), try increasing it",
    "the input length exceeds the context length",
    "illegal base64 data at input byte 0",
    "failed to process inputs: image: unknown format",
    "Failed to initialize samplers: failed to parse grammar",
    "invalid JSON schema in format",
    "prediction aborted, token repeat limit reached",
    "this model is missing data required for image input",
]
CRASHES = [
    "llama runner process has terminated: exit status 2",
    "llama runner process has terminated: CUDA error: an illegal memory access was encountered",
    "llama runner process no longer running: 2 cudaMalloc failed: out of memory",
    "an error was encountered while running the model: CUDA error: an illegal memory access was encountered",
    "an error was encountered while running the model: unexpected EOF",
    "an error was encountered while running the model: read tcp 127.0.0.1:1->127.0.0.1:2: wsarecv: forcibly closed",
    'do embedding request: Post "http://127.0.0.1:43121/embedding": EOF',
    'POST predict: Post "http://127.0.0.1:43121/completion": EOF',
    "error reading llm response: read tcp 127.0.0.1:1->127.0.0.1:2: connection reset by peer",
    "model runner has unexpectedly stopped, this may be due to resource limitations",
]
OF_THE_HOST = [
    "model requires more system memory (12.3 GiB) than is available (7.9 GiB)",
    "CUDA error: out of memory",
    "out of memory",
    "open /models/blobs/sha256-1111: no such file or directory",
    "unable to load model: /models/blobs/sha256-11",
    "timed out waiting for llama runner to start - progress 0.00 -",
    "write /models/blobs/x: no space left on device",
    "open /models/manifests/registry.ollama.ai/library/tiny/latest: input/output error",
    "open /models/manifests/registry.ollama.ai/library/tiny/latest: too many open files",
    "open /models/manifests/registry.ollama.ai/library/tiny/latest: permission denied",
    "CUDA error: the device does not support image kernels",
]
FORMS: Mapping[str, Callable[[str], dict[str, Any]]] = {
    "ollama": lambda text: {"error": text},
    "openai": lambda text: {"error": {"message": text, "type": "api_error", "param": None, "code": None}},
    "anthropic": lambda text: {"type": "error", "error": {"type": "api_error", "message": text}, "request_id": "req_1"},
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("status", "text", "expected"),
    [
        *((status, text, "request") for status, text in RECORDED),
        *((500, text, "request") for text in KNOWN),
        *((500, text, "crash") for text in CRASHES),
        *((500, text, "host") for text in OF_THE_HOST),
        (500, "something that nobody ever saw", "unknown"),
        (500, "gpu does not support flash attention", "unknown"),
        (500, "", "unknown"),
    ],
)
def test_what_an_error_is_about(form: str, status: int, text: str, expected: About) -> None:
    error = error_answer(status, [], orjson.dumps(FORMS[form](text)))
    assert error.about == expected
    assert error.said == (status, comparable(text))
    assert not error.busy


NO_FILE = f"open /models/blobs/sha256-{'1' * 64}: no such file or directory"


@pytest.mark.parametrize(
    ("text", "manages", "expected"),
    [
        *((text, manages, "request") for text in KNOWN for manages in (False, True)),
        *((text, False, "crash") for text in CRASHES),
        ("write /models/blobs/x: no space left on device", True, "host"),
        (NO_FILE, False, "host"),
        (NO_FILE, True, "request"),
        ("something that nobody ever saw", False, "unknown"),
        ("something that nobody ever saw", True, "request"),
    ],
)
def test_an_error_in_a_200_is_about_the_same(text: str, manages: bool, expected: About) -> None:
    error = error_record(text, manages=manages)
    assert (error.about, error.outcome) == (expected, "upstream_failed")
    assert error.said == error_answer(500, [], orjson.dumps({"error": text})).said
    assert text in error.detail


def test_only_the_beginning_of_a_text_is_kept() -> None:
    assert len(error_record("x" * 10**6, manages=False).detail) < LONGEST + 100


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>502</html>", b"[]", b"1", b"{}", b'{"error":1}', b'{"error":{}}', b'{"no":1}'],
)
def test_what_is_no_error_in_json(body: bytes) -> None:
    error = error_answer(502, [], body)
    assert (error.about, error.said) == ("unknown", None)


def test_what_is_not_looked_at() -> None:
    assert error_answer(404, [], b'{"error":"model not found"}').missing
    assert error_answer(404, [], b'{"error":"model not found"}').said is None
    assert error_answer(503, [], b'{"error":"server busy, maximum pending requests exceeded"}').busy


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("requires 12.3 GiB, 7.9 GiB free", "requires 12.3 GiB, 31 GiB free"),
        ("fault at 0x7f3a9c", "Fault  at 0xdeadbeef"),
        ("blob 0123abcd4567 is bad", "blob ffffffffffff is bad"),
        ("dial tcp 10.0.0.1:1", "dial tcp 10.0.0.22:43123"),
    ],
)
def test_two_hosts_say_the_same_with_other_numbers(one: str, other: str) -> None:
    assert comparable(one) == comparable(other)
    assert comparable(one) != comparable("something else")


@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda text: orjson.dumps({"error": text})))
def test_no_body_is_too_odd(body: bytes) -> None:
    text = text_of(body)
    if text is not None:
        assert about(text) in ("request", "host", "crash", "unknown")
        assert comparable(comparable(text)) == comparable(text)
