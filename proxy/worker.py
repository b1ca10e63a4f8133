"""One of several processes that serve: ``python -m proxy.worker FD``, started by the parent (``proxy/parent.py``) only.

It inherits the sockets that listen, and the channel to its parent as `FD`, by which it is told all else: the policy
file, when to load it again, when to end. Signals are for the parent; SIGTERM to a worker alone lets it finish what it
runs and end, and the parent replaces it. A worker whose parent is gone does the same.
"""

import asyncio
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import structlog

from config.load import Loaded, load_bytes, with_sections
from config.problems import Invalid
from config.settings import Log
from proxy.app import NEEDS_RESTART, App
from proxy.collector import keep_collector_calm
from proxy.commands.announce import announce
from proxy.commands.terminal import complain
from proxy.kernel.log_lines import FORMATS, name_worker
from proxy.kernel.shared_numbers import SharedNumbers
from proxy.membership import COLUMNS, CONNECTIONS, Membership
from proxy.reload import Reloaded, Reloader
from proxy.server import open_files
from proxy.server.connection_counts import SharedCounts
from proxy.server.listeners import ServerError
from proxy.server.server import Seat, Server, new_event_loop
from proxy.server.server_state import log_bounds
from proxy.telemetry.log_setup import configure
from proxy.telemetry.log_turns import Turns
from proxy.telemetry.log_writer import Writer
from proxy.wiring import server_options
from proxy.workers.channel import ChannelError
from proxy.workers.member import Member

log = structlog.get_logger("ollama_proxy.workers")

START: Final = 30.0
"""Seconds that the parent may take to say what is to be served."""
RELOADING: Final = 60.0
"""Seconds that the parent may take to load a policy file in all workers."""
_RESTART: Final = frozenset(name.partition(".")[0] for name in NEEDS_RESTART) - {"server"}
"""The sections that change only with a restart. Of `server` that is the mode of unix sockets, which the parent made."""
_IGNORED: Final = (signal.SIGINT, signal.SIGHUP)
"""A terminal sends these to all processes; the parent says what they mean."""


class Follower:
    """Loads the policy file when the parent says so, as the parent has read it; operators ask the parent for it.

    Args:
        member: this worker.
        app: what it serves.
        texts: the policy file in force, and how it is read.
        renew_tls: reads the certificate again.
    """

    def __init__(self, member: Member, app: App, texts: "Texts", server: Server) -> None:
        self._member = member
        self._app = app
        self._texts = texts
        self._reloader = Reloader(app, texts.read, None, renew_tls=server.renew_tls, tell_ready=self._tell_ready)
        member.on("reload", self._reload)
        member.hears["refused"] = lambda about: self._reloader.refuse(about["problems"])

    @property
    def last(self) -> Reloaded:
        """The result of the last load."""
        return self._reloader.last

    async def ask(self) -> Reloaded:
        """Let the parent load the policy file in all workers, and return the result."""
        try:
            said = await self._member.channel.ask("reload", {}, timeout=RELOADING)
        except (ChannelError, TimeoutError) as error:
            problem = f"the parent of the workers did not load it: {str(error) or 'it took too long'}"
            return Reloaded(self.last.at, self.last.generation, (problem,))
        return Reloaded(said["at"], said["generation"], tuple(said["problems"]), tuple(said["restart"]))

    def serve(self) -> None:
        """Tell the parent when requests are served, and when every backend was asked."""
        self._member.channel.tell("serving")
        self._reloader.say_ready(reloaded=False)

    async def _reload(self, about: Mapping[str, Any]) -> Reloaded | Mapping[str, Any]:
        """Load the file; return nothing of it where this worker only finishes what it runs."""
        if not self._app.serving:
            return {}
        self._texts.current = about["text"]
        return self._reloader.reload()

    def _tell_ready(self, reloaded: bool) -> None:
        self._member.channel.tell("ready")


class Texts:
    """The policy file as the parent has read it.

    Attributes:
        current: its text, as it is to be in force.
    """

    def __init__(self, file: str, changes: dict[str, Any], current: str) -> None:
        self._file = file
        self._changes = changes
        self.current = current

    def read(self) -> Loaded:
        """Return the policy file, read from its text."""
        return self._read(self.current)

    def read_as_begun_with(self, text: str) -> Loaded:
        """Return it with what only a restart changes as in `text`, which the parent began with.

        Nothing else of that text counts any more: what it names may be gone.
        """
        loaded = self.read()
        return loaded if text == self.current else with_sections(loaded, _RESTART, self._read(text))

    def _read(self, text: str) -> Loaded:
        folder = Path(self._file).absolute().parent
        return load_bytes(text.encode(), file=self._file, folder=folder, changes=self._changes)


class Worker:
    """What one worker serves, from the parent's first word on.

    Args:
        member: its end of the channel.
        about: what is to be served; see `proxy.parent.Parent.begin`.
        sink: takes its log lines.
    """

    def __init__(self, member: Member, about: Mapping[str, Any], sink: Writer) -> None:
        member.number = about["number"]
        self._member = member
        self._count = about["count"]
        numbers = SharedNumbers(about["numbers"], rows=self._count, columns=COLUMNS, row=member.number - 1)
        texts = Texts(about["file"], about["changes"], about["text"])
        membership = Membership(
            peers=member,
            ops=None if about["ops"] is None else Seat(_sockets(about["ops"])),
            numbers=numbers,
            generation=about["generation"],
        )
        self.app = App(texts.read_as_begun_with(about["began_with"]), sink, membership)
        for name in about["drained"]:
            backend = self.app.pool.named(name)
            if backend is not None:
                backend.health.draining = True
        counts = SharedCounts(numbers, CONNECTIONS, bytes.fromhex(about["key"]))
        self.server = Server(
            self.app.frame, server_options(self.app.settings), Seat(_sockets(about["sockets"]), counts)
        )
        self.follower = Follower(member, self.app, texts, self.server)
        member.on("announce", self._announce)

    async def run(self) -> None:
        """Serve until the server is stopped."""
        await self.server.run_here(self._ready, signals=())

    def _ready(self, running: Server) -> None:
        keep_collector_calm()
        self.app.server, self.app.reloader = running, self.follower
        running.renew_bounds(server_options(self.app.settings))  # a file may have been loaded since it was made
        log_bounds(running.bounds)
        self.follower.serve()

    async def _announce(self, about: Mapping[str, Any]) -> None:
        announce(self.app, self.server.addresses, workers=self._count)


class Stop:
    """Ends a worker once, whoever says so; only its parent can hurry it."""

    def __init__(self) -> None:
        self._server: Server | None = None
        self._asked = False

    def watch(self, server: Server) -> None:
        """End this server, at once if that was asked for before it was there."""
        self._server = server
        if self._asked:
            server.stop()

    def __call__(self) -> None:
        """Let what runs finish, and end."""
        if not self._asked:
            self._asked = True
            if self._server is not None:
                self._server.stop()

    def hurry(self) -> None:
        """End without waiting for what runs."""
        self()
        if self._server is not None:
            self._server.stop()


async def _serve(sock: socket.socket) -> int:
    member, stop, opened = Member(sock), Stop(), asyncio.Event()
    member.hears["stop"] = lambda about: stop()
    member.hears["hurry"] = lambda about: stop.hurry()
    _heed_signals(stop)
    talking = asyncio.create_task(member.channel.run(opened.set))
    await opened.wait()
    sink: Writer | None = None
    try:
        about = await member.channel.ask("begin", {}, timeout=START)
        name_worker(about["number"])
        sink = Writer(render=FORMATS[about["format"]], turns=Turns(about["turns"]))
        configure(sink, format=about["format"], level=Log().level)
        worker = Worker(member, about, sink)
        stop.watch(worker.server)
        talking.add_done_callback(lambda task: _parent_gone(stop))
        await worker.run()
    except Invalid as error:
        complain(*map(str, error.problems))
        return 1
    except (ServerError, ChannelError, TimeoutError) as error:
        complain(str(error))
        return 1
    finally:
        if sink is not None:
            await asyncio.to_thread(sink.close)
        talking.cancel()
    return 0


def _parent_gone(stop: Stop) -> None:
    log.error("parent_gone")
    stop()


def _heed_signals(stop: Stop) -> None:
    """Handle signals from now on; the parent held them back until here."""
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop)
    for number in _IGNORED:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGTERM, *_IGNORED))


def _sockets(fds: Sequence[int]) -> list[socket.socket]:
    return [socket.socket(fileno=fd) for fd in fds]


def main() -> int:
    """Serve, and return the exit code."""
    sock = socket.socket(fileno=int(sys.argv[1]))
    sock.setblocking(False)
    open_files.raise_limit()
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(_serve(sock))


if __name__ == "__main__":
    sys.exit(main())
