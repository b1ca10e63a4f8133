"""proxy/commands/doctor.py."""

from pathlib import Path

from proxy.simulator import Ollama
from tests.support.backend import always, backend, reply
from tests.support.cli import run, run_beside


def policy(folder: Path, *backends: str, more: str = "", chain: str = "logging") -> str:
    file = folder / "p.yaml"
    entries = ", ".join(f"{{name: b{number}, url: '{url}'}}" for number, url in enumerate(backends, 1))
    file.write_text(f"backends: [{entries}]\nmiddleware: [{chain}]\n{more}")
    return str(file)


async def test_a_host_that_is_well(tmp_path: Path) -> None:
    async with Ollama(version="99.0.0") as sim:
        file = policy(tmp_path, sim.url)
        said = (await run_beside("doctor", "-c", file)).out
        assert f"✓ policy file: {file} is fine" in said
        assert "✓ backend b1: Ollama 99.0.0, no holes known here" in said
        assert "· backend b1: no queue in the policy file" in said
        assert "✓ store: counters in this process" in said
        assert "✗" not in said


async def test_how_many_run_at_once_is_asked_of_the_process_on_the_port(tmp_path: Path) -> None:
    async with Ollama(version="99.0.0") as sim, Ollama(version="99.0.0", unix=str(tmp_path / "s")) as other:
        file = policy(tmp_path, sim.url, f"unix:{other.unix}", chain="logging, queue")
        said = (await run_beside("doctor", "-c", file)).out
        assert f"is not known: on port {sim.port} is" in said.replace("\n", " ")
        assert "it listens on a unix socket" in said


async def test_what_is_wrong_is_said_of_each_backend_and_ends_with_1(tmp_path: Path) -> None:
    old = always(reply(b'{"version": "0.1.46", "models": []}', b"Date: Sat, 01 Jan 2000 00:00:00 GMT"))
    async with backend(old) as one, Ollama(version="99.0.0") as sim:
        await sim.stop()
        said = (await run_beside("doctor", "-c", policy(tmp_path, one.url, sim.url), code=1)).out
        assert "✗ backend b1: Ollama 0.1.46 is older than 0.1.47: CVE-2024-45436" in said
        assert "older than 0.1.46" not in said
        assert "! backend b1: has no models" in said
        assert "s behind this one" in said
        assert [line for line in said.splitlines() if line.startswith("✗ backend b2: ")]


async def test_a_store_that_does_not_answer(tmp_path: Path) -> None:
    async with Ollama(version="99.0.0") as sim:
        async with Ollama() as gone:
            nowhere = gone.url.removeprefix("http://")
        file = policy(tmp_path, sim.url, more=f"store: redis://{nowhere}/0\n")
        said = (await run_beside("doctor", "-c", file, code=1)).out
        assert f"✗ store: redis://{nowhere}/0" in said


def test_a_file_with_mistakes_is_told_and_nothing_is_asked(tmp_path: Path) -> None:
    file = policy(tmp_path, "http://127.0.0.1:1", more="nonesuch: 1\n")
    said = run("doctor", "-c", file, code=1)
    assert "nonesuch" in said.error
    assert said.out == ""
