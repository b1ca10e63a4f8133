"""Fixtures for the whole suite."""

import os

import pytest


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
