"""proxy/pool/lease.py."""

import asyncio

import pytest

from proxy.kernel.errors import ClientGone, ConnectFailed, UpstreamTimeout
from proxy.pool.backend import Backend
from proxy.pool.lease import Lease
from proxy.pool.request_needs import NOTHING, Need
from proxy.pool.residency import Resident
from tests.support.options import health_rules, make_backend

RUNS_M = Need(model="m", runs=True)


def take(need: Need = RUNS_M, *, grace: float = 0.0, backend: Backend | None = None) -> tuple[Lease, list[Lease]]:
    freed: list[Lease] = []
    backend = backend or make_backend("a", "http://127.0.0.1:1")
    return Lease(backend, need, grace=grace, freed=freed.append), freed


def warm() -> Backend:
    backend = make_backend("a", "http://127.0.0.1:1")
    backend.residency.saw({"m": Resident(1, 4096)})
    return backend


def test_it_counts_until_it_is_left_and_only_once() -> None:
    lease, freed = take()
    assert (lease.backend.active, lease.backend.leases) == (1, 1)
    assert "for m" in repr(lease)
    with lease:
        pass
    with lease:
        pass
    lease.give_back()
    assert (lease.backend.active, lease.backend.leases) == (0, 0)
    assert freed == [lease]
    assert "(left)" in repr(lease)


def test_one_that_was_never_used_is_given_back() -> None:
    lease, freed = take()
    lease.give_back()
    lease.give_back()
    assert (lease.backend.active, len(freed)) == (0, 1)
    assert not lease.backend.loading


@pytest.mark.parametrize("need", [NOTHING, Need(model="m", runs=False)])
def test_what_runs_no_model_takes_no_slot(need: Need) -> None:
    lease, freed = take(need)
    assert (lease.backend.active, lease.backend.leases) == (0, 1)
    assert not lease.cold
    with lease:
        lease.first_byte()
    assert not lease.backend.resident
    assert lease.backend.leases == 0
    assert freed == [lease]


def test_whether_it_was_cold_and_what_its_first_byte_says() -> None:
    cold, _ = take()
    assert cold.cold
    cold.first_byte()
    assert "m" in cold.backend.resident
    assert cold.waited is not None
    assert cold.backend.first_byte is None
    lease, _ = take(backend=warm())
    assert not lease.cold
    lease.first_byte()
    assert lease.backend.first_byte == lease.waited
    assert lease.held >= 0
    other, _ = take(Need(model="m", runs=True, setup=(("num_ctx", 32768),)), backend=warm())
    assert other.cold


def test_an_error_and_an_answer_in_one_piece_say_nothing_about_the_first_byte() -> None:
    refused, _ = take()
    refused.first_byte(served=False)
    assert not refused.backend.resident
    whole, _ = take(backend=warm())
    whole.first_byte(streamed=False)
    assert whole.backend.first_byte is None
    assert (refused.waited, whole.waited) == (None, None)
    assert (refused.served, whole.served) == (False, True)


@pytest.mark.parametrize(
    "error", [asyncio.CancelledError(), ClientGone(), UpstreamTimeout("slow", timer="first_byte", sent=True)], ids=repr
)
async def test_when_we_hang_up_before_a_byte_the_slot_is_held_back(error: BaseException) -> None:
    done = asyncio.Event()
    backend = make_backend("a", "http://127.0.0.1:1")
    lease = Lease(backend, RUNS_M, grace=0.01, freed=lambda _: done.set())
    with pytest.raises(type(error)), lease:
        raise error
    assert (backend.active, backend.leases) == (1, 1)
    lease.give_back()
    async with asyncio.timeout(5):
        await done.wait()
    assert (backend.active, backend.leases) == (0, 0)


@pytest.mark.parametrize("error", [ConnectFailed("refused"), UpstreamTimeout("slow", timer="connect")], ids=repr)
async def test_when_the_backend_knows_of_nothing_it_is_not(error: BaseException) -> None:
    lease, _ = take(grace=60.0)
    with pytest.raises(type(error)), lease:
        raise error
    assert lease.backend.active == 0


async def test_behind_the_first_byte_it_is_not() -> None:
    lease, _ = take(grace=60.0)
    lease.first_byte()
    with pytest.raises(asyncio.CancelledError), lease:
        raise asyncio.CancelledError
    assert lease.backend.active == 0
    lease, _ = take(NOTHING, grace=60.0)
    with pytest.raises(asyncio.CancelledError), lease:
        raise asyncio.CancelledError
    assert lease.backend.leases == 0


def ejected() -> Backend:
    backend = make_backend("a", "http://127.0.0.1:1", rules=health_rules(eject_for=0.0))
    backend.health.eject(0.0, "reset")
    return backend


def test_the_one_on_trial_ends_its_trial_whatever_becomes_of_it() -> None:
    backend = ejected()
    trial, _ = take(backend=backend)
    other, _ = take(backend=backend)
    assert (trial.trial, other.trial) == (True, False)
    other.give_back()
    assert not backend.health.usable(1.0)
    trial.give_back()
    assert backend.health.usable(1.0)


def test_a_trial_is_over_with_its_first_byte() -> None:
    backend = ejected()
    trial, _ = take(backend=backend)
    trial.first_byte()
    assert backend.health.usable(1.0)
    second, _ = take(backend=backend)
    assert second.trial
    with trial:
        pass
    assert not backend.health.usable(1.0)  # the second is still out


def answered(backend: Backend, seconds: float) -> None:
    """The model's answers usually take so many seconds to begin."""
    backend.waited("m", seconds, 0.0)


async def leave(backend: Backend, *, grace: float = 0.001, grace_at_most: float = 60.0) -> asyncio.Event:
    """Begin a request whose client leaves at once; the event is set when its slot is free."""
    done = asyncio.Event()
    lease = Lease(backend, RUNS_M, grace=grace, grace_at_most=grace_at_most, freed=lambda _: done.set())
    with pytest.raises(ClientGone), lease:
        raise ClientGone
    return done


async def test_the_slot_is_held_back_for_as_long_as_was_learned() -> None:
    backend = warm()
    answered(backend, 0.0)
    await (await leave(backend, grace=0.05)).wait()
    late = Lease(backend, RUNS_M, grace=3600.0, grace_at_most=3600.0, freed=lambda _: None)
    late.first_byte()  # later than the usual 0 s
    learned = backend.busy_runners.expected("m")
    assert learned is not None
    assert learned > 0
    assert backend.first_bytes.get("m") == 0.0  # that it was late says nothing about the backend
    late.give_back()
    assert backend.active == 0


async def test_the_slot_of_a_model_that_was_still_to_be_loaded_is_held_for_the_least_time() -> None:
    cold = make_backend("a", "http://127.0.0.1:1")
    answered(cold, 3600.0)
    async with asyncio.timeout(10):
        await (await leave(cold, grace_at_most=3600.0)).wait()
    assert cold.active == 0


async def test_a_slot_is_held_no_longer_than_the_most() -> None:
    backend = warm()
    answered(backend, 3600.0)
    async with asyncio.timeout(10):
        await (await leave(backend, grace_at_most=0.002)).wait()
    assert (backend.active, backend.leases, backend.parallel.of("m")) == (0, 0, None)


async def test_while_it_is_held_nothing_is_tried() -> None:
    backend = warm()
    done = await leave(backend, grace=0.01)
    runs = backend.parallel.of("m")
    assert runs is not None
    runs.limit = 1
    assert not backend.trial_due("m")
    await done.wait()
    assert not backend.trial_due("m")
    assert runs.room


def test_embeddings_are_counted_by_model() -> None:
    lease, _ = take(Need(model="m", runs=True, embeds=True))
    assert lease.backend.embedding == {"m": 1}
    lease.give_back()
    assert not lease.backend.embedding  # clients can name anything


def test_that_answers_run_side_by_side_is_learned_and_errors_teach_nothing() -> None:
    backend = warm()
    first, second, third = (take(backend=backend)[0] for _ in range(3))
    runs = backend.parallel.of("m")
    assert runs is not None
    runs.limit = 1
    first.first_byte(served=False)
    second.first_byte(served=False)
    assert runs.limit == 1
    third.first_byte()
    assert runs.limit == 3  # two that were sent before are not over
