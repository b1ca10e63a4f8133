"""proxy/pool/residency.py."""

from math import inf

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from proxy.pool.request_needs import Setup
from proxy.pool.residency import Residency, Resident, ResidentModels

LONG: Setup = (("num_ctx", 32768),)


def use(memory: ResidentModels, model: str, at: float, setup: Setup = ()) -> None:
    """A request from its beginning to its end."""
    memory.began(model, setup, at)
    memory.answered(model)
    memory.ended(model, at)


def idle(memory: ResidentModels, model: str) -> float:
    """When that was used last which loading `model` would throw out; -inf for nothing."""
    victim = memory.victim(model)
    return -inf if victim is None else memory.idle_since(victim)


def held(*models: str) -> dict[str, Resident]:
    return dict.fromkeys(models, Resident())


def test_a_model_is_loading_until_its_first_byte() -> None:
    memory = ResidentModels()
    assert memory.state("m") == "cold"
    memory.began("m", (), 1.0)
    memory.began("m", (), 1.0)
    assert memory.state("m") == "loading"
    assert memory.loading["m"] == 2
    memory.answered("m")
    assert memory.state("m") == "loaded"
    memory.answered("m")
    assert not memory.loading
    memory.ended("m", 2.0)
    memory.ended("m", 2.0)
    assert not memory.users
    memory.began("m", (), 3.0)
    assert not memory.loading


def test_a_load_that_was_given_up_is_none() -> None:
    memory = ResidentModels()
    memory.began("m", (), 1.0)
    memory.began("m", (), 1.0)
    memory.ended("m", 1.0)
    assert memory.state("m") == "loading"
    memory.ended("m", 1.0)
    assert memory.state("m") == "cold"


@pytest.mark.parametrize(
    ("before", "context", "setup", "state"),
    [
        ((), None, (), "loaded"),
        ((), 4096, (), "loaded"),
        ((), 4096, (("num_ctx", 4096),), "loaded"),  # spelled out, the host's own default
        ((), 4096, LONG, "cold"),
        ((), None, LONG, "cold"),
        (LONG, 32768, LONG, "loaded"),
        (LONG, 32768, (), "cold"),
        (LONG, 16384, LONG, "loaded"),  # the model can take no more: Ollama cut it down
        (LONG, 16384, (("num_ctx", 16384),), "loaded"),
        (LONG, 16384, (("num_ctx", 65536),), "loaded"),
        (LONG, 16384, (("num_ctx", 8192),), "cold"),
        (LONG, 32768, (("num_ctx", 65536),), "cold"),  # it may be able to take more
        ((("num_gpu", 1),), 4096, (("num_gpu", 1),), "loaded"),
        ((("num_gpu", 1),), 4096, (("num_gpu", 2),), "cold"),
        ((("num_gpu", 1),), 4096, (), "loaded"),  # left out, it takes what there is
        ((("num_gpu", 1),), 4096, (("num_ctx", 4096),), "loaded"),
        ((("num_gpu", 1),), 4096, (("num_ctx", 8192),), "cold"),
        ((), 4096, (("num_gpu", 1),), "cold"),
        ((("num_thread", 1),), 4096, (), "cold"),
        ((), 4096, (("shift", False),), "cold"),
        ((("shift", False),), 4096, (("shift", False),), "loaded"),
        ((("shift", False),), 4096, (), "cold"),
        ((("draft_num_predict", 2),), 4096, (), "cold"),
        ((("draft_num_predict", 2),), 4096, (("draft_num_predict", 3),), "cold"),
    ],
)
def test_in_another_setup_it_is_as_good_as_not_there(
    before: Setup, context: int | None, setup: Setup, state: Residency
) -> None:
    memory = ResidentModels()
    use(memory, "m", 1.0, before)
    memory.saw({"m": Resident(1, context)})
    assert memory.state("m", setup) == state


@pytest.mark.parametrize(("setup", "state"), [((), "loaded"), ((("num_ctx", 8192),), "loaded"), (LONG, "cold")])
def test_what_somebody_else_had_loaded(setup: Setup, state: Residency) -> None:
    memory = ResidentModels()
    memory.saw({"m": Resident(1, 8192)})
    assert memory.state("m", setup) == state


def test_what_a_model_was_trained_with_is_forgotten_with_the_model() -> None:
    memory = ResidentModels()
    use(memory, "m", 1.0, LONG)
    memory.saw({"m": Resident(1, 16384)})
    memory.saw({"m": Resident(1, 20000)})
    assert memory.state("m", (("num_ctx", 20000),)) == "loaded"
    assert memory.state("m", LONG) == "cold"


def test_another_setup_has_it_loaded_anew() -> None:
    memory = ResidentModels()
    use(memory, "m", 1.0)
    memory.began("m", LONG, 2.0)
    assert (memory.state("m", LONG), memory.state("m")) == ("loading", "cold")
    memory.answered("m")
    assert (memory.state("m", LONG), memory.state("m")) == ("loaded", "cold")
    memory.ended("m", 3.0)
    memory.saw({"m": Resident(1, 32768)})
    memory.saw({"m": Resident(1, 4096)})  # and now somebody else did
    assert (memory.state("m", LONG), memory.state("m")) == ("cold", "loaded")


def test_its_room_is_learned_from_what_it_throws_out() -> None:
    memory = ResidentModels()
    for at, model in enumerate(["a", "b"], 1):
        use(memory, model, at)
    memory.saw(held("a", "b"))
    assert idle(memory, "c") == -inf
    use(memory, "c", 5.0)
    assert set(memory.resident) == {"a", "b", "c"}
    memory.saw(held("b", "c"))
    assert idle(memory, "d") == 2.0
    use(memory, "d", 6.0)
    assert set(memory.resident) == {"c", "d"}
    memory.saw(held("d"))  # one expired: there is room for one
    assert idle(memory, "e") == -inf


def test_a_model_that_only_expired_says_nothing_about_room() -> None:
    memory = ResidentModels()
    memory.saw(held("a", "b"))
    memory.saw(held("b"))
    memory.saw({})
    assert idle(memory, "c") == -inf


def test_room_is_counted_in_bytes_where_they_are_known() -> None:
    """A host of 48 GB: it holds a big model, or several small ones."""
    memory = ResidentModels()
    memory.saw({"small": Resident(8)})
    memory.saw({"small": Resident(8), "other": Resident(8)})
    memory.began("big", (), 1.0)
    memory.answered("big")
    memory.saw({"big": Resident(40)})
    memory.ended("big", 2.0)
    assert idle(memory, "small") == 2.0  # two models it did hold at once, 48 bytes it did not
    memory.saw({"big": Resident(40), "small": Resident(8)})
    assert idle(memory, "other") == 0.0  # 56 would be more than ever
    memory.saw({"small": Resident(8)})
    assert idle(memory, "other") == -inf


def test_what_is_in_use_is_thrown_out_last() -> None:
    memory = ResidentModels()
    use(memory, "a", 1.0)
    use(memory, "b", 2.0)
    memory.saw(held("a", "b"))
    use(memory, "c", 3.0)
    memory.saw(held("b", "c"))
    memory.began("b", (), 4.0)
    assert idle(memory, "d") == 3.0
    memory.began("c", (), 4.0)
    assert idle(memory, "d") == inf
    memory.began("d", (), 5.0)
    memory.answered("d")  # so it does hold three
    assert set(memory.resident) == {"b", "c", "d"}
    memory.ended("b", 9.0)
    memory.saw(held("b", "c", "d"))
    assert idle(memory, "e") == 9.0


def test_loading_it_in_another_setup_throws_itself_out() -> None:
    memory = ResidentModels()
    use(memory, "m", 7.0)
    assert idle(memory, "m") == 7.0
    memory.began("m", (), 8.0)
    assert idle(memory, "m") == inf


def test_what_we_use_now_is_there_whatever_a_slow_answer_says() -> None:
    memory = ResidentModels()
    memory.began("m", (), 1.0)
    memory.answered("m")
    memory.saw({})
    assert memory.state("m") == "loaded"
    memory.ended("m", 1.0)
    memory.saw({})
    assert memory.state("m") == "cold"


def test_a_host_that_was_gone_has_nothing_in_memory() -> None:
    memory = ResidentModels()
    use(memory, "a", 1.0)
    memory.saw(held("a"))
    memory.began("b", (), 2.0)
    memory.answered("b")
    memory.saw(held("b"))
    assert memory.victim("c") == "b"
    memory.clear()
    assert not memory.resident
    assert idle(memory, "c") == -inf
    memory.ended("b", 3.0)
    memory.lost("b")


def test_names_that_clients_make_up_leave_nothing_behind() -> None:
    memory = ResidentModels()
    for number in range(100):
        memory.began(f"x{number}", (), 1.0)
        memory.ended(f"x{number}", 1.0)
    assert not memory._used_at
    assert not memory._setups
    use(memory, "m", 1.0)
    memory.saw(held("m"))
    memory.saw({})
    assert not memory._used_at


EVICTED = [
    *[
        ("c", "began"),
        ("a", "began"),
        ("a", "answered"),
        ("a", "saw"),
        ("a", "began"),
        ("c", "ended"),
        ("a", "answered"),
    ]
]


@example(EVICTED, {"c"})
@given(
    st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from(["began", "answered", "ended", "saw"])), max_size=60),
    st.sets(st.sampled_from("abcd")),
)
def test_counts_come_back_to_nothing(steps: list[tuple[str, str]], seen: set[str]) -> None:
    memory, running = ResidentModels(), dict.fromkeys("abcd", 0)
    for at, (model, step) in enumerate(steps):
        if step == "began":
            memory.began(model, LONG if at % 2 else (), at)
            running[model] += 1
        elif step == "saw":
            memory.saw(held(*seen))
        elif running[model]:
            if step == "answered":
                memory.answered(model)
            else:
                memory.ended(model, at)
                running[model] -= 1
    for model, count in running.items():
        for _ in range(count):
            memory.ended(model, 99.0)
    assert not memory.users
    assert not memory.loading
    memory.saw({})
    assert not memory.resident
    assert not memory._setups
