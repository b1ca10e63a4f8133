"""Several processes on one port: they answer as one proxy, and one that dies takes only its own streams with it."""

import asyncio
import json
import os
import shutil
import signal
import socket
import ssl
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from middleware.auth.key_file_editor import add_key
from middleware.auth.keys import new_key
from proxy.simulator import Ollama
from tests.conftest import Need
from tests.support.browser import CHROMEDRIVER, CHROMIUM, browser
from tests.support.certificates import Authority
from tests.support.process import ROOT, Process, free_port, start_process
from tests.support.redis import RedisServer, redis_server
from tests.support.wire import Client, Reply, ask, request

CHAT: Final = {"model": "llama3.2", "messages": [{"role": "user", "content": "hi"}], "stream": True}
SHORT: Final = {**CHAT, "stream": False}
STREAMS: Final = 200
TOKENS: Final = 8
HERE: Final = {"Host": "localhost"}

pytestmark = [pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def store() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


@asynccontextmanager
async def workers(
    folder: Path, store: RedisServer, sim: Ollama, *, count: int = 2, **more: Any
) -> AsyncIterator[Process]:
    async with Process.started(folder / "proxy.yaml", policy(store, sim, count=count, **more)) as proxy:
        yield proxy


def policy(store: RedisServer, sim: Ollama, *, count: int = 2, **more: Any) -> dict[str, Any]:
    return {
        "listen": "127.0.0.1:0",
        "backends": [{"name": "b1", "url": sim.url}],
        "middleware": ["logging", "metrics"],
        "store": store.url,
        "workers": count,
        **more,
    }


async def look(proxy: Process, path: str = "/-/status") -> dict[str, Any]:
    reply = await ask(proxy.address, "GET", path, headers=HERE)
    assert reply.status == 200, reply.body
    found: dict[str, Any] = json.loads(reply.body)
    return found


async def until(proxy: Process, true: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """Ask for the status until it is as it should be, and return it."""
    async with asyncio.timeout(30):
        while True:
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                status = await look(proxy)
                if true(status):
                    return status


async def until_refused(proxy: Process) -> None:
    """Connect until nobody listens any more."""
    async with asyncio.timeout(30):
        with suppress(ConnectionError):
            while True:
                (await Client.connect(proxy.address)).hang_up()


async def stream(proxy: Process) -> Reply:
    return await ask(proxy.address, "POST", "/api/chat", CHAT)


@asynccontextmanager
async def held_streams(proxy: Process, sim: Ollama, number: int) -> AsyncIterator[list[asyncio.Task[Reply]]]:
    """Run streams that stop before their last chunk, until the end of the block."""
    held = sim.fault("stall", route="/api/chat", after=TOKENS - 1, times=None)
    tasks = [asyncio.create_task(stream(proxy)) for _ in range(number)]
    await sim.wait_for(lambda: sim.counters.active == number, timeout=30)
    try:
        yield tasks
    finally:
        held.release()
        await asyncio.wait(tasks)


def is_whole(reply: Reply) -> bool:
    return reply.clean and len(reply.chunks) == TOKENS + 1


async def test_they_share_the_work_and_count_it_as_one(tmp_path: Path, store: RedisServer) -> None:
    async with Ollama() as sim, workers(tmp_path, store, sim) as proxy:
        clients = [await Client.connect(proxy.address) for _ in range(20)]
        for _ in range(5):
            for client in clients:
                await client.send(request("POST", "/api/chat", SHORT))
            for client in clients:
                assert (await client.read()).status == 200
        for _ in range(10):  # whoever answers, the numbers are those of all
            text = (await ask(proxy.address, "GET", "/-/metrics", headers=HERE)).body.decode()
            assert samples(text, 'ollama_proxy_requests_total{backend="b1"') == 100
            assert samples(text, 'ollama_proxy_request_duration_seconds_count{class="inference"') == 100
            assert samples(text, "ollama_proxy_workers ") == 2
        status = await look(proxy)
        assert [worker["number"] for worker in status["workers"]] == [1, 2]
        assert sum(worker["connections"] for worker in status["workers"]) == len(clients) + 1
        assert min(worker["connections"] for worker in status["workers"]) >= len(clients) // 2 - 1
        assert len(status["recent"]) == 100
        for client in clients:
            client.hang_up()
        lines = await proxy.stop()
    by_worker = Counter(line["worker"] for line in lines if line["route"] == "/api/chat")
    assert by_worker.total() == 100
    assert min(by_worker[1], by_worker[2]) >= 40


def samples(text: str, beginning: str) -> float:
    return sum(float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(beginning))


async def test_a_crash_breaks_only_the_streams_of_the_one_that_crashed(tmp_path: Path, store: RedisServer) -> None:
    async with (
        Ollama(num_parallel=STREAMS, tokens=TOKENS) as sim,
        workers(tmp_path, store, sim) as proxy,
        held_streams(proxy, sim, STREAMS) as streams,
    ):
        before = await until(proxy, lambda status: len(status["requests"]) == STREAMS)
        first, second = before["workers"]
        assert first["requests"] + second["requests"] == STREAMS
        os.kill(second["pid"], signal.SIGKILL)
        lost = second["requests"]
        # Connections that wait to be accepted are not the dead one's: the other worker takes them.
        answers = await asyncio.gather(*(ask(proxy.address, "GET", "/api/version") for _ in range(50)))
        assert {answer.status for answer in answers} == {200}
        after = await until(proxy, lambda status: has_another(status, second["pid"]))
        assert after["workers"][0]["pid"] == first["pid"]
        assert after["workers"][0]["requests"] == STREAMS - lost
        await sim.wait_for(lambda: sim.counters.active == STREAMS - lost)
        text = (await ask(proxy.address, "GET", "/-/metrics", headers=HERE)).body.decode()
        assert samples(text, "ollama_proxy_workers_ended_total") == 1
    ended = [is_whole(task.result()) for task in streams]
    assert ended.count(True) == STREAMS - lost
    assert 0 < lost < STREAMS


def has_another(status: dict[str, Any], pid: int) -> bool:
    return all(worker["pid"] not in (None, pid) for worker in status["workers"])


async def test_what_a_dead_one_had_counted_stays_counted(tmp_path: Path, store: RedisServer) -> None:
    async with Ollama() as sim, workers(tmp_path, store, sim) as proxy:
        for _ in range(30):
            assert (await ask(proxy.address, "POST", "/api/chat", SHORT)).status == 200
        text = (await ask(proxy.address, "GET", "/-/metrics", headers=HERE)).body.decode()
        assert samples(text, 'ollama_proxy_requests_total{backend="b1"') == 30
        pids = [worker["pid"] for worker in (await look(proxy))["workers"]]
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
            await until(proxy, lambda status, pid=pid: has_another(status, pid))  # type: ignore[misc]
        text = (await ask(proxy.address, "GET", "/-/metrics", headers=HERE)).body.decode()
        assert samples(text, 'ollama_proxy_requests_total{backend="b1"') == 30


@pytest.mark.timeout(180)
async def test_a_hundred_reloads_break_no_stream_and_reach_all(tmp_path: Path, store: RedisServer) -> None:
    async with (
        Ollama(num_parallel=STREAMS, tokens=TOKENS) as sim,
        workers(tmp_path, store, sim) as proxy,
        held_streams(proxy, sim, STREAMS) as streams,
    ):
        file = tmp_path / "proxy.yaml"
        listen = f"127.0.0.1:{proxy.address[1]}"
        good = 1
        for number in range(100):
            size = f"{number + 1}MiB"
            fine = number % 2 == 0
            body = {"each": size, "total": "1GiB"} if fine else {"each": "2GiB", "total": "1GiB"}
            write(file, policy(store, sim, listen=listen, server={"body": body}))
            reply = await ask(proxy.address, "POST", "/-/reload", headers=HERE)
            assert reply.status == (200 if fine else 422), reply.body
            good += fine
            assert json.loads(reply.body)["generation"] == good
            sizes = await asyncio.gather(*(largest(proxy) for _ in range(4)))
            assert set(sizes) == {f"{number + fine}MiB"}
        status = await look(proxy)
        assert status["config"]["problems"]
        assert len(status["requests"]) == STREAMS
        # A signal to one worker alone lets it finish, too.
        os.kill(status["workers"][0]["pid"], signal.SIGTERM)
        await until(proxy, lambda status: len(status["requests"]) == STREAMS)
    assert all(is_whole(task.result()) for task in streams)


async def test_a_new_worker_begins_with_the_file_that_is_in_force(tmp_path: Path, store: RedisServer) -> None:
    async with Ollama() as sim, workers(tmp_path, store, sim) as proxy:
        file = tmp_path / "proxy.yaml"
        write(file, policy(store, sim, server={"body": {"each": "3MiB"}}))
        assert (await ask(proxy.address, "POST", "/-/reload", headers=HERE)).status == 200
        assert (await ask(proxy.address, "POST", "/-/drain/b1", headers=HERE)).status == 200
        file.write_text("backends: [")
        assert (await ask(proxy.address, "POST", "/-/reload", headers=HERE)).status == 422
        for worker in (await look(proxy))["workers"]:
            os.kill(worker["pid"], signal.SIGKILL)
            await until(proxy, lambda status, pid=worker["pid"]: has_another(status, pid))  # type: ignore[misc]
        status = await look(proxy)
        assert status["config"]["generation"] == 2
        assert status["backends"][0]["state"] == "draining"
        assert await largest(proxy) == "3MiB"


async def test_a_new_worker_serves_as_the_others_do_what_a_restart_would_change(
    tmp_path: Path, store: RedisServer
) -> None:
    pair, keys = Authority(tmp_path).issue("localhost"), tmp_path / "keys.yaml"
    _, entry = new_key("alice", now=0.0)
    add_key(keys, entry)
    chain = ["logging", "metrics", {"auth": {"keys": str(keys), "addresses": [{"network": "127.0.0.0/8"}]}}]
    async with Ollama() as sim, workers(tmp_path, store, sim, middleware=chain) as proxy:
        tls = {"cert": str(pair.cert), "key": str(pair.key)}
        later = policy(store, sim, tls=tls, ops={"listen": "127.0.0.1:0"}, server={"body": {"each": "3MiB"}})
        write(tmp_path / "proxy.yaml", later)
        said = json.loads((await ask(proxy.address, "POST", "/-/reload", headers=HERE)).body)
        assert set(said["restart"]) == {"tls", "ops"}
        keys.unlink()  # no file in force names it
        for worker in (await look(proxy))["workers"]:
            os.kill(worker["pid"], signal.SIGKILL)
            await until(proxy, lambda status, pid=worker["pid"]: has_another(status, pid))  # type: ignore[misc]
        assert {await largest(proxy) for _ in range(8)} == {"3MiB"}
        assert (await look(proxy))["config"]["generation"] == 2


async def test_one_that_finishes_what_it_runs_stands_in_no_reloads_way(tmp_path: Path, store: RedisServer) -> None:
    async with (
        Ollama(num_parallel=10, tokens=TOKENS) as sim,
        workers(tmp_path, store, sim) as proxy,
        held_streams(proxy, sim, 10) as streams,
    ):
        before = await until(proxy, lambda status: len(status["requests"]) == 10)
        os.kill(before["workers"][0]["pid"], signal.SIGTERM)
        idle = before["workers"][0]["requests"]
        await until(proxy, lambda status: status["workers"][0]["connections"] == idle)
        for generation in (2, 3):
            reply = await ask(proxy.address, "POST", "/-/reload", headers=HERE)
            assert (reply.status, json.loads(reply.body)["generation"]) == (200, generation), reply.body
        assert len((await look(proxy))["requests"]) == 10
    assert all(is_whole(task.result()) for task in streams)


async def test_a_file_that_kills_the_first_that_loads_it_is_in_force_nowhere(
    tmp_path: Path, store: RedisServer
) -> None:
    deadly = "import os\n\n\nclass Deadly:\n    def __init__(self, app):\n        os._exit(3)\n"
    (tmp_path / "deadly.py").write_text(deadly)
    async with Ollama() as sim, workers(tmp_path, store, sim) as proxy:
        first, second = (worker["pid"] for worker in (await look(proxy))["workers"])
        write(tmp_path / "proxy.yaml", policy(store, sim, middleware=["logging", "metrics", "deadly:Deadly"]))
        status = await until(proxy, lambda status: bool(status["config"]["problems"]) and has_another(status, first))
        assert status["config"]["problems"] == ["worker 1 ended while it loaded the file"]
        assert status["config"]["generation"] == 1
        assert status["workers"][1]["pid"] == second
        assert (await stream(proxy)).clean
        await proxy.stop()


async def largest(proxy: Process) -> str:
    size: str = (await look(proxy, "/-/config"))["settings"]["server"]["body"]["each"]
    return size


def write(file: Path, settings: dict[str, Any]) -> None:
    new = file.with_suffix(".new")
    new.write_text(yaml.safe_dump(settings))
    os.replace(new, file)


async def test_a_signal_lets_streams_finish_and_a_second_one_does_not(tmp_path: Path, store: RedisServer) -> None:
    for hurried in (False, True):
        async with Ollama(num_parallel=20, tokens=TOKENS) as sim, workers(tmp_path, store, sim) as proxy:
            async with held_streams(proxy, sim, 20) as streams:
                proxy.process.terminate()
                await until_refused(proxy)
                if hurried:
                    proxy.process.send_signal(signal.SIGINT)
                    await asyncio.wait(streams)
            said = await asyncio.wait_for(proxy.process.communicate(), 30)
            assert proxy.process.returncode == 0, said
        assert {is_whole(task.result()) for task in streams} == {not hurried}


async def test_systemd_hears_of_all_as_of_one(
    tmp_path: Path, store: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        async with Ollama() as sim, workers(tmp_path, store, sim) as proxy:
            assert await told(manager) == "READY=1"
            assert [worker["pid"] is not None for worker in (await look(proxy))["workers"]] == [True, True]
            proxy.process.send_signal(signal.SIGHUP)
            assert (await told(manager)).startswith("RELOADING=1\nMONOTONIC_USEC=")
            assert await told(manager) == "READY=1"
            assert (await look(proxy))["config"]["generation"] == 2
            proxy.process.terminate()
            assert await told(manager) == "STOPPING=1"
            await proxy.process.communicate()
            with pytest.raises(BlockingIOError):  # the workers themselves say nothing
                manager.recv(1000)


async def told(manager: socket.socket) -> str:
    return (await asyncio.wait_for(asyncio.get_running_loop().sock_recv(manager, 1000), 30)).decode()


async def test_any_of_them_cancels_any_request_and_hears_of_all(tmp_path: Path, store: RedisServer) -> None:
    async with (
        Ollama(num_parallel=10, tokens=TOKENS) as sim,
        workers(tmp_path, store, sim) as proxy,
        held_streams(proxy, sim, 10) as streams,
    ):
        listener, other = await Client.connect(proxy.address), await Client.connect(proxy.address)
        for client in (listener, other):  # one at each worker
            await client.send(request("GET", "/-/events", headers=HERE))
            assert (await client.read_head()).status == 200
            assert (await client.read_chunk()).startswith(b"event: status")
        requests = (await until(proxy, lambda status: len(status["requests"]) == 10))["requests"]
        one = await Client.connect(proxy.address)
        for number, running in enumerate(requests, 1):
            await one.send(request("POST", f"/-/cancel/{running['id']}", headers=HERE))
            assert (await one.read()).status == 200
            await sim.wait_for(lambda left=10 - number: sim.counters.active == left)  # type: ignore[misc]
        for client in (listener, other):
            assert await finished_by(client, 10) == {running["id"] for running in requests}
            client.hang_up()
        await one.send(request("POST", "/-/cancel/none", headers=HERE))
        assert (await one.read()).status == 404
        one.hang_up()
    assert not any(is_whole(task.result()) for task in streams)


async def finished_by(client: Client, number: int) -> set[str]:
    """Return the ids of so many requests that events say have ended."""
    found: set[str] = set()
    while len(found) < number:
        for event in (await client.read_chunk()).decode().split("\n\n"):
            if event.startswith("event: finished\n"):
                found.add(json.loads(event.partition("data: ")[2])["id"])
    return found


async def test_without_a_parent_they_end_and_the_port_is_free(tmp_path: Path, store: RedisServer) -> None:
    port = free_port()
    async with Ollama(num_parallel=10, tokens=TOKENS) as sim:
        async with (
            workers(tmp_path, store, sim, listen=f"127.0.0.1:{port}") as proxy,
            held_streams(proxy, sim, 10) as streams,
        ):
            pids = [worker["pid"] for worker in (await look(proxy))["workers"]]
            proxy.process.kill()
            await until_refused(proxy)
            async with workers(tmp_path, store, sim, listen=f"127.0.0.1:{port}") as again:
                assert (await ask(again.address, "POST", "/api/version")).status == 405
                await again.stop()
        assert all(is_whole(task.result()) for task in streams)
        async with asyncio.timeout(20):
            while any(Path(f"/proc/{pid}").exists() for pid in pids):  # noqa: ASYNC110, ASYNC240
                await asyncio.sleep(0)


async def test_the_bound_on_connections_is_one_for_all(tmp_path: Path, store: RedisServer) -> None:
    bounds = {"connections": {"total": 21, "per_address": 20}}
    async with (
        Ollama(num_parallel=50, tokens=TOKENS) as sim,
        workers(tmp_path, store, sim, count=3, server=bounds) as proxy,
        held_streams(proxy, sim, 20) as streams,
    ):
        for _ in range(10):
            refused = await ask(proxy.address, "GET", "/api/version")
            assert refused.status == 503
            assert refused.headers["x-error-code"] == "too_many_connections"
    assert all(is_whole(task.result()) for task in streams)


async def test_unix_sockets_and_a_listener_for_operators_are_served_by_all(tmp_path: Path, store: RedisServer) -> None:
    path = tmp_path / "proxy.sock"
    listen = ["127.0.0.1:0", f"unix:{path}"]
    async with Ollama() as sim, workers(tmp_path, store, sim, listen=listen, ops={"listen": "127.0.0.1:0"}) as proxy:
        assert proxy.process.stderr is not None
        page = b""
        while b"  page " not in page:
            page = await proxy.process.stderr.readline()
        ops = ("127.0.0.1", int(page.rpartition(b":")[2].partition(b"/")[0]))
        assert (await ask(proxy.address, "GET", "/-/status", headers=HERE)).status == 404
        numbers = json.loads((await ask(ops, "GET", "/-/status", headers=HERE)).body)["workers"]
        assert [worker["number"] for worker in numbers] == [1, 2]
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(request("GET", "/api/version"))
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        writer.close()
        await writer.wait_closed()
        await proxy.stop()
    assert not path.exists()


async def test_lines_longer_than_a_pipe_keeps_together_stay_whole(tmp_path: Path, store: RedisServer) -> None:
    """Each line of `capture` is longer than PIPE_BUF, and both workers write at once."""
    words = "x" * 6000
    chat = {**SHORT, "messages": [{"role": "user", "content": words}]}
    chain = ["logging", {"capture": {"prompt": "8KiB", "answer": "8KiB"}}]
    async with Ollama() as sim, workers(tmp_path, store, sim, middleware=chain) as proxy:
        for _ in range(10):
            answers = await asyncio.gather(*(ask(proxy.address, "POST", "/api/chat", chat) for _ in range(20)))
            assert {answer.status for answer in answers} == {200}
        proxy.process.terminate()
        output, _ = await proxy.process.communicate()
    events = [json.loads(line) for line in output.splitlines()]  # none is torn
    assert Counter(event["event"] for event in events)["content"] == 200
    assert {event["worker"] for event in events if event["event"] == "content"} == {1, 2}


async def test_what_stands_in_the_way_is_said_once(tmp_path: Path, store: RedisServer) -> None:
    file = tmp_path / "proxy.yaml"
    async with Ollama() as sim:
        for more, problem in (
            ({"listen": "192.0.2.1:1", "allow_anonymous_network": True}, "no network interface of this machine has"),
            ({"tls": {"cert": str(file), "key": str(file)}}, "must be PEM files"),
            ({"backends": [{"name": "a", "url": "https://127.0.0.1", "tls": {"ca": str(file)}}]}, "backends[0].tls"),
            ({"store": "memory"}, f"{file}:"),
        ):
            file.write_text(yaml.safe_dump(policy(store, sim) | more))
            process = await start_process(
                *(sys.executable, "-m", "proxy.cli", "serve", "-c", str(file)),
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
            _, said = await asyncio.wait_for(process.communicate(), 30)
            assert process.returncode == 1
            assert said.decode().count(problem) == 1, said.decode()
            assert "Traceback" not in said.decode()


@pytest.mark.timing(reason="a store that answers after 80 ms counts as away, and then each worker counts for itself")
async def test_a_limit_is_exact_across_them(tmp_path: Path, store: RedisServer) -> None:
    chain = [{"rate_limit": {"requests": "30/day"}}, "retry"]
    async with Ollama() as sim, workers(tmp_path, store, sim, count=3, middleware=chain) as proxy:
        answers = await asyncio.gather(*(ask(proxy.address, "POST", "/api/chat", SHORT) for _ in range(60)))
        assert Counter(answer.status for answer in answers) == {200: 30, 429: 30}
        await proxy.stop()


async def test_a_renewed_certificate_is_shown_by_all(tmp_path: Path, store: RedisServer) -> None:
    authority = Authority(tmp_path)
    pairs = [authority.issue("localhost"), authority.issue("localhost")]
    cert, key = tmp_path / "shown.crt", tmp_path / "shown.key"
    shutil.copy(pairs[0].cert, cert)
    shutil.copy(pairs[0].key, key)
    context = ssl.create_default_context(cafile=authority.cert)
    context.check_hostname = False
    async with Ollama() as sim, workers(tmp_path, store, sim, tls={"cert": str(cert), "key": str(key)}) as proxy:
        for pair in pairs:
            shutil.copy(pair.cert, cert)
            shutil.copy(pair.key, key)
            client = await Client.connect(proxy.address, ssl=context)
            await client.send(request("POST", "/-/reload", headers=HERE))
            assert (await client.read()).status == 200
            client.hang_up()
            clients = [await Client.connect(proxy.address, ssl=context) for _ in range(8)]
            seen = {client.writer.get_extra_info("ssl_object").getpeercert(binary_form=True) for client in clients}
            assert seen == {ssl.PEM_cert_to_DER_cert(Path(pair.cert).read_text())}  # noqa: ASYNC240
            for client in clients:
                client.hang_up()
        await proxy.stop()


async def test_the_page_shows_all(tmp_path: Path, store: RedisServer, need: Need) -> None:
    need("chromium with chromium-driver", bool(CHROMIUM and CHROMEDRIVER))
    async with Ollama() as sim, workers(tmp_path, store, sim) as proxy, browser() as page:
        await page.open(f"http://{proxy.address[0]}:{proxy.address[1]}/-/")
        await page.until("document.querySelectorAll('#workers li').length === 2")
        texts = await page.run("return [...document.querySelectorAll('#workers li')].map((item) => item.textContent)")
        assert [text[:8] for text in texts] == ["Worker 1", "Worker 2"]
        assert all("connections, process" in text for text in texts)
        assert await page.complaints() == []
        await proxy.stop()
