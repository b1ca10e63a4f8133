"""proxy/server/open_files.py."""

import resource

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.server.open_files import MOST, MOST_CLIENTS, for_clients, for_ops, limit, raise_limit, reserve


@given(st.integers(min_value=128, max_value=MOST))
def test_clients_with_a_host_each_leave_room_for_everything_else(files: int) -> None:
    assert 2 * for_clients(files) + reserve(files) <= files
    assert for_ops(files) < reserve(files)


@pytest.mark.parametrize(
    ("files", "clients"), [(1024, 464), (4096, 1856), (20_000, MOST_CLIENTS), (MOST, MOST_CLIENTS)]
)
def test_what_usual_limits_come_to(files: int, clients: int) -> None:
    assert for_clients(files) == clients


class Limits:
    """The limits of a process, so that those of the tests' own stay."""

    def __init__(self, soft: int, hard: int, *, fixed: bool = False) -> None:
        self.now = (soft, hard)
        self._fixed = fixed

    def get(self, which: int) -> tuple[int, int]:
        assert which == resource.RLIMIT_NOFILE
        return self.now

    def set(self, which: int, limits: tuple[int, int]) -> None:
        if self._fixed:
            raise ValueError("not allowed to raise maximum limit")
        self.now = limits


@pytest.mark.parametrize(
    ("soft", "hard", "fixed", "then"),
    [
        (1024, 4096, False, 4096),
        (1024, 1024, False, 1024),
        (1024, resource.RLIM_INFINITY, False, MOST),
        (1024, 4096, True, 1024),
        (resource.RLIM_INFINITY, resource.RLIM_INFINITY, False, MOST),
    ],
)
def test_the_limit_is_raised_as_far_as_it_may_be(
    soft: int, hard: int, fixed: bool, then: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = Limits(soft, hard, fixed=fixed)
    monkeypatch.setattr("proxy.server.open_files.resource.getrlimit", limits.get)
    monkeypatch.setattr("proxy.server.open_files.resource.setrlimit", limits.set)
    assert raise_limit() == limit() == then
    assert limits.now[1] == hard
