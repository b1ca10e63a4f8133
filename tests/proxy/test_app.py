"""proxy/app.py."""

from pathlib import Path

import pytest
import structlog

from config.problems import Invalid
from proxy.app import App, check
from proxy.kernel.routes import Match
from proxy.server.open_files import for_ops, limit
from proxy.server.server import serve
from proxy.simulator import Ollama
from proxy.testing import LogLines
from proxy.wiring import make_routes, server_options
from tests.support.policy import load_text
from tests.support.proxy import running

FULL = """
listen: ["127.0.0.1:0", "unix:/tmp/x.sock"]
server:
  head: {size: 8KiB, fields: 20, deadline: 1s}
  body: {each: 1MiB, total: 2MiB, share: 50%, timeout: 5s, rate: 1KiB}
  write: 2s
  keep_alive: 3s
  shutdown: 4s
backends:
  - {name: a, url: "http://127.0.0.1:1", weight: 2, headers: {Authorization: "Bearer ${TOKEN}"}}
pool: {timeouts: {connect: 1s, first_byte: 2s, idle: 3s, write: 4s, total: 5s}}
routes: [{path: /v1/images, methods: [POST], kind: inference, flavor: openai, body: json, models: [model]}]
middleware: [logging, retry]
"""


def test_settings_reach_their_parts() -> None:
    app = App(load_text(FULL, env={"TOKEN": "canary"}), LogLines())
    backend = app.pool.backends[0]
    assert (backend.name, str(backend.url), backend.weight) == ("a", "http://127.0.0.1:1", 2)
    assert list(backend.headers) == [(b"authorization", b"Bearer canary")]
    timeouts = app.pool.timeouts
    assert (timeouts.connect, timeouts.first_byte, timeouts.idle, timeouts.write, timeouts.total) == (1, 2, 3, 4, 5)
    options = server_options(app.settings)
    assert list(options.listen) == ["127.0.0.1:0", "unix:/tmp/x.sock"]
    assert (options.head_bytes, options.head_fields, options.head_timeout) == (8192, 20, 1)
    assert (options.write_timeout, options.keep_alive, options.shutdown_timeout) == (2, 3, 4)
    bodies = app.bodies
    assert (bodies.each, bodies.total, bodies.share) == (2**20, 2**21, 0.5)
    assert (bodies.patience, bodies.rate) == (5, 1024)
    assert str(app.plan) == "logging → retry → dispatch"
    assert "canary" not in repr(app.pool) + repr(app.frame) + str(app.plan)


def test_extra_routes_join_the_table() -> None:
    settings = load_text(FULL, env={"TOKEN": "x"}).settings
    assert settings is not None
    match = make_routes(settings).match("POST", "/v1/images")
    assert isinstance(match, Match)
    assert (match.route.kind, match.route.models) == ("inference", ("model",))


@pytest.mark.parametrize("url", ["redis://:canary@host:port/0", "redis+sentinel://:canary@host/main"])
def test_a_store_at_an_address_that_cannot_be_read_is_a_mistake(url: str) -> None:
    text = f"store: {url}\nbackends: [{{name: a, url: 'http://127.0.0.1:1'}}]\n"
    with pytest.raises(Invalid, match="1:8: store: the store's address cannot be read") as invalid:
        check(load_text(text))
    assert "canary" not in str(invalid.value)


def test_every_mistake_at_once_those_of_plugins_included() -> None:
    text = "backends: [{name: a, url: nonsense}]\nmiddleware: [loging, {retry: {attemps: 3}}]\n"
    with pytest.raises(Invalid) as invalid:
        check(load_text(text))
    shown = [str(problem) for problem in invalid.value.problems]
    assert len(shown) == 3
    assert "did you mean 'logging'?" in shown[1]
    assert "did you mean 'attempts'?" in shown[2]


def test_tls_files_that_are_no_certificates_are_named(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("not a certificate")
    text = 'backends: [{name: a, url: "https://127.0.0.1:1", tls: {ca: ca.pem}}]\n'
    with pytest.raises(Invalid) as invalid:
        App(load_text(text, folder=tmp_path), LogLines())
    assert "backends[0].tls" in str(invalid.value)
    assert "ca.pem" in str(invalid.value)


async def test_the_log_is_as_the_file_says_and_follows_a_reload() -> None:
    async with Ollama() as one, running(one.url, log={"level": "debug", "format": "ecs"}) as proxy:
        log = structlog.get_logger("ollama_proxy.test")
        log.debug("heard")
        assert proxy.log.events[-1]["event.action"] == "heard"
        proxy.app.reload(load_text(f"backends: [{{name: a, url: '{one.url}'}}]\n"))
        log.debug("unheard")
        log.info("heard_again")
        assert proxy.log.events[-1]["event"] == "heard_again"
        assert b"unheard" not in b"".join(proxy.log.raw)


async def test_a_reload_bounds_connections_anew_and_leaves_the_ops_routes_their_room() -> None:
    text = "backends: [{name: a, url: 'http://127.0.0.1:1'}]\nlisten: 127.0.0.1:0\nops: {listen: '127.0.0.1:0'}\n"
    app = App(load_text(text), LogLines())
    async with serve(app.frame, server_options(app.settings)) as app.server:
        assert app.ops_server is not None
        before, room = app.server.bounds, app.ops_server.bounds
        app.reload(load_text(f"{text}server: {{connections: {{total: 77, per_address: 7}}}}\n"))
        assert (app.server.bounds.total, app.server.bounds.per_address) == (77, 7)
        assert app.ops_server.bounds == room
        assert room.total == for_ops(limit())
        app.reload(load_text(text))
        assert app.server.bounds == before
