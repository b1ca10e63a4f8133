"""proxy/connections.py."""

import asyncio
import logging

import pytest
from structlog.testing import capture_logs

from proxy.connections import LOGGED_PER_SECOND, ConnectionOptions, SharedState, uvicorn_log
from proxy.errors import Refused

REFUSED = Refused(400, "no", code="bad_host", headers={"allow": "GET"})


async def test_refusals_are_counted_and_a_few_of_them_logged_per_second(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("proxy.connections.time.monotonic", lambda: now)
    state = SharedState(ConnectionOptions(), None)
    with capture_logs() as logs:
        for _ in range(LOGGED_PER_SECOND + 7):
            state.note_refusal(REFUSED, ("192.0.2.1", 5))
        now = 101.0
        state.note_refusal(REFUSED, None)
        state.note_refusal(REFUSED, None)
    assert len(logs) == LOGGED_PER_SECOND + 2
    assert logs[0]["client_address"] == "192.0.2.1"
    assert (logs[-2]["left_out"], logs[-2]["client_address"]) == (7, "unix")
    assert logs[-1]["left_out"] == 0
    assert state.refusals == {"bad_host": LOGGED_PER_SECOND + 9}


async def test_a_refusal_is_a_whole_answer() -> None:
    state = SharedState(ConnectionOptions(), None)
    state.default_headers = [(b"date", b"today")]
    assert state.refusal(REFUSED) == (
        b"HTTP/1.1 400 Bad Request\r\n"
        b"date: today\r\n"
        b"content-type: text/plain; charset=utf-8\r\n"
        b"content-length: 2\r\n"
        b"allow: GET\r\n"
        b"connection: close\r\n"
        b"\r\n"
        b"no"
    )


@pytest.mark.parametrize(
    ("message", "error", "logged"),
    [
        ("ASGI callable returned without completing response.", None, False),
        ("Exception in ASGI application\n", asyncio.CancelledError(), False),
        ("Exception in ASGI application\n", LookupError(), True),
        ("ASGI callable returned without starting response.", None, True),
    ],
)
def test_only_what_is_an_error_is_logged(
    message: str, error: BaseException | None, logged: bool, caplog: pytest.LogCaptureFixture
) -> None:
    uvicorn_log.log(logging.ERROR, message, exc_info=error)
    assert bool(caplog.records) is logged
