"""proxy/backend.py."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.backend import Backend, Resident, make_backend
from proxy.health import Health, Rules


def backend(**more: object) -> Backend:
    return make_backend("a", "http://127.0.0.1:1", **more)  # type: ignore[arg-type]


def test_who_it_is() -> None:
    assert make_backend("a", "http://127.0.0.1:11434").host == b"127.0.0.1:11434"
    assert make_backend("a", "http://[::1]:11434").host == b"[::1]:11434"
    assert make_backend("a", "https://gpu.example.com").host == b"gpu.example.com"
    assert make_backend("a", "http://127.0.0.1:1", shown="${URL}").shown == "${URL}"
    assert "a up, 0 of 4 active" in repr(backend(slots=4))


def test_what_it_has() -> None:
    one = backend()
    assert one.has("m") is None
    assert one.has(None) is True
    one.models = {"m": {}, "n": {}}
    assert (one.has("m"), one.has("x")) == (True, False)
    one.resident["m"] = Resident()
    one.forget("m")
    assert one.has("m") is False
    assert not one.resident


def test_slots_of_the_backend_and_of_a_model() -> None:
    one = backend(slots=2, model_slots={"big": 1})
    assert one.free("big")
    one.began("big", 0.0)
    one.active = 1
    assert not one.free("big")
    assert one.free("small")
    one.active = 2
    assert not one.free("small")
    assert not one.free(None)


def test_load_counts_weight_recent_failures_and_the_ramp() -> None:
    one = backend(weight=2.0)
    one.active = 4
    assert one.load(0.0) == 2.0
    one.health.failures = 4
    assert one.load(0.0) == 3.0
    back = make_backend("b", "http://127.0.0.1:1", rules=Rules(down_after=1, ramp=10.0))
    back.active = 1
    back.health.probe_failed(0.0, "refused")
    back.health.probe_succeeded(100.0)
    assert back.load(100.0) == pytest.approx(10.0)
    assert back.load(110.0) == 1.0


def test_a_model_is_loading_until_its_first_byte() -> None:
    one = backend()
    one.began("m", 1.0)
    assert one.loading["m"] == 1
    one.answered("m")
    assert "m" in one.resident
    assert not one.loading["m"]
    one.ended("m")
    assert not one.active_by_model
    one.began("m", 2.0)
    assert not one.loading["m"]


def test_a_load_that_was_given_up_is_none() -> None:
    one = backend()
    one.began("m", 1.0)
    one.began("m", 1.0)
    one.ended("m")
    assert one.loading["m"]
    one.ended("m")
    assert not one.loading["m"]


def test_its_room_is_learned_from_what_it_throws_out() -> None:
    one = backend()
    for at, model in enumerate(["a", "b"]):
        one.began(model, at)
        one.answered(model)
        one.ended(model)
    one.saw_running({"a": Resident(), "b": Resident()})
    assert one.victim() == float("-inf")
    one.began("c", 5.0)
    one.answered("c")
    one.ended("c")
    one.saw_running({"b": Resident(), "c": Resident()})
    assert one.room == 2
    assert one.victim() == 1.0
    one.began("d", 6.0)
    one.answered("d")
    assert set(one.resident) == {"c", "d"}


def test_a_model_that_only_expired_says_nothing_about_room() -> None:
    one = backend()
    one.saw_running({"a": Resident(), "b": Resident()})
    one.saw_running({"b": Resident()})
    assert one.room is None
    one.saw_running({})
    assert one.room is None


def test_what_we_use_now_is_resident_whatever_a_slow_answer_says() -> None:
    one = backend()
    one.began("m", 1.0)
    one.answered("m")
    one.saw_running({})
    assert "m" in one.resident
    one.ended("m")
    one.saw_running({})
    assert "m" not in one.resident


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from(["began", "answered", "ended"])), max_size=60))
def test_counts_come_back_to_nothing(steps: list[tuple[str, str]]) -> None:
    one, open_requests = backend(), dict.fromkeys("abcd", 0)
    for at, (model, step) in enumerate(steps):
        if step == "began":
            one.began(model, at)
            open_requests[model] += 1
        elif open_requests[model]:
            if step == "answered":
                one.answered(model)
            else:
                one.ended(model)
                open_requests[model] -= 1
    for model, count in open_requests.items():
        for _ in range(count):
            one.ended(model)
    assert not one.active_by_model
    assert not +one.loading


def test_the_trend_follows() -> None:
    one = backend()
    one.waited(1.0)
    one.waited(2.0)
    assert one.first_byte == pytest.approx(1.2)
    assert isinstance(one.health, Health)
