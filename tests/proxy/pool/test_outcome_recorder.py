"""proxy/pool/outcome_recorder.py."""

import asyncio

import pytest

from proxy.kernel.errors import (
    BadAnswer,
    ConnectFailed,
    ConnectionLost,
    ErrorRecord,
    Truncated,
    UpstreamError,
    UpstreamTimeout,
)
from proxy.pool.outcome_recorder import is_failure, word_for
from tests.support.errors import answered


@pytest.mark.parametrize(
    ("error", "failure", "word"),
    [
        (ConnectFailed("refused"), True, "upstream_unreachable"),
        (ConnectionLost("reset", sent=True, reused=False), True, "upstream_connection_lost"),
        (BadAnswer("junk"), True, "upstream_bad_answer"),
        (Truncated("cut"), True, "upstream_truncated"),
        (UpstreamTimeout("slow", timer="first_byte"), True, "first_byte_timeout"),
        (UpstreamTimeout("slow", timer="load"), True, "load_timeout"),
        (UpstreamTimeout("slow", timer="total"), False, "total_timeout"),
        (answered(500), True, "status_500"),
        (answered(503), True, "status_503"),
        (answered(500, about="request"), False, "content"),
        (ErrorRecord("boom", about="unknown", said="boom"), True, "upstream_error"),
        (ErrorRecord("boom", about="crash", said="boom"), True, "upstream_error"),
        (ErrorRecord("boom", about="request", said="boom"), False, "content"),
        (answered(502, about="request"), False, "content"),
        (answered(500, about="host"), True, "status_500"),
        (UpstreamError("it cannot be written", status=400), False, "upstream_failed"),
        (answered(503, busy=True), False, "busy"),
        (answered(404, missing=True), False, "missing"),
    ],
    ids=str,
)
def test_what_is_a_sign_of_sickness(error: UpstreamError, failure: bool, word: str) -> None:
    assert is_failure(error) is failure
    assert word_for(error) == word


def test_words_for_what_is_no_error_of_a_backend() -> None:
    assert word_for(None) is None
    assert word_for(asyncio.CancelledError()) == "cancelled"
