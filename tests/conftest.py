"""Fixtures for the whole suite."""

import asyncio
import gc
import logging
import os
from collections.abc import Callable, Iterator, Mapping

import pytest
import structlog
from hypothesis import settings

from proxy.server.server import new_event_loop
from proxy.telemetry.log_setup import _Bridge

# How long one example takes says more about the machine than about the code.
settings.register_profile("suite", deadline=None)
settings.load_profile("suite")

LoopFactory = Callable[[], asyncio.AbstractEventLoop]


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> Mapping[str, LoopFactory]:
    """Run tests on asyncio's own loop; those of a module with ``BOTH_LOOPS = True`` on the loop of production too."""
    factories: dict[str, LoopFactory] = {"asyncio": asyncio.new_event_loop}
    if getattr(getattr(item, "module", None), "BOTH_LOOPS", False):
        factories["uvloop"] = new_event_loop
    return factories


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let nobody call a test a matter of time without saying why: CI tries such a test a second time."""
    for item in items:
        for mark in item.iter_markers("timing"):
            if mark.args or not str(mark.kwargs.get("reason", "")).strip():
                raise pytest.UsageError(f"{item.nodeid}: write @pytest.mark.timing(reason=...)")


def pytest_collection_finish() -> None:
    """Leave the tests themselves out of what the garbage collector looks at: many tests wait for a whole collection."""
    gc.collect()
    gc.freeze()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say what repeats the order of this run."""
    if (seed := config.getoption("randomly_seed", None)) is not None:
        terminalreporter.write_line(f"in random order: --randomly-seed={seed}")


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    """Undo what `log_setup.configure` does to the whole process, so that no test depends on the ones before it."""
    yield
    root = logging.getLogger()
    root.handlers[:] = [handler for handler in root.handlers if not isinstance(handler, _Bridge)]
    root.setLevel(logging.WARNING)
    logging.captureWarnings(False)
    structlog.reset_defaults()


@pytest.fixture
def need() -> "Need":
    """Skip with a reason where a server is missing locally; fail in CI, which installs all of them."""
    return Need()


class Need:
    """``need("redis-server", found)``."""

    def __call__(self, what: str, found: bool) -> None:
        if found:
            return
        if os.environ.get("CI"):
            pytest.fail(f"{what} is missing: .ci/run must install it")
        pytest.skip(f"{what} is not installed")
