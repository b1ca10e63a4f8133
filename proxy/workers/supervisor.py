"""Keeps the workers running, and passes on what one of them asks or tells all of them."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Final

import structlog

from proxy.kernel.peers import Reply
from proxy.kernel.shared_numbers import SharedNumbers
from proxy.workers.channel import ChannelError, Hear
from proxy.workers.pause import Pause
from proxy.workers.worker_process import WorkerProcess

log = structlog.get_logger("ollama_proxy.workers")

PATIENCE: Final = 2.0
"""Seconds that one worker may take to answer."""

Amend = Callable[[Mapping[str, Any], dict[int, Any]], None]
"""Changes the answers of all workers, by number, before the one that asked has them; its first argument is what they
were asked about."""


class Supervisor:
    """The workers of one parent.

    Args:
        count: how many there are to be.
        fds: files that they inherit.
        numbers: what they share; the row of one that is gone is cleared.
        replies: answer what a worker asks the parent, by name; it is told which worker asks (``about["worker"]``).
        amend: by question.
        gone: is told the number of a worker that is gone.
        stopping: set once no worker is to be replaced any more.

    Attributes:
        workers: those that run, by number.
        ended: how many were gone and had to be replaced.
    """

    def __init__(
        self,
        count: int,
        *,
        fds: Sequence[int],
        numbers: SharedNumbers,
        replies: Mapping[str, Reply],
        amend: Mapping[str, Amend],
        gone: Callable[[int], None],
        stopping: asyncio.Event,
    ) -> None:
        self.workers: dict[int, WorkerProcess] = {}
        self.ended = 0
        self._count = count
        self._fds = fds
        self._numbers = numbers
        self._replies = replies
        self._amend = amend
        self._gone = gone
        self._stopping = stopping
        self._changed = asyncio.Event()
        """Set when a worker serves, or is ready."""
        self._started = False
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> bool:
        """Start all workers, the first before all others; return once they serve, False where one did not come to it.

        What is wrong with the policy file is thus said once. Raises OSError where the system starts no process.
        """
        for first, last in ((1, 1), (2, self._count)):
            for number in range(first, last + 1):
                self._tasks.append(asyncio.create_task(self._keep(number)))
            if not await self._all_serve(last):
                return False
        self._started = True
        return True

    async def _all_serve(self, last: int) -> bool:
        """Wait until the workers up to a number serve; return False as soon as one of them is gone."""
        serving = asyncio.ensure_future(self._serve(last))
        stopping = asyncio.ensure_future(self._stopping.wait())
        try:
            done, _ = await asyncio.wait({serving, stopping, *self._tasks}, return_when=asyncio.FIRST_COMPLETED)
            for task in done.intersection(self._tasks):
                task.result()
            return serving.done()
        finally:
            serving.cancel()
            stopping.cancel()

    async def _serve(self, last: int) -> None:
        while sum(worker.serving.is_set() for worker in self.workers.values()) < last:
            self._changed.clear()
            await self._changed.wait()

    async def _keep(self, number: int) -> None:
        """Run one worker after the other under a number, until it is over, or the first of them was not to be had."""
        pause = Pause()
        while not self._stopping.is_set():
            try:
                worker = self._begin(number)
            except OSError as error:
                if not self._started:
                    raise
                delay, pid, reason = pause.after(0.0), None, f"it could not be started: {error}"
            else:
                await worker.run(partial(self._greet, worker))
                self._forget(worker)
                if self._stopping.is_set() or not self._started:
                    return
                delay, pid, reason = pause.after(worker.lived), worker.pid, worker.end
            self.ended += 1
            log.error("worker_ended", worker=number, worker_pid=pid, reason=reason, delay_s=delay)
            with suppress(TimeoutError):
                async with asyncio.timeout(delay):
                    await self._stopping.wait()

    def _greet(self, worker: WorkerProcess) -> None:
        """Say to a worker that is just there what the others were told before."""
        if self._stopping.is_set():
            worker.channel.tell("stop")

    def _forget(self, worker: WorkerProcess) -> None:
        del self.workers[worker.number]
        self._numbers.clear(worker.number - 1)
        self._gone(worker.number)
        self._pass_on_watching()

    def _begin(self, number: int) -> WorkerProcess:
        replies: dict[str, Reply] = {name: partial(self._reply, number, reply) for name, reply in self._replies.items()}
        replies["all"] = self._ask_for
        hears: dict[str, Hear] = {
            name: partial(hear, number)
            for name, hear in {
                "serving": self._note_serving,
                "ready": self._note_ready,
                "watch": self._note_watch,
                "event": self._note_event,
            }.items()
        }
        worker = self.workers[number] = WorkerProcess.start(number, self._fds, replies, hears)
        return worker

    async def _reply(self, number: int, reply: Reply, about: Mapping[str, Any]) -> Any:
        said = await reply({**about, "worker": number})
        self.workers[number].asked = True
        return said

    # What workers ask and tell

    async def ask(self, question: str, about: Mapping[str, Any], *, timeout: float = PATIENCE) -> dict[int, Any]:
        """Return the answer of every worker by its number; None of one that is not there, or does not answer.

        None, too, of one that has answered and is gone by now: all that was its own has been settled (see `gone`).
        """
        numbers, asked = range(1, self._count + 1), dict(self.workers)
        said = await asyncio.gather(*(self.ask_one(number, question, about, timeout=timeout) for number in numbers))
        return {
            number: answer if self.workers.get(number) is asked.get(number) else None
            for number, answer in zip(numbers, said, strict=True)
        }

    async def ask_one(
        self, number: int, question: str, about: Mapping[str, Any], *, timeout: float = PATIENCE
    ) -> Any | None:
        """Return the answer of one worker; None where it is not there, or does not answer."""
        worker = self.workers.get(number)
        if worker is None or not worker.asked:
            return None
        try:
            return await worker.channel.ask(question, about, timeout=timeout)
        except (ChannelError, TimeoutError) as error:
            if not self._stopping.is_set():
                problem = f"{question}: {str(error) or 'it took too long'}"
                log.warning("worker_unresponsive", worker=number, problem=problem)
            return None

    def retire(self, number: int) -> None:
        """Let one worker finish what it runs and end; another takes its place."""
        worker = self.workers.get(number)
        if worker is not None:
            worker.channel.tell("stop")

    async def all_ready(self) -> None:
        """Wait until every worker serves and has asked each backend."""
        while len(self.workers) < self._count or not all(worker.ready.is_set() for worker in self.workers.values()):
            self._changed.clear()
            await self._changed.wait()

    def tell(self, name: str, **about: Any) -> None:
        """Tell all workers."""
        for worker in self.workers.values():
            worker.channel.tell(name, **about)

    async def _ask_for(self, about: Mapping[str, Any]) -> list[tuple[int, Any]]:
        """Ask all workers what one of them wants to know."""
        answers = await self.ask(about["question"], about["about"])
        amend = self._amend.get(about["question"])
        if amend is not None:
            amend(about["about"], answers)
        return sorted(answers.items())

    def _note_serving(self, number: int, about: Mapping[str, Any]) -> None:
        worker = self.workers[number]
        worker.serving.set()
        self._changed.set()
        if self._started:
            log.info("worker_started", worker=number, worker_pid=worker.pid)
        self._pass_on_watching()

    def _note_ready(self, number: int, about: Mapping[str, Any]) -> None:
        self.workers[number].ready.set()
        self._changed.set()

    def _note_watch(self, number: int, about: Mapping[str, Any]) -> None:
        self.workers[number].watching = about["on"]
        self._pass_on_watching()

    def _note_event(self, number: int, about: Mapping[str, Any]) -> None:
        for worker in self.workers.values():
            if worker.watching and worker.number != number:
                worker.channel.mention("event", **about)

    def _pass_on_watching(self) -> None:
        """Tell each worker whether another one watches, where that has changed."""
        for worker in self.workers.values():
            watched = any(other.watching for other in self.workers.values() if other is not worker)
            if watched != worker.watched and worker.serving.is_set():
                worker.watched = watched
                worker.channel.tell("watched", on=watched)

    # The end

    async def stop(self, seconds: Callable[[], float]) -> None:
        """Let all workers finish what they run and end; kill those that have not ended after so many seconds.

        Args:
            seconds: how long it may still take, counted from the beginning; asked again and again.
        """
        self._stopping.set()
        self.tell("stop")
        loop = asyncio.get_running_loop()
        began = loop.time()
        left: set[asyncio.Task[None]] = set(self._tasks)
        while left and (rest := began + seconds() - loop.time()) > 0:
            _, left = await asyncio.wait(left, timeout=min(rest, PATIENCE))
        for worker in self.workers.values():
            worker.kill()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def __repr__(self) -> str:
        return f"<Supervisor of {len(self.workers)} of {self._count} workers, {self.ended} ended>"
