"""proxy/wiring.py."""

from ipaddress import ip_network
from pathlib import Path

import pytest

from config.addresses import Address
from config.settings import Settings
from proxy.app import App
from proxy.kernel.running_terms import RunningTerms
from proxy.server.open_files import for_ops, limit
from proxy.services.system_clock import SystemClock
from proxy.testing import LogLines
from proxy.wiring import (
    make_backends,
    make_hosts,
    make_routes,
    make_store,
    ops_options,
    pool_options,
    running_terms,
    server_options,
)
from tests.support.certificates import Authority
from tests.support.policy import load_text

FULL = """
listen: ["127.0.0.1:0", "unix:/tmp/x.sock"]
server:
  head: {size: 8KiB, fields: 20, deadline: 1s}
  body: {timeout: 5s}
  write: 2s
  keep_alive: 3s
  shutdown: 4s
  unix_mode: 0600
  connections: {total: 90, per_address: 60, handshakes: 30}
  hosts: [llm.example.com, "*.corp.example"]
trusted_proxies: [10.0.0.0/8]
backends:
  - name: a
    url: "${URL}"
    weight: 2
    slots: 3
    slots_per_model: 2
    model_slots: {big: 1}
    headers: {Authorization: "Bearer ${TOKEN}"}
  - {name: b, url: "unix:/run/ollama.sock"}
pool:
  prefer: [least_busy]
  spread_after: 7
  grace: 1s
  grace_at_most: 9s
  timeouts: {connect: 1s, load: 6s, first_byte: 2s, idle: 3s, write: 4s, total: 5s}
  health: {every: 10s, timeout: 1s, down_after: 4, up_after: 2}
  eject: {after: 6, for: 7s, longest: 8s, at_most: 25%, ramp: 9s}
routes: [{path: /v1/images, methods: [POST], kind: inference, flavor: openai, body: json, models: [model]}]
"""


def settings() -> Settings:
    found = load_text(FULL, env={"TOKEN": "canary", "URL": "http://127.0.0.1:1"}).settings
    assert found is not None
    return found


def test_the_pool() -> None:
    loaded = load_text(FULL, env={"TOKEN": "canary", "URL": "http://127.0.0.1:1"})
    one, two = make_backends(loaded, settings())
    assert (one.name, str(one.url), one.shown, one.weight, one.slots) == ("a", "http://127.0.0.1:1", "${URL}", 2, 3)
    assert (one.slots_per_model, two.slots_per_model) == (2, None)
    assert one.model_slots == {"registry.ollama.ai/library/big:latest": 1}
    assert list(one.headers) == [(b"authorization", b"Bearer canary")]
    assert two.host == b"localhost"
    rules = one.health.rules
    assert (rules.down_after, rules.up_after, rules.eject_after) == (4, 2, 6)
    assert (rules.eject_for, rules.eject_longest, rules.ramp) == (7, 8, 9)
    options = pool_options(settings())
    timeouts = options.timeouts
    assert (options.prefer, options.spread_after, options.eject_share) == (("least_busy",), 7, 0.25)
    assert (options.grace, options.grace_at_most) == (1, 9)
    assert (timeouts.connect, timeouts.load, timeouts.first_byte) == (1, 6, 2)
    assert (timeouts.idle, timeouts.write, timeouts.total) == (3, 4, 5)
    assert "canary" not in repr([one, two])


def test_the_server() -> None:
    options = server_options(settings())
    assert list(options.listen) == ["127.0.0.1:0", "unix:/tmp/x.sock"]
    assert (options.head_bytes, options.head_fields, options.head_timeout) == (8192, 20, 1)
    assert (options.write_timeout, options.keep_alive, options.shutdown_timeout) == (2, 3, 4)
    assert (options.body_timeout, options.unix_mode) == (5, 0o600)
    assert (options.total, options.per_address, options.handshakes) == (90, 60, 30)
    assert list(options.trusted) == [ip_network("10.0.0.0/8")]


def test_the_ops_listener_has_room_of_its_own() -> None:
    options = ops_options(settings(), Address("127.0.0.1", 0))
    assert list(options.listen) == ["127.0.0.1:0"]
    assert options.total == for_ops(limit())
    assert (options.per_address, options.handshakes) == (None, None)
    assert (options.head_timeout, list(options.trusted)) == (1, [ip_network("10.0.0.0/8")])


def test_the_hosts_are_those_of_the_settings_and_of_the_certificate(tmp_path: Path) -> None:
    pair = Authority(tmp_path).issue("secure.example.com")
    text = f"{FULL}tls: {{cert: '{pair.cert}', key: '{pair.key}'}}\n"
    found = load_text(text, env={"TOKEN": "x", "URL": "http://127.0.0.1:1"}).settings
    assert found is not None
    for given, secure in ((settings(), False), (found, True)):
        hosts = make_hosts(given)
        assert hosts.knows("llm.example.com:1")
        assert hosts.knows("a.corp.example")
        assert hosts.knows("secure.example.com") is secure
        assert not hosts.knows("evil.example")


def test_routes_and_store() -> None:
    assert make_routes(settings()).routes[0].path == "/v1/images"
    loaded = load_text(FULL, env={"TOKEN": "x", "URL": "http://127.0.0.1:1"})
    assert make_store(loaded, settings(), SystemClock()).url == "memory"


POLICIES_DEFER = """
middleware: [use: "tests.support.tenants:Believe", defer: {attempts: 5, parallel: 7}]
policies: {a: {defer: {attempts: 2, parallel: 9}}, b: {defer: off}}
"""


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("middleware: [logging]\n", None),
        ("middleware: [defer: {attempts: 5, parallel: 7}]\n", RunningTerms(5, 7)),
        (POLICIES_DEFER, RunningTerms(5, 9)),
    ],
)
def test_the_largest_terms_of_all_policies_bound_the_runs(text: str, terms: RunningTerms | None) -> None:
    loaded = load_text(f"backends: [{{name: b1, url: 'http://127.0.0.1:1'}}]\n{text}")
    assert running_terms(App(loaded, LogLines()).chain) == terms
