"""The parent of several processes that serve: it opens the sockets, keeps the workers running, and handles no request.

Signals, the policy file and the service manager are the parent's; the workers are told what follows from them.
"""

import asyncio
import os
import secrets
import signal
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from time import time
from typing import Any, Final

import structlog

from config.load import Loaded
from config.problems import Invalid
from config.settings import Log, Settings
from proxy.app import check
from proxy.kernel.log_lines import FORMATS
from proxy.kernel.shared_numbers import SharedNumbers, make_shared
from proxy.membership import COLUMNS
from proxy.reload import FileWatch, Reloaded
from proxy.server import systemd
from proxy.server.listeners import ServerError, tls_context
from proxy.server.listening import Listening, listen
from proxy.server.server import SETTLE_SECONDS
from proxy.telemetry.across_workers import Departed
from proxy.telemetry.log_setup import configure
from proxy.telemetry.log_turns import Turns, make_turns
from proxy.telemetry.log_writer import Writer
from proxy.wiring import ops_options, server_options
from proxy.workers.supervisor import Supervisor

log = structlog.get_logger("ollama_proxy.config")
_log = structlog.get_logger("ollama_proxy.workers")

RELOADING: Final = 20.0
"""Seconds that one worker may take to load a policy file."""
READY: Final = 30.0
"""Seconds that the workers may take to ask every backend after a reload, before the service manager is told all the
same that it is done."""
SPARE: Final = 3 * SETTLE_SECONDS
"""Seconds beyond `server.shutdown` until a worker that has not ended is killed."""


class Parent:
    """Serves a policy file by several workers.

    Args:
        loaded: the policy file.
        read: reads it again, as it is then.
        file: where it is.
        sink: takes the parent's own log lines; the workers have their own.
        turns: the file by which all of them take turns at the log.
        count: the number of workers.
        changes: sections in place of the file's, from the command line.
    """

    def __init__(
        self,
        loaded: Loaded,
        read: Callable[[], Loaded],
        file: Path,
        *,
        sink: Writer,
        turns: int,
        count: int,
        changes: Mapping[str, Any],
    ) -> None:
        plan, self._settings = check(loaded)
        self._read = read
        self._file = file
        self._count = count
        self._changes = dict(changes)
        self._began_with = self._text = loaded.source
        self._generation = 1
        self._drained: dict[str, bool] = {}
        self._departed = Departed()
        self._key = secrets.token_hex(16)
        self._sink = sink
        self._turns = turns
        self._closed = plan.anonymous and not self._settings.allow_anonymous_network
        self._hurried = False
        self._over = asyncio.Event()
        self._one_at_a_time = asyncio.Lock()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._watch = FileWatch(file, self._reload_soon)
        self._numbers = make_shared(count, COLUMNS)
        self._main: Listening | None = None
        self._ops: Listening | None = None

    async def run(self) -> int:
        """Serve until SIGTERM or SIGINT; return the exit code. Raises ServerError."""
        self._heed_signals()
        try:
            fds = self._listen()
            self._supervisor = Supervisor(
                self._count,
                fds=[*fds, self._numbers, self._turns],
                numbers=SharedNumbers(self._numbers, rows=self._count, columns=COLUMNS, row=0),
                replies={"begin": self.begin, "reload": self._reload_for},
                amend={"metrics": self._complete, "drain": self._note_drained},
                gone=self._departed.gone,
                stopping=self._over,
            )
            try:
                if not await self._start():
                    return 0 if self._over.is_set() else 1
                await self._serve()
            finally:
                await self._end()
        finally:
            self._close()
            os.close(self._numbers)
        return 0

    async def _start(self) -> bool:
        try:
            return await self._supervisor.start()
        except OSError as error:
            raise ServerError(f"no process could be started for a worker: {error.strerror or error}") from error

    def _listen(self) -> list[int]:
        """Open the sockets, and return their files; raises ServerError."""
        options = replace(server_options(self._settings), local_only=self._closed)
        if options.tls is not None:
            tls_context(options.tls)  # What is wrong with it is said once, and not by each worker.
        self._main = listen(options)
        if self._settings.ops.listen is not None:
            self._ops = listen(ops_options(self._settings, self._settings.ops.listen))
        return [*_files(self._main), *_files(self._ops)]

    def _heed_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop)
        loop.add_signal_handler(signal.SIGHUP, self._reload_soon)

    def _stop(self) -> None:
        """End; called again, without waiting for requests."""
        if self._over.is_set():
            self._hurried = True
            self._supervisor.tell("hurry")
        self._over.set()

    async def _serve(self) -> None:
        _log.info("workers_serve", workers=self._count)
        self._watch.start()
        await self._supervisor.ask_one(1, "announce", {})
        self._soon(self._say_ready(reloaded=False))
        await self._over.wait()

    async def _end(self) -> None:
        systemd.stopping()
        self._close()
        await self._watch.stop()
        await self._supervisor.stop(self._patience)
        for task in self._tasks:
            task.cancel()

    def _close(self) -> None:
        """Close the parent's sockets: otherwise connections would wait in them for nobody."""
        for listening in (self._main, self._ops):
            if listening is not None:
                listening.close()

    def _patience(self) -> float:
        return SPARE if self._hurried else self._settings.server.shutdown + SPARE

    def _soon(self, work: Coroutine[Any, Any, Any]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # What workers ask for

    async def begin(self, about: Mapping[str, Any]) -> dict[str, Any]:
        """Return what a worker is to serve, in JSON."""
        async with self._one_at_a_time:  # not the file that is just being replaced
            return {
                "number": about["worker"],
                "count": self._count,
                "file": str(self._file),
                "changes": self._changes,
                "began_with": self._began_with,
                "text": self._text,
                "generation": self._generation,
                "format": self._settings.log.format,
                "drained": [name for name, drained in self._drained.items() if drained],
                "sockets": _files(self._main),
                "ops": None if self._ops is None else _files(self._ops),
                "numbers": self._numbers,
                "turns": self._turns,
                "key": self._key,
            }

    def _note_drained(self, about: Mapping[str, Any], answers: dict[int, Any]) -> None:
        """Remember it for workers that come later."""
        self._drained[about["backend"]] = about["draining"]

    def _complete(self, about: Mapping[str, Any], answers: dict[int, Any]) -> None:
        """Add to the metrics what workers counted that are gone, or do not answer just now."""
        for number, document in answers.items():
            answers[number] = self._departed.note(number, document)
        answers[0] = self._departed.document(self._supervisor.ended)

    # Loading the policy file again

    def _reload_soon(self) -> None:
        self._soon(self.reload())

    async def _reload_for(self, about: Mapping[str, Any]) -> Reloaded:
        return await self.reload()

    async def reload(self) -> Reloaded:
        """Put the policy file in force in all workers, or leave everything as it is; return the result."""
        async with self._one_at_a_time:
            self._watch.look()
            if self._over.is_set():
                return self._refused(("the proxy is shutting down",))
            try:
                loaded = self._read()
                _, settings = check(loaded)
                result = await self._load(loaded, settings)
            except Invalid as error:
                result = self._refused(tuple(map(str, error.problems)))
            except Exception as error:  # a bug of ours
                log.exception("reload_failed")
                result = self._refused((f"it cannot be loaded: {type(error).__name__}; the log has its traceback",))
        self._soon(self._say_ready(reloaded=True))  # also where it was refused: `systemctl reload` waits for it
        return result

    async def _load(self, loaded: Loaded, settings: Settings) -> Reloaded:
        """Let one worker load the file and then, if it is fine for that one, all others.

        The file may be what a worker dies of; so the first one that loads it must live to say that it has.
        """
        results: dict[int, Reloaded] = {}
        for number, worker in sorted(self._supervisor.workers.items()):
            worker.ready.clear()
            said = await self._supervisor.ask_one(number, "reload", {"text": loaded.source}, timeout=RELOADING)
            if said is None:
                if not results and worker.asked and worker.channel.closed:
                    return self._refused((f"worker {number} ended while it loaded the file",))
                continue  # it hangs, or is not there yet: whoever comes after it begins with what is in force then
            if not said:
                worker.ready.set()  # it finishes what it runs, and whoever comes after it begins with that, too
                continue
            result = results[number] = _result(said)
            if not result.problems:
                continue
            if len(results) == 1:
                self._supervisor.tell("refused", problems=list(result.problems))
                return result
            _log.error("worker_keeps_another_file", worker=number, problems=result.problems)
            self._supervisor.retire(number)
        self._text, self._settings = loaded.source, settings
        self._generation += 1
        configure(self._sink, format=settings.log.format, level=settings.log.level)
        good = next((result for result in results.values() if not result.problems), None)
        return good or Reloaded(time(), self._generation)

    def _refused(self, problems: tuple[str, ...]) -> Reloaded:
        result = Reloaded(time(), self._generation, problems)
        log.error("config_refused", config_generation=result.generation, problems=problems)
        self._supervisor.tell("refused", problems=list(problems))
        return result

    async def _say_ready(self, *, reloaded: bool) -> None:
        """Tell the service manager that all workers serve and have asked every backend."""
        with suppress(TimeoutError):
            async with asyncio.timeout(READY if reloaded else None):
                await self._supervisor.all_ready()
        if not self._over.is_set():
            systemd.ready(reloaded=reloaded)

    def __repr__(self) -> str:
        return f"<Parent of {self._count} workers, generation {self._generation}>"


def serve_by_workers(
    loaded: Loaded, read: Callable[[], Loaded], file: Path, *, count: int, changes: Mapping[str, Any]
) -> int:
    """Serve by `count` workers until SIGTERM or SIGINT; return the exit code. Raises Invalid, ServerError."""
    turns = make_turns()
    log_format = Log().format if loaded.settings is None else loaded.settings.log.format
    sink = Writer(render=FORMATS[log_format], turns=Turns(turns))
    configure(sink, format=log_format, level=Log().level if loaded.settings is None else loaded.settings.log.level)
    try:
        parent = Parent(loaded, read, file, sink=sink, turns=turns, count=count, changes=changes)
        return asyncio.run(parent.run())
    finally:
        sink.close()


def _files(listening: Listening | None) -> list[int]:
    return [] if listening is None else [sock.fileno() for sock in listening.sockets]


def _result(said: Mapping[str, Any]) -> Reloaded:
    return Reloaded(said["at"], said["generation"], tuple(said["problems"]), tuple(said["restart"]))
