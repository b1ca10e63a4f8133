import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest

from proxy.simulator.counters import Counters
from proxy.simulator.loaded_models import BadOption, Busy, Engine, runner_options
from proxy.simulator.settings import Model, Settings


class Rig:
    """An engine with its numbers, and ways to wait for it."""

    def __init__(self, **changes: Any) -> None:
        self.settings = Settings(**changes)
        self.counters = Counters()
        self.change = asyncio.Event()
        self.engine = Engine(self.settings, self.counters, self.change.set)

    async def until(self, **numbers: int) -> None:
        async with asyncio.timeout(5):
            while any(getattr(self.counters, name) != number for name, number in numbers.items()):
                self.change.clear()
                await self.change.wait()

    def hold(self, name: str, keep_alive: float | None = None, **options: Any) -> Any:
        return self.engine.hold(name, Model(name), options, keep_alive)

    async def touch(self, name: str, keep_alive: float | None = None, **options: Any) -> None:
        async with self.hold(name, keep_alive, **options):
            pass


@pytest.fixture
async def tasks() -> AsyncIterator[list[asyncio.Task[None]]]:
    running: list[asyncio.Task[None]] = []
    yield running
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)


async def test_a_model_is_loaded_once() -> None:
    rig = Rig()
    await rig.touch("a")
    await rig.touch("a")
    assert (rig.counters.loads, list(rig.engine.loaded)) == (1, ["a"])


@pytest.mark.parametrize("option", ["num_ctx", "num_batch", "num_gpu", "main_gpu", "num_thread", "draft_num_predict"])
async def test_other_runner_options_load_anew(option: str) -> None:
    rig = Rig()
    await rig.touch("a")
    await rig.touch("a", **{option: 7})
    await rig.touch("a", **{option: 7.0})
    assert (rig.counters.loads, rig.counters.unloads) == (2, 1)


async def test_sampling_options_and_other_spellings_do_not() -> None:
    rig = Rig()
    await rig.touch("a")
    await rig.touch("a", temperature=1, seed=7, num_predict=3, NUM_CTX=9, num_ctx=4096)
    assert rig.counters.loads == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_ctx": "8192"}, 'option "num_ctx" must be of type integer'),
        ({"num_gpu": True}, 'option "num_gpu" must be of type integer'),
        ({"use_mmap": 1}, 'option "use_mmap" must be of type boolean'),
    ],
)
def test_options_have_types(options: dict[str, Any], message: str) -> None:
    with pytest.raises(BadOption, match=message):
        runner_options(options, Model("a"))


async def test_a_context_is_no_longer_than_the_model_was_trained_for() -> None:
    rig = Rig()
    await rig.touch("a", num_ctx=1_000_000)
    await rig.touch("a", num_ctx=2_000_000)
    assert (rig.counters.loads, rig.engine.loaded["a"].options["num_ctx"]) == (1, 131_072)


async def test_num_gpu_left_out_again_is_no_other_option() -> None:
    rig = Rig()
    await rig.touch("a", num_gpu=7)
    await rig.touch("a")
    assert rig.counters.loads == 1
    await rig.touch("a", num_gpu=8)
    assert rig.counters.loads == 2


async def test_a_model_is_loaded_with_its_own_parameters() -> None:
    rig = Rig()
    async with rig.engine.hold("a", Model("a", parameters={"num_ctx": 512}), {"num_ctx": None}, None) as runner:
        assert runner.options["num_ctx"] == 512
    async with rig.engine.hold("a", Model("a", parameters={"num_ctx": 512}), {"num_ctx": 99}, None) as runner:
        assert runner.options["num_ctx"] == 99


async def test_slots_are_counted_per_loaded_model(tasks: list[asyncio.Task[None]]) -> None:
    rig = Rig(num_parallel=1)

    async def work(name: str) -> None:
        async with rig.hold(name) as runner, rig.engine.slot(runner):
            await asyncio.Event().wait()

    tasks += [asyncio.create_task(work(name)) for name in "abab"]
    await rig.until(generating=2, waiting=2)


async def test_a_model_that_only_embeds_has_one_slot(tasks: list[asyncio.Task[None]]) -> None:
    rig = Rig(num_parallel=4)

    async def work() -> None:
        async with rig.engine.hold("e", Model("e", capabilities=("embedding",)), {}, None) as runner:
            async with rig.engine.slot(runner):
                await asyncio.Event().wait()

    tasks += [asyncio.create_task(work()) for _ in range(2)]
    await rig.until(generating=1, waiting=1)


async def test_a_slot_may_be_busy_after_its_request() -> None:
    rig = Rig()
    async with rig.hold("a") as runner, rig.engine.slot(runner) as slot:
        slot.busy = 3600
    assert (rig.counters.generating, runner.refs) == (1, 0)
    rig.engine.finish_batches()
    assert rig.counters.generating == 0
    async with rig.hold("a") as runner, rig.engine.slot(runner) as slot:
        slot.busy = 0.001
    await rig.until(generating=0)
    async with rig.hold("a") as runner, rig.engine.slot(runner) as slot:
        slot.busy = 3600
    rig.engine.unload_all()
    assert (rig.counters.generating, rig.engine.loaded) == (0, {})


async def test_the_least_recently_used_makes_room() -> None:
    rig = Rig(max_loaded=2)
    for name in ("a", "b", "a", "c"):
        await rig.touch(name)
    assert list(rig.engine.loaded) == ["a", "c"]


async def test_a_model_in_use_is_not_evicted(tasks: list[asyncio.Task[None]]) -> None:
    rig = Rig(max_loaded=1)
    async with rig.hold("a"):
        tasks.append(asyncio.create_task(rig.touch("b")))
        await rig.until(loading=1)
        assert list(rig.engine.loaded) == ["a"]
    await tasks[0]
    assert list(rig.engine.loaded) == ["b"]


async def test_a_reload_waits_for_those_who_use_the_model(tasks: list[asyncio.Task[None]]) -> None:
    rig = Rig()
    async with rig.hold("a") as old:
        tasks.append(asyncio.create_task(rig.touch("a", num_ctx=8)))
        await rig.until(loading=1)
        assert rig.engine.loaded["a"] is old
    await tasks[0]
    assert rig.engine.loaded["a"].options["num_ctx"] == 8


async def test_slots_are_given_in_turn(tasks: list[asyncio.Task[None]]) -> None:
    rig = Rig(num_parallel=1)
    order: list[int] = []

    async def use(number: int) -> None:
        async with rig.hold("a") as runner, rig.engine.slot(runner):
            order.append(number)

    async with rig.hold("a") as runner, rig.engine.slot(runner):
        for number in range(5):
            tasks.append(asyncio.create_task(use(number)))
        await rig.until(waiting=5, generating=1)
    await asyncio.gather(*tasks)
    assert order == [0, 1, 2, 3, 4]
    assert (rig.counters.max_generating, rig.counters.waiting, rig.counters.generating) == (1, 0, 0)


async def test_parallel_slots() -> None:
    rig = Rig(num_parallel=3)
    async with AsyncExitStack() as stack:
        for _ in range(3):
            await stack.enter_async_context(rig.engine.slot(await stack.enter_async_context(rig.hold("a"))))
        assert rig.counters.generating == 3


async def test_a_full_queue_is_busy_but_loaded_models_are_not(tasks: list[asyncio.Task[None]]) -> None:
    rig = Rig(max_queue=1, load_delay=60, max_loaded=9)
    rig.settings.load_delay = 0
    await rig.touch("ready")
    rig.settings.load_delay = 60
    tasks.append(asyncio.create_task(rig.touch("a")))
    await rig.until(loading=1)
    tasks.append(asyncio.create_task(rig.touch("b")))
    await rig.until(waiting=1)
    with pytest.raises(Busy):
        await rig.touch("c")
    assert rig.counters.busy == 1
    await rig.touch("ready")


async def test_a_cancelled_load_leaves_nothing(tasks: list[asyncio.Task[None]]) -> None:
    rig = Rig(load_delay=60)
    tasks.append(asyncio.create_task(rig.touch("a")))
    await rig.until(loading=1)
    tasks[0].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert (rig.engine.loaded, rig.counters.loading, rig.counters.loads) == ({}, 0, 0)
    rig.settings.load_delay = 0
    await rig.touch("a")


async def test_two_who_want_the_same_model_load_it_once(tasks: list[asyncio.Task[None]]) -> None:
    rig = Rig()
    await asyncio.gather(*(rig.touch("a") for _ in range(5)))
    assert rig.counters.loads == 1


async def test_keep_alive_of_zero_unloads_at_once() -> None:
    rig = Rig()
    await rig.touch("a", keep_alive=0.0)
    assert (rig.engine.loaded, rig.counters.unloads) == ({}, 1)


async def test_a_negative_keep_alive_pins() -> None:
    rig = Rig(keep_alive=0.0)
    await rig.touch("a", keep_alive=-1)
    assert rig.engine.loaded["a"].timer is None
    assert rig.engine.loaded["a"].expires_at > 9e9


async def test_models_expire() -> None:
    rig = Rig(keep_alive=0.001)
    await rig.touch("a")
    await rig.until(unloads=1)
    assert rig.engine.loaded == {}


async def test_unloading_a_model_in_use_waits_for_its_end() -> None:
    rig = Rig()
    async with rig.hold("a"):
        rig.engine.unload("a")
        assert "a" in rig.engine.loaded
    assert rig.engine.loaded == {}


async def test_unloading_all() -> None:
    rig = Rig()
    await rig.touch("a")
    await rig.touch("b")
    rig.engine.unload_all()
    assert (rig.engine.loaded, rig.counters.unloads) == ({}, 2)
