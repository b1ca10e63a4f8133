"""proxy/server/server_state.py."""

import asyncio
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from proxy.kernel.errors import Refused
from proxy.kernel.log_throttle import LOGGED_PER_SECOND
from proxy.server.open_files import limit, reserve
from proxy.server.server_state import (
    Bounds,
    GuardState,
    bounds_of,
    log_bounds,
    uvicorn_log,
)
from tests.support.options import server_options

REFUSED = Refused(400, "no", code="bad_host", headers={"allow": "GET"})


async def test_refusals_are_counted_and_logged_with_their_address() -> None:
    state = GuardState(server_options(), None)
    with capture_logs() as logs:
        state.note_refusal(REFUSED, ("192.0.2.1", 5))
        state.note_refusal(REFUSED, None)
    assert [line["client_address"] for line in logs] == ["192.0.2.1", "unix"]
    assert state.refused.counted == {"bad_host": 2}


async def test_connections_that_are_turned_away_are_counted_and_logged_apart_from_requests() -> None:
    state = GuardState(server_options(), None)
    with capture_logs() as logs:
        for _ in range(LOGGED_PER_SECOND):
            state.note_refusal(REFUSED, None)
        state.note_turned_away("address", "192.0.2.1")
        state.note_turned_away("total", "")
    assert state.refused.turned_away == {"address": 1, "total": 1}
    assert [(event["event"], event["reason"], event["client_address"]) for event in logs[-2:]] == [
        ("connection_refused", "address", "192.0.2.1"),
        ("connection_refused", "total", "unix"),
    ]


@given(
    st.integers(64, 2**20),
    st.none() | st.integers(1, 10**7),
    st.none() | st.integers(1, 10**7),
    st.none() | st.integers(1, 10**7),
)
def test_whatever_is_asked_for_fits_into_the_files_there_are(
    files: int, total: int | None, per_address: int | None, handshakes: int | None
) -> None:
    bounds = bounds_of(server_options(total=total, per_address=per_address, handshakes=handshakes), files)
    assert 1 <= bounds.total <= files - reserve(files)
    assert 1 <= bounds.per_address <= bounds.total
    assert 1 <= bounds.handshakes <= bounds.total
    if total is not None:
        assert bounds.total <= total


@pytest.mark.parametrize(
    ("files", "bounds"),
    [(1024, Bounds(464, 348, 58)), (20_000, Bounds(8192, 6144, 256)), (64, Bounds(16, 12, 8))],
)
def test_what_holds_where_nothing_is_asked_for(files: int, bounds: Bounds) -> None:
    assert bounds_of(server_options(), files) == bounds


def test_what_holds_is_logged() -> None:
    with capture_logs() as logs:
        log_bounds(Bounds(10, 5, 2))
    assert logs == [
        {
            "event": "connections_bounded",
            "log_level": "info",
            "files": limit(),
            "total": 10,
            "per_address": 5,
            "handshakes": 2,
        }
    ]


async def test_a_refusal_is_a_whole_answer() -> None:
    state = GuardState(server_options(), None)
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
