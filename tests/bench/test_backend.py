"""The fake backend on a real socket: what it answers is what Ollama would, with the time in each chunk."""

import json
import socket
import time
from collections.abc import Iterator

import pytest

from bench.plan import HOST
from bench.targets import Target, backend


@pytest.fixture(scope="module")
def target() -> Iterator[Target]:
    with backend() as target:
        yield target


def ask(target: Target, method: str, path: str, body: object = None, pieces: int = 1) -> tuple[bytes, bytes]:
    """Return head and body of the answer; the request is sent in `pieces`."""
    content = b"" if body is None else json.dumps(body).encode()
    request = f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(content)}\r\n\r\n".encode() + content
    with socket.create_connection((HOST, target.port), timeout=10) as connection:
        step = -(-len(request) // pieces)
        for start in range(0, len(request), step):
            connection.sendall(request[start : start + step])
        answer = b""
        while True:
            head, _, got = answer.partition(b"\r\n\r\n")
            if b"Transfer-Encoding" in head and got.endswith(b"0\r\n\r\n"):
                return head, got
            if b"Content-Length: " in head:
                length = int(head.partition(b"Content-Length: ")[2].split(b"\r\n")[0])
                if method == "HEAD" or len(got) == length:
                    return head, got
            answer += connection.recv(65536)


def dechunked(body: bytes) -> list[bytes]:
    chunks = []
    while body:
        size, _, body = body.partition(b"\r\n")
        chunks.append(body[: int(size, 16)])
        assert body[int(size, 16) :][:2] == b"\r\n"
        body = body[int(size, 16) + 2 :]
    assert chunks.pop() == b""
    return chunks


@pytest.mark.parametrize("pieces", [1, 3, 200])
def test_a_stream_has_the_chunks_asked_for_each_with_its_time(target: Target, pieces: int) -> None:
    before = time.monotonic_ns()
    body = {"model": "bench:latest", "stream": True, "options": {"num_predict": 5, "interval_ms": 2}}
    head, got = ask(target, "POST", "/api/chat", body, pieces)
    assert head.startswith(b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson")
    lines = [json.loads(chunk) for chunk in dechunked(got)]
    assert [line["done"] for line in lines] == [False] * 4 + [True]
    assert lines[-1]["eval_count"] == 5
    times = [int(line["sent_at"]) for line in lines[:-1]]
    assert before < times[0] < times[-1] < time.monotonic_ns()
    assert times == sorted(times)


def test_an_answer_in_one_piece(target: Target) -> None:
    _, got = ask(target, "POST", "/api/chat", {"model": "bench:latest", "stream": False})
    assert json.loads(got)["done"] is True


@pytest.mark.parametrize("path", ["/api/version", "/api/tags", "/api/ps"])
def test_what_a_pool_asks_a_backend(target: Target, path: str) -> None:
    head, got = ask(target, "GET", path)
    assert head.startswith(b"HTTP/1.1 200")
    assert json.loads(got)


def test_head_has_no_body_and_an_unknown_path_is_404(target: Target) -> None:
    assert ask(target, "HEAD", "/")[1] == b""
    assert ask(target, "GET", "/nothing")[0].startswith(b"HTTP/1.1 404")
