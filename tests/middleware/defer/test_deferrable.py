"""middleware/defer/deferrable.py."""

import pytest
import zstandard

from middleware.defer.deferrable import deferrable, plain_body
from proxy.testing import make_exchange


@pytest.mark.parametrize(
    ("method", "path", "kept"),
    [
        ("POST", "/api/chat", True),
        ("POST", "/v1/messages", True),
        ("POST", "/v1/audio/transcriptions", True),
        ("GET", "/api/tags", False),
        ("POST", "/api/pull", False),
        ("POST", "/api/blobs/sha256:1", False),
        ("GET", "/nothing", False),
    ],
)
def test_only_requests_that_run_a_model_are_kept(method: str, path: str, kept: bool) -> None:
    assert (deferrable(make_exchange(method, path)) is not None) == kept


async def test_a_body_is_kept_without_its_encoding() -> None:
    body = b'{"model": "m", "messages": []}'
    packed = zstandard.compress(body)
    sent = make_exchange("POST", "/v1/chat/completions", body=packed, headers=[("Content-Encoding", "zstd")])
    assert await plain_body(sent) == body
    assert await plain_body(make_exchange(body=body)) == body
