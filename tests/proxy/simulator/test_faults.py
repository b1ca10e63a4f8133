import pytest

from proxy.simulator import Fault, Ollama
from proxy.simulator.faults import Faults
from proxy.simulator.request import Request
from tests.proxy.simulator.client import ask, chat


def request(route: str | None = "/api/chat", target: bytes = b"/api/chat") -> Request:
    made = Request(1, 1, 1, "POST", target, [])
    made.route = route
    return made


def armed(*each: Fault) -> Faults:
    faults = Faults()
    for fault in each:
        faults.arm(fault)
    return faults


def test_the_first_match_with_hits_left_strikes() -> None:
    once, twice = Fault(kind="reset"), Fault(kind="close", times=2)
    faults = armed(once, twice)
    assert [faults.take(request()) for _ in range(4)] == [once, twice, twice, None]
    assert (once.hits, twice.hits) == (1, 2)


def test_faults_choose_by_route_and_predicate() -> None:
    fault = Fault(kind="reset", route="/api/chat", when=lambda each: each.target.endswith(b"?x"))
    faults = armed(fault)
    assert faults.take(request(route="/api/tags")) is None
    assert faults.take(request(route=None)) is None
    assert faults.take(request()) is None
    assert faults.take(request(target=b"/api/chat?x")) is fault


def test_endless_faults() -> None:
    fault = Fault(kind="reset", times=None)
    faults = armed(fault)
    assert all(faults.take(request()) is fault for _ in range(100))


def test_slow_accepts_are_for_connections() -> None:
    faults = armed(Fault(kind="slow_accept", delay=2.0))
    assert faults.take(request()) is None
    assert faults.take_slow_accept() == 2.0
    assert faults.take_slow_accept() == 0.0


def test_clearing_releases_even_those_that_struck_already() -> None:
    struck, armed_still = Fault(kind="stall"), Fault(kind="stall", times=None)
    faults = armed(struck, armed_still)
    faults.take(request())
    faults.clear()
    assert struck.released.is_set()
    assert armed_still.released.is_set()
    assert faults.take(request()) is None


def test_unknown_kinds_are_refused() -> None:
    with pytest.raises(ValueError, match="unknown kind of fault 'explode'; one of reset, close"):
        Fault(kind="explode")  # type: ignore[arg-type]  # what is being tested


async def test_the_simulator_arms_counts_and_clears() -> None:
    async with Ollama() as sim:
        fault = sim.fault("status", "/api/chat", times=None, status=500)
        for _ in range(2):
            assert (await ask(sim, "POST", "/api/chat", chat())).status == 500
        assert (await ask(sim, "GET", "/api/tags")).status == 200
        assert (fault.hits, sim.counters.faults, [each.fault for each in sim.requests]) == (
            2,
            2,
            ["status"] * 2 + [None],
        )
        sim.clear()
        assert (await ask(sim, "POST", "/api/chat", chat())).status == 200
        assert fault.released.is_set()
