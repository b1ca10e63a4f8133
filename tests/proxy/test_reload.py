"""proxy/reload.py, and `App.reload` under running streams."""

import asyncio
import os
import signal
from pathlib import Path

import pytest
import yaml

from config.load import Loaded, load
from proxy.app import App
from proxy.pool.backend import Backend
from proxy.reload import Reloader
from proxy.server.server import serve
from proxy.simulator import Ollama
from proxy.testing import LogLines
from proxy.wiring import server_options
from tests.support.backend import eventually
from tests.support.options import make_backend
from tests.support.policy import load_text
from tests.support.proxy import running
from tests.support.wire import Client, ask, request

CHAT = {"model": "llama3.2", "messages": [{"role": "user", "content": "hi"}], "stream": True}


def policy(*urls: str, **more: object) -> str:
    backends = [{"name": f"b{number}", "url": url} for number, url in enumerate(urls, 1)]
    return yaml.safe_dump({"backends": backends, "middleware": ["logging", "retry"], **more})


class Written:
    """A policy file that a test writes."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "proxy.yaml"

    def write(self, text: str) -> None:
        new = self.path.with_suffix(".new")
        new.write_text(text)
        os.replace(new, self.path)

    def read(self) -> Loaded:
        return load(self.path)


async def test_a_bad_file_changes_nothing_and_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[bool] = []
    monkeypatch.setattr("proxy.reload.systemd.ready", lambda *, reloaded: told.append(reloaded))
    file = Written(tmp_path)
    file.write(policy("http://127.0.0.1:1"))
    app = App(file.read(), LogLines())
    before = app.frame.current
    reloader = Reloader(app, file.read, file.path)
    file.write("backends: [{name: a, url: nonsense}]\nmiddleware: [retri]\n")
    result = reloader.reload()
    assert app.frame.current is before
    assert len(result.problems) == 2
    assert all(problem.startswith(f"{file.path}:") for problem in result.problems)
    assert reloader.last is result
    assert told == [True], "systemd would wait for the end of this reload"
    file.write(policy("http://127.0.0.1:1", listen="127.0.0.1:1"))
    result = reloader.reload()
    assert (result.problems, result.generation, result.restart) == ((), 2, ("listen",))


async def test_a_change_that_needs_a_restart_is_a_warning(tmp_path: Path) -> None:
    file, lines = Written(tmp_path), LogLines()
    file.write(policy("http://127.0.0.1:1"))
    app = App(file.read(), lines)
    app._configure_log()
    reloader = Reloader(app, file.read, file.path)
    file.write(policy("http://127.0.0.1:1", pool={"grace": "7s"}))
    reloader.reload()
    assert [event["level"] for event in lines.events if event["event"] == "restart_needed"] == []
    file.write(policy("http://127.0.0.1:1", listen="127.0.0.1:1"))
    reloader.reload()
    (warning,) = [event for event in lines.events if event["event"] == "restart_needed"]
    assert (warning["level"], warning["config_generation"], warning["restart"]) == ("warning", 3, ["listen"])


async def test_a_store_that_cannot_be_is_refused_although_a_new_one_needs_a_restart(tmp_path: Path) -> None:
    file = Written(tmp_path)
    file.write(policy("http://127.0.0.1:1"))
    app = App(file.read(), LogLines())
    reloader = Reloader(app, file.read, file.path)
    file.write(policy("http://127.0.0.1:1", store="redis://:secret@host:port/0"))
    (problem,) = reloader.reload().problems
    assert "store: the store's address cannot be read" in problem
    assert "secret" not in problem
    assert app.frame.current.number == 1
    file.write(policy("http://127.0.0.1:1", store="redis://host:6379/0"))
    assert reloader.reload().restart == ("store",)


async def test_no_reload_opens_to_strangers_what_listens_already(tmp_path: Path) -> None:
    """Another `listen` needs a restart, so that a file without `auth` may not go by what it says of it."""
    file = Written(tmp_path)
    asks = {"middleware": [{"use": "tests.support.plugins:Identify", "name": "who"}], "policies": {"guests": {}}}
    file.write(policy("http://127.0.0.1:1", listen="0.0.0.0:0", **asks))
    app = App(file.read(), LogLines())
    reloader = Reloader(app, file.read, file.path)
    async with serve(app.frame, server_options(app.settings)) as app.server:
        file.write(policy("http://127.0.0.1:1", listen="127.0.0.1:0"))
        (problem,) = reloader.reload().problems
        assert f"others can reach {app.server.addresses[0]}" in problem
        assert "middleware" in problem
        file.write(policy("http://127.0.0.1:1", listen="127.0.0.1:0", allow_anonymous_network=True))
        assert not reloader.reload().problems


async def test_a_change_of_the_file_is_seen_through_a_swapped_link(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a mounted config map changes: ``..data`` is replaced by a link to another folder."""
    monkeypatch.setattr("proxy.reload.LOOK_EVERY", 0.01)
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "proxy.yaml").write_text(policy("http://127.0.0.1:1", listen=f"127.0.0.1:{len(name)}"))
    (tmp_path / "..data").symlink_to("one")
    (tmp_path / "proxy.yaml").symlink_to("..data/proxy.yaml")
    path = tmp_path / "proxy.yaml"
    app = App(load(path), LogLines())
    reloader = Reloader(app, lambda: load(path), path)
    reloader.start()
    try:
        (tmp_path / "new").symlink_to("two")
        os.replace(tmp_path / "new", tmp_path / "..data")
        await eventually(lambda: app.frame.current.number == 2)
        os.kill(os.getpid(), signal.SIGHUP)
        await eventually(lambda: app.frame.current.number == 3)
    finally:
        await reloader.stop()
        await app.pool.aclose()


async def test_a_reload_that_breaks_is_not_the_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.reload.LOOK_EVERY", 0.01)
    file = Written(tmp_path)
    file.write(policy("http://127.0.0.1:1"))
    bugs = [RuntimeError("a bug")]

    def read() -> Loaded:
        if bugs:
            raise bugs.pop()
        return file.read()

    app = App(file.read(), LogLines())
    reloader = Reloader(app, read, file.path)
    reloader.start()
    try:
        file.write(policy("http://127.0.0.1:1", listen="127.0.0.1:1"))
        await eventually(lambda: not bugs)
        file.write(policy("http://127.0.0.1:1", listen="127.0.0.1:22"))
        await eventually(lambda: app.frame.current.number == 2)
    finally:
        await reloader.stop()
        await app.pool.aclose()


@pytest.mark.parametrize("asked", [True, False])
async def test_who_drains_takes_no_other_file_and_does_not_say_it_is_ready(
    asked: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even where it said nothing before, as not every backend had been asked."""
    said: list[bool] = []
    slow = make_backend("slow", "http://127.0.0.1:1")
    monkeypatch.setattr("proxy.reload.systemd.ready", lambda *, reloaded: said.append(reloaded))
    file = Written(tmp_path)
    file.write(policy("http://127.0.0.1:1", listen="127.0.0.1:0"))
    app = App(file.read(), LogLines())
    reloader = Reloader(app, file.read, file.path)
    async with serve(app.frame, server_options(app.settings)) as app.server:
        app.pool.first_round.expect([slow])
        assert not reloader.reload().problems
        if asked:
            app.pool.first_round.ended(slow)
            await app.pool.first_round.wait()
        assert (app.frame.current.number, said) == (2, [True] * asked)
        await app.server.drain(0)
        assert reloader.reload().problems == ("the proxy is shutting down",)
        app.pool.first_round.ended(slow)
        await app.pool.first_round.wait()
        assert (app.frame.current.number, said) == (2, [True] * asked)


async def test_bounds_and_deadlines_count_for_what_comes_from_now_on(tmp_path: Path) -> None:
    async with running("http://127.0.0.1:1", middleware=["logging"]) as proxy:
        before = await Client.connect(proxy.address)
        await before.send(b"GET / HTTP/1.1\r\n")
        await eventually(lambda: len(proxy.server._connections()) == 1)
        bounds = {"head": {"fields": 8}, "write": "7s", "shutdown": "3s", "body": {"each": "2KiB", "rate": "1KiB"}}
        app = proxy.app
        app.server = proxy.server
        text = policy("http://127.0.0.1:1", server={**bounds, "unix_mode": "0600"})
        assert app.reload(load_text(text)) == ("listen", "server.unix_mode")
        assert (app.bodies.each, app.bodies.rate) == (2048, 1024)
        options = proxy.server.options
        assert (options.write_timeout, options.shutdown_timeout) == (7, 3)
        assert (options.listen, options.unix_mode) == (["127.0.0.1:0"], 0o660)
        fields = b"".join(b"X-%d: x\r\n" % number for number in range(9)) + b"Host: localhost\r\n\r\n"
        await before.send(fields)
        assert (await before.read_head()).status != 431
        after = await Client.connect(proxy.address)
        await after.send(b"GET / HTTP/1.1\r\n" + fields)
        assert (await after.read_head()).status == 431
        before.hang_up()
        after.hang_up()


async def test_backends_that_did_not_change_are_kept_and_others_end_what_they_run() -> None:
    async with Ollama() as one, Ollama() as two, running(one.url, two.url) as proxy:
        app = proxy.app
        kept, gone = app.pool.backends
        stall = two.fault("stall", route="/api/chat", after=2)
        client = await Client.connect(proxy.address)
        await client.send(request("POST", "/-/backends/b2/api/chat", CHAT))
        await client.read_head()
        app.reload(load_text(policy(one.url)))
        assert app.pool.backends == [kept]
        assert gone.active == 1
        assert (await ask(proxy.address, "POST", "/api/chat", CHAT)).clean
        stall.release()
        chunks = 0
        while await client.read_chunk():
            chunks += 1
        assert chunks > 2
        await client.close()
        await app.pool.close_retired()
        await eventually(lambda: two.counters.connections_open == 0)
        line = await proxy.log.request(2)
        assert {line["config_generation"] for line in proxy.log.requests} == {1, 2}
        assert line["outcome"] == "completed"


async def test_one_that_changed_is_another() -> None:
    app = App(load_text(policy("http://127.0.0.1:1", "http://127.0.0.1:2")), LogLines())
    first, second = app.pool.backends
    app.watch.look = _nothing  # type: ignore[method-assign]
    app.reload(load_text(policy("http://127.0.0.1:1", "http://127.0.0.1:3")))
    assert app.pool.backends[0] is first
    assert app.pool.backends[1] is not second
    await app.watch.stop()
    await app.pool.aclose()


async def _nothing(backend: Backend) -> None:
    await asyncio.Event().wait()


async def test_a_bug_is_told_and_the_file_before_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plugin whose constructor fails, say: whoever asked for the reload hears of it, systemd included."""
    told: list[bool] = []
    monkeypatch.setattr("proxy.reload.systemd.ready", lambda *, reloaded: told.append(reloaded))
    file = Written(tmp_path)
    file.write(policy("http://127.0.0.1:1"))
    app = App(file.read(), LogLines())
    before = app.frame.current

    def fails(loaded: Loaded) -> tuple[str, ...]:
        raise OSError("secret")

    monkeypatch.setattr(app, "reload", fails)
    reloader = Reloader(app, file.read, file.path)
    result = reloader.reload()
    assert result.problems == ("it cannot be loaded: OSError; the log has its traceback",)
    assert reloader.last is result
    assert app.frame.current is before
    assert told == [True]


async def test_a_certificate_that_goes_away_meanwhile_ends_no_reload(tmp_path: Path) -> None:
    def renew() -> None:
        raise FileNotFoundError("cert.pem")

    file = Written(tmp_path)
    file.write(policy("http://127.0.0.1:1"))
    reloader = Reloader(App(file.read(), LogLines()), file.read, file.path, renew_tls=renew)
    assert reloader.reload().generation == 2


async def test_a_rewrite_in_place_with_size_and_time_kept_is_taken(tmp_path: Path) -> None:
    async with Ollama() as sim:
        file = Written(tmp_path)
        file.write(policy(sim.url, policies={"research": {}}))
        app = App(file.read(), LogLines())
        reloader = Reloader(app, file.read, file.path)
        async with serve(app.frame, server_options(app.settings)):
            reloader.start()
            status = file.path.stat()
            file.path.write_text(policy(sim.url, policies={"resaerch": {}}))
            os.utime(file.path, ns=(status.st_atime_ns, status.st_mtime_ns))
            await eventually(lambda: "resaerch" in app.plan.policies)
            await reloader.stop()
