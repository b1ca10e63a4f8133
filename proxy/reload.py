"""Load the policy file of a running proxy again: on SIGHUP, when the file changes, or by a call."""

import asyncio
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import time
from typing import Final

import structlog

from config.load import Loaded
from config.problems import Invalid
from proxy.app import App
from proxy.kernel.file_stamp import FileStamp, differ, look_again, look_at
from proxy.server import systemd
from proxy.server.listeners import ServerError

log = structlog.get_logger("ollama_proxy.config")

LOOK_EVERY: Final = 1.0
"""Seconds between two checks of the file."""


@dataclass(frozen=True, slots=True)
class Reloaded:
    """The result of a reload.

    Attributes:
        at: when it was done, in seconds since 1970.
        generation: the number of the configuration in force after it.
        problems: why the file was refused; empty where it is in force now.
        restart: settings that changed and need a restart.
    """

    at: float
    generation: int
    problems: tuple[str, ...] = ()
    restart: tuple[str, ...] = ()


class Reloader:
    """Loads the policy file again when it is asked to, or when the file has changed.

    Each reload also reads the server's certificate again, so that a renewed certificate needs no restart.

    The file is checked by its path, through every symbolic link: a mounted config map changes when a link is replaced,
    without a write.
    """

    def __init__(
        self,
        app: App,
        read: Callable[[], Loaded],
        file: Path | None,
        *,
        renew_tls: Callable[[], None] = lambda: None,
        tell_ready: Callable[[bool], None] | None = None,
    ) -> None:
        self._app = app
        self._read = read
        self._renew_tls = renew_tls
        self._tell_ready = tell_ready or _tell_systemd
        self._watch = FileWatch(file, self.reload)
        self.last = self._now()

    def start(self) -> None:
        """Begin to check the file and to handle SIGHUP; needs the running loop."""
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self.reload)
        self._watch.start()

    async def stop(self) -> None:
        """Stop checking the file and handling SIGHUP."""
        asyncio.get_running_loop().remove_signal_handler(signal.SIGHUP)
        await self._watch.stop()

    async def ask(self) -> Reloaded:
        """See `reload`; in the form in which operators ask for it, whether one process serves or several."""
        return self.reload()

    def refuse(self, problems: Sequence[str]) -> None:
        """Note that a file was refused before it came here."""
        self.last = self._now(problems=tuple(problems))
        self._app.metrics.reloaded(loaded=False)

    def reload(self) -> Reloaded:
        """Read the file and put it in force, or leave everything as it is; returns the result, with the reasons.

        A process that drains refuses a file: a reload would tell systemd that it is ready, and probe backends again.
        """
        self._watch.look()
        if not self._app.serving:
            self.last = self._now(problems=("the proxy is shutting down",))
            log.warning("config_refused", config_generation=self.last.generation, problems=self.last.problems)
            return self.last
        self.last = self._load()
        self._app.metrics.reloaded(loaded=not self.last.problems)
        # Also where it failed: `systemctl reload` waits for this message.
        self.say_ready(reloaded=True)
        try:
            self._renew_tls()
        except (ServerError, OSError) as error:
            log.error("certificate_kept_as_it_was", problem=str(error))
        return self.last

    def say_ready(self, *, reloaded: bool) -> None:
        """Tell systemd that requests are served, once each backend was asked; never if the process drains by then."""

        def say() -> None:
            if self._app.serving:
                self._tell_ready(reloaded)

        self._app.pool.first_round.then(say)

    def _load(self) -> Reloaded:
        try:
            restart = self._app.reload(self._read())
        except Invalid as error:
            found = self._now(problems=tuple(map(str, error.problems)))
            log.error("config_refused", config_generation=found.generation, problems=found.problems)
            return found
        except Exception as error:  # a bug of ours or of a plugin
            log.exception("reload_failed")
            return self._now(problems=(f"it cannot be loaded: {type(error).__name__}; the log has its traceback",))
        found = self._now(restart=restart)
        log.info("config_loaded", config_generation=found.generation, chain=str(self._app.plan), restart=restart)
        if restart:
            log.warning("restart_needed", config_generation=found.generation, restart=restart)
        return found

    def _now(self, *, problems: tuple[str, ...] = (), restart: tuple[str, ...] = ()) -> Reloaded:
        return Reloaded(time(), self._app.frame.current.number, problems, restart)


def _tell_systemd(reloaded: bool) -> None:
    systemd.ready(reloaded=reloaded)


class FileWatch:
    """Looks at a file again and again, and tells when it has changed.

    Args:
        file: the file; None for none.
        changed: called for each change.
    """

    def __init__(self, file: Path | None, changed: Callable[[], object]) -> None:
        self._file = file
        self._changed = changed
        self._stamp: FileStamp | None = None
        self._task: asyncio.Task[None] | None = None
        self.look()

    def look(self) -> None:
        """Take the file as it is now for known."""
        self._stamp = None if self._file is None else look_at(self._file)

    def start(self) -> None:
        """Begin to look; needs the running loop."""
        if self._file is not None:
            self._task = asyncio.create_task(self._watch(self._file))

    async def stop(self) -> None:
        """Look no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _watch(self, file: Path) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY)
            before = self._stamp
            stamp = await look_again(file, before)
            if self._stamp is not before:
                continue  # it was loaded in the meantime
            self._stamp = stamp
            if differ(before, stamp):
                self._changed()
