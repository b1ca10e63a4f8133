"""proxy/pool/permits_wanted.py: for which backends a request asks the fleet."""

from proxy.pool.pool import Pool
from proxy.pool.residency import Resident
from tests.proxy.pool.test_pool import MODEL, chat, loaded, pool


def shared(*weights: float, slots: int = 2) -> Pool:
    found = pool(*weights, slots=slots)
    for backend in found.backends:
        backend.permits = 0
        backend.models = {MODEL: {}}
    return found


async def test_all_that_are_as_good_are_asked_for() -> None:
    three = shared(1, 1, 1)
    assert set(three.wanted(await chat())) == {f"http://127.0.0.1:{port}" for port in (1, 2, 3)}


async def test_one_that_has_the_model_in_memory_is_asked_for_alone_even_where_others_have_its_slots() -> None:
    two = shared(1, 1)
    loaded(two.backends[0])
    assert two.wanted(await chat()) == ("http://127.0.0.1:1",)
    two.backends[0].elsewhere = 2
    assert two.wanted(await chat()) == ("http://127.0.0.1:1",)


async def test_one_whose_slots_this_proxy_has_all_taken_is_not_asked_for() -> None:
    two = shared(1, 1)
    two.backends[0].active = two.backends[0].permits = 2
    assert two.wanted(await chat()) == ("http://127.0.0.1:2",)


async def test_a_request_that_names_its_backend_asks_for_that_one() -> None:
    two = shared(1, 1)
    assert two.wanted(await chat(pinned="b2")) == ("http://127.0.0.1:2",)


async def test_without_a_fleet_nothing_is_asked_for() -> None:
    two = pool(1, 1, slots=2)
    two.backends[0].residency.saw({MODEL: Resident()})
    assert two.wanted(await chat()) == ()
