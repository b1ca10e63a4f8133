"""One pipeline for structlog's and the standard library's loggers."""

import logging
import warnings
from collections.abc import Iterator

import pytest
import structlog

from proxy.telemetry.log_setup import MAX_TRACEBACK, _Bridge, configure
from tests.support.logs import Lines

log = structlog.get_logger("ollama_proxy.test")


@pytest.fixture
def lines() -> Iterator[Lines]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    sink = Lines()
    configure(sink, format="json", level="info")
    yield sink
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(False)
    structlog.reset_defaults()


def test_an_event_has_time_level_event_logger_and_what_is_known(lines: Lines) -> None:
    log.info("backend_up", backend="gpu-1")
    (event,) = lines.events
    assert list(event) == ["time", "level", "event", "schema", "logger", "backend"]
    del event["time"]
    assert event == {
        "level": "info",
        "event": "backend_up",
        "schema": 1,
        "logger": "ollama_proxy.test",
        "backend": "gpu-1",
    }


def test_a_logger_made_and_used_before_follows_a_later_configure(lines: Lines) -> None:
    log.debug("unheard")
    later = Lines()
    configure(later, format="console", level="debug")
    log.debug("heard", a=1)
    assert lines.raw == []
    assert later.raw[0].endswith(b"debug    heard logger=ollama_proxy.test a=1")


def test_the_standard_library_speaks_through_the_same_sink(lines: Lines) -> None:
    logging.getLogger("uvicorn.error").warning("odd %s", "thing\n")
    logging.getLogger("uvicorn.error").debug("unheard")
    logging.getLogger("httpx").info("GET http://x/?key=secret")
    (event,) = lines.events
    assert (event["level"], event["event"], event["logger"]) == ("warning", "message", "uvicorn.error")
    assert event["message"] == "odd thing\n"


def test_warnings_too(lines: Lines) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("careful", stacklevel=1)
    assert "careful" in lines.events[0]["message"]


@pytest.mark.parametrize(("level", "name"), [(5, None), (25, "info"), (35, "warning"), (60, "critical")])
def test_odd_levels_find_their_name(lines: Lines, level: int, name: str | None) -> None:
    logging.getLogger("x").log(level, "x")
    assert [event["level"] for event in lines.events] == ([name] if name else [])


def test_a_record_with_bad_arguments_is_not_lost(lines: Lines) -> None:
    bridge = next(handler for handler in logging.getLogger().handlers if isinstance(handler, _Bridge))
    bridge.handle(logging.LogRecord("x", logging.ERROR, __file__, 1, "%d and %d", (1,), None))
    assert lines.events[0]["message"] == "%d and %d"


def test_exceptions_come_along_on_one_line(lines: Lines) -> None:
    try:
        raise ValueError("a\nb")
    except ValueError:
        log.exception("failed")
        logging.getLogger("x").exception("failed")
    for event in lines.events:
        assert event["level"] == "error"
        assert event["exception"].endswith("ValueError: a\nb")
    assert not any(b"\n" in line for line in lines.raw)


def test_a_long_traceback_keeps_its_end(lines: Lines) -> None:
    try:
        raise ValueError("x" * 3 * MAX_TRACEBACK + "the end")
    except ValueError:
        log.exception("failed")
    exception = lines.events[0]["exception"]
    assert len(exception) == MAX_TRACEBACK + 1
    assert exception.endswith("the end")
