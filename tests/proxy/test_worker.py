"""proxy/worker.py: what a worker does that its parent does not tell it; tests/live/test_workers.py has the rest."""

from pathlib import Path

from proxy.worker import Stop, Texts


class Server:
    def __init__(self) -> None:
        self.stops = 0

    def stop(self) -> None:
        self.stops += 1


def test_it_is_stopped_once_and_hurried_by_its_parent_only() -> None:
    stop, server = Stop(), Server()
    stop.watch(server)  # type: ignore[arg-type]
    stop()
    stop()
    assert server.stops == 1, "a second signal to a worker does not cut its streams"
    stop.hurry()
    assert server.stops == 2


def test_it_is_stopped_before_it_serves() -> None:
    stop, server = Stop(), Server()
    stop()
    stop.watch(server)  # type: ignore[arg-type]
    assert server.stops == 1


def test_the_file_is_read_from_the_text_and_names_its_place(tmp_path: Path) -> None:
    text = "backends: [{name: a, url: 'http://127.0.0.1:1'}]\nworkers: 2\n"
    texts = Texts(str(tmp_path / "proxy.yaml"), {"listen": ["127.0.0.1:7"]}, text)
    (problem,) = texts.read().problems
    assert str(problem).startswith(f"{tmp_path}/proxy.yaml:2:10: workers: ")
    texts.current += "store: redis://127.0.0.1:1/0\n"
    loaded = texts.read()
    assert loaded.settings is not None
    assert [str(address) for address in loaded.settings.listen] == ["127.0.0.1:7"]
    assert loaded.folder == tmp_path


def test_what_needs_a_restart_stays_as_it_was_at_the_beginning(tmp_path: Path) -> None:
    backends = "backends: [{name: a, url: 'http://127.0.0.1:1'}]\nworkers: 2\nstore: redis://127.0.0.1:1/0\n"
    begun = f"{backends}listen: '127.0.0.1:7'\ntls: {{cert: x.pem, key: x.pem}}\nqueue: mistaken\n"
    current = f"{backends}ops: {{listen: '127.0.0.1:8'}}\nlog: {{level: error}}\n"
    texts = Texts(str(tmp_path / "proxy.yaml"), {}, current)
    (tmp_path / "x.pem").touch()
    now, later = texts.read_as_begun_with(begun), texts.read_as_begun_with(current)
    assert now.settings is not None
    assert later.settings is not None
    assert [str(address) for address in now.settings.listen] == ["127.0.0.1:7"]
    assert (now.settings.tls is None, now.settings.ops.listen, now.settings.log.level) == (False, None, "error")
    assert (later.settings.tls is None, str(later.settings.ops.listen)) == (True, "127.0.0.1:8")
