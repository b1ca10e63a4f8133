"""proxy/lease.py."""

import asyncio

import pytest

from proxy.backend import Resident, make_backend
from proxy.errors import ClientGone, ConnectFailed
from proxy.lease import Lease


def take(grace: float = 0.0, model: str | None = "m", resident: bool = False) -> tuple[Lease, list[Lease]]:
    backend = make_backend("a", "http://127.0.0.1:1")
    if resident:
        backend.resident["m"] = Resident()
    freed: list[Lease] = []
    return Lease(backend, model, grace=grace, freed=freed.append), freed


def test_it_counts_until_it_is_left_and_only_once() -> None:
    lease, freed = take()
    assert lease.backend.active == 1
    assert "for m" in repr(lease)
    with lease:
        pass
    with lease:
        pass
    lease.give_back()
    assert lease.backend.active == 0
    assert freed == [lease]
    assert "(left)" in repr(lease)


def test_one_that_was_never_used_is_given_back() -> None:
    lease, freed = take()
    lease.give_back()
    lease.give_back()
    assert (lease.backend.active, len(freed)) == (0, 1)
    assert not lease.backend.loading["m"]


def test_whether_it_was_cold_and_what_its_first_byte_says() -> None:
    cold, _ = take()
    assert cold.cold
    cold.first_byte()
    assert "m" in cold.backend.resident
    assert cold.backend.first_byte is None
    warm, _ = take(resident=True)
    assert not warm.cold
    warm.first_byte()
    assert warm.backend.first_byte is not None
    none, _ = take(model=None)
    assert not none.cold
    none.first_byte()
    assert none.held >= 0


@pytest.mark.parametrize("error", [asyncio.CancelledError, ClientGone])
async def test_after_a_client_left_without_a_byte_the_slot_is_held_back(error: type[BaseException]) -> None:
    done = asyncio.Event()
    backend = make_backend("a", "http://127.0.0.1:1")
    lease = Lease(backend, "m", grace=0.01, freed=lambda _: done.set())
    with pytest.raises(error), lease:
        raise error
    assert backend.active == 1
    async with asyncio.timeout(5):
        await done.wait()
    assert backend.active == 0


async def test_behind_the_first_byte_and_after_a_failure_it_is_not() -> None:
    lease, _ = take(grace=60.0)
    lease.first_byte()
    with pytest.raises(asyncio.CancelledError), lease:
        raise asyncio.CancelledError
    assert lease.backend.active == 0
    lease, _ = take(grace=60.0)
    with pytest.raises(ConnectFailed), lease:
        raise ConnectFailed("refused")
    assert lease.backend.active == 0
