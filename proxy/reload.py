"""A new policy file for a running proxy: by SIGHUP, when the file changes, or by a call."""

import asyncio
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import time
from typing import Final

import structlog

from config.load import Loaded
from config.problems import Invalid
from proxy import systemd
from proxy.app import App
from proxy.listeners import ServerError

log = structlog.get_logger("ollama_proxy.config")

LOOK_EVERY: Final = 1.0
"""Seconds between two looks at the file."""

Stamp = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Reloaded:
    """What came of a reload.

    Attributes:
        problems: why the file was refused; empty where it is in force now.
        restart: settings that changed and need a restart.
    """

    at: float
    generation: int
    problems: tuple[str, ...] = ()
    restart: tuple[str, ...] = ()


class Reloader:
    """Puts the policy file in force again whenever it is asked to, or it sees that the file changed.

    Each time the server's certificate is read again, too, so that one that was renewed needs no restart.

    The file is looked at by its path, through every symbolic link: a mounted config map changes by a link being
    swapped, not by a write.
    """

    def __init__(
        self, app: App, read: Callable[[], Loaded], file: Path | None, *, renew_tls: Callable[[], None] = lambda: None
    ) -> None:
        self._app = app
        self._read = read
        self._renew_tls = renew_tls
        self._file = file
        self._stamp = self._look()
        self._task: asyncio.Task[None] | None = None
        self.last = Reloaded(time(), app.frame.current.number)

    def start(self) -> None:
        """Begin to look at the file and to listen for SIGHUP; needs the running loop."""
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self.reload)
        if self._file is not None:
            self._task = asyncio.create_task(self._watch())

    async def stop(self) -> None:
        """End both."""
        asyncio.get_running_loop().remove_signal_handler(signal.SIGHUP)
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def reload(self) -> Reloaded:
        """Read the file and put it in force, or leave everything as it is and say why.

        A process that drains takes no other file: it would tell systemd that it is ready, and look for backends anew.
        """
        self._stamp = self._look()
        if not self._app.serving:
            self.last = Reloaded(time(), self._app.frame.current.number, ("the proxy is shutting down",))
            log.warning("config_refused", config_generation=self.last.generation, problems=self.last.problems)
            return self.last
        try:
            restart = self._app.reload(self._read())
        except Invalid as error:
            problems = tuple(map(str, error.problems))
            self.last = Reloaded(time(), self._app.frame.current.number, problems)
            self._app.metrics.reloaded(loaded=False)
            log.error("config_refused", config_generation=self.last.generation, problems=problems)
        except Exception as error:  # a bug of ours or of a plugin
            problem = f"it cannot be loaded: {type(error).__name__}; the log has its traceback"
            self.last = Reloaded(time(), self._app.frame.current.number, (problem,))
            self._app.metrics.reloaded(loaded=False)
            log.exception("reload_failed")
        else:
            self.last = Reloaded(time(), self._app.frame.current.number, restart=restart)
            self._app.metrics.reloaded(loaded=True)
            log.info(
                "config_loaded", config_generation=self.last.generation, chain=str(self._app.plan), restart=restart
            )
        systemd.ready(reloaded=True)  # whatever came of it: `systemctl reload` waits until it hears this
        try:
            self._renew_tls()
        except ServerError as error:
            log.error("certificate_kept_as_it_was", problem=str(error))
        return self.last

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY)
            if self._look() != self._stamp:
                self.reload()

    def _look(self) -> Stamp | None:
        if self._file is None:
            return None
        try:
            status = os.stat(self._file)
        except OSError:
            return None
        return status.st_mtime_ns, status.st_size, status.st_ino
