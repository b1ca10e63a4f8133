"""Models in memory, their slots, and the requests that wait for them: Ollama's scheduler.

A request holds a runner from the moment it has one until it is answered. A runner has ``num_parallel`` slots, one that
only embeds has one; who finds none waits in turn, without bound. Embeddings take turns among themselves as well.
Loading is one at a time; of those who wait for a load only ``max_queue`` may.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

from proxy.simulator.counters import Counters
from proxy.simulator.settings import Model, Settings

# Options of the runner itself: with others than it was loaded with, the model is loaded anew.
RUNNER_OPTIONS: Final[dict[str, Any]] = {
    "num_ctx": 4096,
    "num_batch": 512,
    "num_gpu": -1,
    "main_gpu": 0,
    "use_mmap": None,
    "num_thread": 0,
    "draft_num_predict": 0,
    "shift": True,  # of the request, not of its options
}
FOR_EVER: Final = 290 * 365 * 86_400.0  # Go's longest duration, which stands for a negative keep_alive


class Busy(Exception):
    """The queue for loading is full."""


class BadOption(Exception):
    """An option of the wrong type; the text is Ollama's."""


class Runner:
    """One loaded model."""

    __slots__ = ("embeddings", "expires_at", "keep_alive", "key", "model", "options", "refs", "slots", "timer", "used")

    def __init__(self, key: str, model: Model, options: dict[str, Any], slots: int, keep_alive: float) -> None:
        self.key = key
        self.model = model
        self.options = options
        self.slots = asyncio.Semaphore(slots)
        self.embeddings = asyncio.Semaphore(1)
        self.keep_alive = keep_alive
        self.refs = 0
        self.used = 0.0
        self.expires_at = 0.0
        self.timer: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        return f"<Runner {self.key} refs={self.refs} slots={self.slots}>"


class Slot:
    """A runner's slot while a request has it. `busy` is for how many seconds the runner works on after the request."""

    busy = 0.0


class Engine:
    """Loads and unloads. `changed` is called after every change of what `counters` or `loaded` show."""

    def __init__(self, settings: Settings, counters: Counters, changed: Callable[[], None]) -> None:
        self.loaded: dict[str, Runner] = {}
        self._settings = settings
        self._counters = counters
        self._changed = changed
        self._turn = asyncio.Lock()
        self._queued = 0
        self._idle = asyncio.Event()
        self._finishing: dict[asyncio.TimerHandle, Runner] = {}

    @asynccontextmanager
    async def hold(
        self, key: str, model: Model, options: dict[str, Any], keep_alive: float | None
    ) -> AsyncIterator[Runner]:
        """Give a runner for `model`, loading it if need be.

        Args:
            key: canonical name of the model.
            model: its entry in the store.
            options: the request's options, of which only `RUNNER_OPTIONS` matter here; ``shift`` is among them.
            keep_alive: seconds, negative for ever, None for what the runner has or the default.

        Raises:
            Busy: too many wait for a load.
            BadOption: an option has the wrong type.
        """
        wanted = runner_options({**model.parameters, **{k: v for k, v in options.items() if v is not None}}, model)
        runner = self._usable(key, wanted) or await self._load(key, model, wanted, keep_alive)
        runner.refs += 1
        if runner.timer:
            runner.timer.cancel()
        if keep_alive is not None:
            runner.keep_alive = keep_alive
        try:
            yield runner
        finally:
            self._release(runner)

    @asynccontextmanager
    async def slot(self, runner: Runner) -> AsyncIterator[Slot]:
        """Wait in turn for one of the runner's slots, and keep it, for as long as ``Slot.busy`` says afterwards too."""
        counters = self._counters
        counters.waiting += 1
        self._changed()
        try:
            await runner.slots.acquire()
        finally:
            counters.waiting -= 1
        counters.generating += 1
        counters.max_generating = max(counters.max_generating, counters.generating)
        self._changed()
        slot = Slot()
        try:
            yield slot
        finally:
            if slot.busy > 0:
                self._free_later(runner, slot.busy)
            else:
                self._free(runner)

    @asynccontextmanager
    async def embedding_slot(self, runner: Runner) -> AsyncIterator[None]:
        """Wait for the runner's turn to embed, and for one of its slots, and keep both."""
        self._counters.waiting += 1
        self._changed()
        try:
            await runner.embeddings.acquire()
        finally:
            self._counters.waiting -= 1
        try:
            async with self.slot(runner):
                yield
        finally:
            runner.embeddings.release()

    def finish_batches(self) -> None:
        """End the batches that runners still work on for requests whose clients have left."""
        for timer, runner in list(self._finishing.items()):
            timer.cancel()
            del self._finishing[timer]
            self._free(runner)

    def unload(self, key: str) -> None:
        """Drop a model from memory once the requests that use it are done."""
        if runner := self.loaded.get(key):
            runner.keep_alive = 0.0
            if runner.refs == 0:
                self._unload(runner)

    def unload_all(self) -> None:
        """Drop every unused model from memory, as a process that ends does."""
        self.finish_batches()
        for runner in list(self.loaded.values()):
            self.unload(runner.key)

    def _free(self, runner: Runner) -> None:
        runner.slots.release()
        self._counters.generating -= 1
        self._changed()

    def _free_later(self, runner: Runner, seconds: float) -> None:
        def free() -> None:
            del self._finishing[timer]
            self._free(runner)

        timer = asyncio.get_running_loop().call_later(seconds, free)
        self._finishing[timer] = runner

    def _usable(self, key: str, options: dict[str, Any]) -> Runner | None:
        runner = self.loaded.get(key)
        if runner is None:
            return None
        # A request that says nothing of num_gpu takes the runner with whatever it has.
        wanted = {**options, "num_gpu": runner.options["num_gpu"]} if options["num_gpu"] < 0 else options
        return runner if runner.options == wanted else None

    async def _load(self, key: str, model: Model, options: dict[str, Any], keep_alive: float | None) -> Runner:
        if self._turn.locked() and self._queued >= self._settings.max_queue:
            self._counters.busy += 1
            raise Busy
        self._queued += 1
        self._counters.waiting += 1
        self._changed()
        try:
            await self._turn.acquire()
        finally:
            self._queued -= 1
            self._counters.waiting -= 1
        self._counters.loading += 1
        self._changed()
        try:
            if runner := self._usable(key, options):  # the one before us wanted the same
                return runner
            await self._make_room(key)
            await asyncio.sleep(self._settings.load_delay)
            alive = self._settings.keep_alive if keep_alive is None else keep_alive
            # A model that only embeds is loaded with one slot, whatever OLLAMA_NUM_PARALLEL says.
            slots = self._settings.num_parallel if "completion" in model.capabilities else 1
            runner = Runner(key, model, options, slots, alive)
            self.loaded[key] = runner
            self._counters.loads += 1
            return runner
        finally:
            self._turn.release()
            self._counters.loading -= 1
            self._changed()

    async def _make_room(self, key: str) -> None:
        """Unload the model's own runner with other options, then idle ones until one more fits."""
        while True:
            if own := self.loaded.get(key):
                victim = own if own.refs == 0 else None
            elif len(self.loaded) < self._settings.max_loaded:
                return
            else:
                idle = [runner for runner in self.loaded.values() if runner.refs == 0]
                victim = min(idle, key=lambda runner: runner.used, default=None)
            if victim:
                self._unload(victim)
            else:
                self._idle.clear()
                await self._idle.wait()

    def _release(self, runner: Runner) -> None:
        loop = asyncio.get_running_loop()
        runner.refs -= 1
        runner.used = loop.time()
        if runner.refs == 0 and self.loaded.get(runner.key) is runner:
            self._idle.set()
            alive = FOR_EVER if runner.keep_alive < 0 else runner.keep_alive
            runner.expires_at = time.time() + alive
            if alive == 0:
                self._unload(runner)
            elif alive < FOR_EVER:
                runner.timer = loop.call_later(alive, self._expire, runner)
        self._changed()

    def _expire(self, runner: Runner) -> None:
        if runner.refs == 0:
            self._unload(runner)

    def _unload(self, runner: Runner) -> None:
        if runner.timer:
            runner.timer.cancel()
        if self.loaded.get(runner.key) is runner:
            del self.loaded[runner.key]
            self._counters.unloads += 1
        self._idle.set()
        self._changed()


_FLOATS = frozenset(
    {"temperature", "top_p", "min_p", "typical_p", "repeat_penalty", "presence_penalty", "frequency_penalty"}
)
_INTEGERS = frozenset({"num_keep", "seed", "num_predict", "top_k", "repeat_last_n"})


def check_options(options: dict[str, Any]) -> None:
    """Raise BadOption for an option of sampling that is of the wrong type; null leaves one as it was."""
    stop = options.get("stop")
    if stop is not None and not isinstance(stop, list):
        raise BadOption('option "stop" must be of type array')
    if stop and not all(isinstance(text, str) for text in stop):
        raise BadOption('option "stop" must be of an array of strings')
    for name, value in options.items():
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if value is None or number:
            continue
        if name in _FLOATS:
            raise BadOption(f'option "{name}" must be of type float32')
        if name in _INTEGERS:
            raise BadOption(f'option "{name}" must be of type integer')


def runner_options(options: dict[str, Any], model: Model) -> dict[str, Any]:
    """Return the runner's options with their defaults, a context no longer than `model` was trained for.

    Keys are case-sensitive here, as in Ollama.
    """
    check_options(options)
    wanted = dict(RUNNER_OPTIONS)
    for name in RUNNER_OPTIONS:
        value = options.get(name)
        if value is None:
            continue
        if name in ("use_mmap", "shift"):
            if not isinstance(value, bool):
                raise BadOption(f'option "{name}" must be of type boolean')
        elif isinstance(value, bool) or not isinstance(value, int | float):
            raise BadOption(f'option "{name}" must be of type integer')
        wanted[name] = value if isinstance(value, bool) else int(value)
    wanted["num_ctx"] = min(wanted["num_ctx"], model.context_length)
    return wanted
