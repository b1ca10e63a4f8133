"""The whole way in: mistakes of every kind at once, and secrets that stay secret."""

from pathlib import Path

import pytest

from config.load import load, load_data, with_sections
from proxy.kernel.units import Mistake
from tests.support.policy import load_text

BAD = """\
listen: [127.0.0.1:11435, ":80", 5]
backend: []
tls: {cert: nope.pem, key: yes}
trusted_proxies: [10.0.0.1/8, x]
backends:
  - name: gpu 1
    url: http://u:hunter2@h:1/
    slots: "4"
    weight: 0
    tls: {verify: yes}
  - name: b
    url: ${HOST}
    slots: ${NUMBER}
    headers: {Host: x, "a b": c, Authorization: "Bearer ${MISSING}"}
  - {name: B, url: "http://h", sots: 3, sots: 4}
  - url: unix:/x
pool:
  prefer: [resident, leastbusy]
  timeouts: {connect: 2, idle: 2 minutes, first_byte: "${NUMBER}"}
  health: 5
server: {head: {size: 1B, fields: 4}}
store: redis//:hunter2@host
middleware:
  - rate_limit: 5
  - 7
  - a: 1
    b: 2
policies: {guests: {rate_limit: false}}
routes:
  - {path: /x/../y, methods: [GETT], kind: reed}
allow_anonymous_network: on
"""

PROBLEMS = """\
1:27: listen[1]: expected host:port or unix:/path, got ':80' (write 127.0.0.1:80, or 0.0.0.0:80 for everybody)
1:34: listen[2]: expected host:port or unix:/path, got 5 (write 127.0.0.1:5)
2:1: backend: unknown key 'backend' (did you mean 'backends'?)
3:13: tls.cert: there is no such file
3:28: tls.key: there is no such file
4:19: trusted_proxies[0]: expected a network like 10.0.0.0/8 or an address, got '10.0.0.1/8' (write 10.0.0.0/8)
4:31: trusted_proxies[1]: expected a network like 10.0.0.0/8 or an address, got 'x'
6:11: backends[0].name: expected a name of letters, digits, dot, dash and underscore, got 'gpu 1'
7:10: backends[0].url: a backend's URL holds no user and password (set headers: {Authorization: …})
8:12: backends[0].slots: expected a whole number, got '4' (leave out the quotes)
9:13: backends[0].weight: expected more than 0, got 0
10:19: backends[0].tls.verify: expected true or false, got 'yes' (write true)
12:10: backends[1].url: expected a URL like http://127.0.0.1:11434, got '${HOST}'
14:21: backends[1].headers.Host: is a header that the proxy itself has to set
14:31: backends[1].headers['a b']: is not the name of a header
14:49: backends[1].headers.Authorization: the environment variable MISSING is not set (set it, or write \
${MISSING:-default})
15:32: backends[2].sots: unknown key 'sots' (did you mean 'slots'?)
15:41: backends[2].sots: duplicate key; the first stands at 15:32
16:5: backends[3].name: is required
18:22: pool.prefer[1]: expected 'resident', 'affinity' or 'least_busy', got 'leastbusy' (did you mean 'least_busy'?)
19:23: pool.timeouts.connect: expected a duration like 250ms, 30s, 10m, 1h or 7d, got 2 (write 2s for seconds)
19:32: pool.timeouts.idle: expected a duration like 250ms, 30s, 10m, 1h or 7d, got '2 minutes' (write 2m)
19:55: pool.timeouts.first_byte: expected a duration like 250ms, 30s, 10m, 1h or 7d, got '${NUMBER}'
20:11: pool.health: expected a mapping, got 5
21:23: server.head.size: expected at least 1024, got '1B'
21:35: server.head.fields: expected at least 8, got 4
22:8: store: expected memory, sqlite:PATH, or a URL like redis://host:6379/0
24:5: middleware[0]: the options of rate_limit must be a mapping
25:5: middleware[1]: expected a plugin: name, name: {options}, or use: package.module:Class, got 7
26:5: middleware[2]: expected a plugin: name, name: {options}, or use: package.module:Class, got a mapping \
(one plugin per entry; indent its options below its name)
28:33: policies.guests.rate_limit: expected a mapping, or 'off', got false (write off)
30:12: routes[0].path: expected text that matches ^/([A-Za-z0-9_~-][A-Za-z0-9._~-]*/)*\
([A-Za-z0-9_~-][A-Za-z0-9._~-]*|\\{[a-z]+\\})$, got '/x/../y'
30:31: routes[0].methods[0]: expected 'GET', 'HEAD', 'POST', 'PUT', 'PATCH' or 'DELETE', \
got 'GETT' (did you mean 'GET'?)
30:44: routes[0].kind: expected 'read', 'inference', 'manage' or 'account', got 'reed' (did you mean 'read'?)
31:26: allow_anonymous_network: expected true or false, got 'on' (write true)
"""


def test_every_mistake_is_reported_at_once_in_order() -> None:
    loaded = load_text(BAD, env={"HOST": "canary-s3cret", "NUMBER": "4"})
    assert loaded.settings is None
    assert [str(problem) for problem in loaded.problems] == [f"proxy.yaml:{line}" for line in PROBLEMS.splitlines()]
    assert "canary" not in f"{loaded} {loaded.problems!r}"
    assert "hunter2" not in f"{loaded} {loaded.problems!r}"


SECRETS = """\
listen: 127.0.0.1:${PORT}
backends:
  - name: gpu-1
    url: http://${HOST}:11434
    slots: ${SLOTS}
    headers: {Authorization: "Bearer ${TOKEN}", X-File: "file:token"}
store: redis://:${TOKEN}@host:6379/0
middleware:
  - use: acme:Plugin
    password: ${TOKEN}
policies:
  a: {acme: {x: "${TOKEN}"}}
"""


def test_what_comes_from_outside_is_used_and_never_shown(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("canary-file\n")
    env = {"PORT": "4711", "HOST": "canary-host", "SLOTS": "4", "TOKEN": "canary-token"}
    loaded = load_text(SECRETS, env=env, folder=tmp_path)
    settings = loaded.settings
    assert settings is not None, loaded.problems
    backend = settings.backends[0]
    assert (backend.url, backend.slots, settings.listen[0].port) == ("http://canary-host:11434", 4, 4711)
    assert {name: value.get_secret_value() for name, value in backend.headers.items()} == {
        "Authorization": "Bearer canary-token",
        "X-File": "canary-file",
    }
    assert settings.store.get_secret_value() == "redis://:canary-token@host:6379/0"
    prints = [loaded, settings, backend, settings.pool, backend.headers, settings.store, backend.url.shown]
    prints += [loaded.root.shown(), settings.middleware, loaded.entries, loaded.checker.context]
    assert "canary" not in "".join(f"{thing!r} {thing!s}" for thing in prints)
    assert backend.url.shown == "http://${HOST}:11434"
    assert "${TOKEN}" in str(loaded.root.shown())


def test_a_file_that_cannot_be_read_is_a_problem(tmp_path: Path) -> None:
    loaded = load(tmp_path / "none.yaml")
    assert loaded.settings is None
    assert [str(problem) for problem in loaded.problems] == [
        f"{tmp_path}/none.yaml: cannot be read: No such file or directory"
    ]
    assert str(load(tmp_path).problems[0]).endswith("cannot be read: Is a directory")


def test_relative_paths_start_at_the_file_and_its_name_is_as_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "ca.pem").touch()
    (tmp_path / "etc" / "proxy.yaml").write_text("backends: [{name: a, url: 'https://h', tls: {ca: ca.pem}}]\nx: 1\n")
    monkeypatch.chdir(tmp_path)
    loaded = load("etc/proxy.yaml", env={})
    assert str(loaded.problems[0]).startswith("etc/proxy.yaml:2:1: x: unknown key 'x'")
    (tmp_path / "etc" / "proxy.yaml").write_text("backends: [{name: a, url: 'https://h', tls: {ca: ca.pem}}]\n")
    settings = load("etc/proxy.yaml", env={}).settings
    assert settings is not None
    assert settings.backends[0].tls is not None
    assert settings.backends[0].tls.ca == tmp_path / "etc" / "ca.pem"


def test_the_process_environment_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPU", "http://h:1")
    settings = load_text("backends: [{name: a, url: '${GPU}'}]").settings
    assert settings is not None
    assert settings.backends[0].url == "http://h:1"


def test_sections_from_the_command_line_stand_in_place_of_the_files(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text("listen: 127.0.0.1:1\nbackends: [{name: a, url: 'http://h'}]\n")
    settings = load(tmp_path / "p.yaml", changes={"listen": ["127.0.0.1:2"]}).settings
    assert settings is not None
    assert [str(address) for address in settings.listen] == ["127.0.0.1:2"]
    broken = load(tmp_path / "p.yaml", changes={"listen": ["nowhere"]}).problems
    assert [str(problem) for problem in broken] == [
        f"{tmp_path}/p.yaml: listen[0]: expected host:port or unix:/path, got 'nowhere' (write nowhere:11435)"
    ]


def test_settings_need_no_file() -> None:
    loaded = load_data({"backends": [{"name": "a", "url": "http://h:1"}], "middleware": ["logging", {"retry": {}}]})
    assert loaded.settings is not None
    assert [entry.name for entry in loaded.settings.middleware] == ["logging", "retry"]
    wrong = load_data({"backends": [{"name": "a", "url": "nowhere:"}]})
    assert [str(problem) for problem in wrong.problems] == [
        "command line: backends[0].url: expected a URL like http://127.0.0.1:11434, got 'nowhere:'"
    ]


def test_readable_entries_are_known_although_others_are_not() -> None:
    loaded = load_text("middleware: [a, 5, {b: {}}, {c: 1}, {use: 'd:E', name: e}]", env={})
    assert [(index, entry.name) for index, entry in loaded.entries] == [(0, "a"), (2, "b"), (4, "e")]
    assert load_text("middleware: 5", env={}).entries == ()


def test_places_and_problems_by_path() -> None:
    loaded = load_text("pool:\n  timeouts: {connect: 1s}\n", env={})
    assert loaded.locate(("pool", "timeouts", "connect")) == (2, 23)
    assert loaded.locate(("pool", "timeouts", "nope")) == (2, 13)
    assert str(loaded.problem(("pool", "timeouts"), Mistake("is odd", "why"))) == (
        "proxy.yaml:2:13: pool.timeouts: is odd (why)"
    )
    assert str(loaded.key_problem(("pool", "timeouts"), Mistake("is odd"))) == ("proxy.yaml:2:3: pool.timeouts: is odd")


def test_plugins_stand_beside_the_file_and_where_its_link_leads(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "etc").mkdir()
    real, link = tmp_path / "real" / "proxy.yaml", tmp_path / "etc" / "policy.yaml"
    real.write_text("backends: []")
    link.symlink_to(real)
    assert load(real).folders == (real.parent,)
    assert load(link).folders == (link.parent, real.parent)
    assert load_text("backends: []", folder=tmp_path).folders == (tmp_path,)


def test_sections_of_another_file() -> None:
    backends = "backends: [{name: a, url: 'http://127.0.0.1:1'}]\n"
    one = load_text(f"{backends}listen: '127.0.0.1:1'\nlog: {{level: error}}\n")
    other = load_text("listen: '127.0.0.1:2'\nlog: {format: text}\nmistaken: 1\n")
    both = with_sections(one, ["listen", "ops"], other)
    assert both.settings is not None
    assert ([str(address) for address in both.settings.listen], both.settings.log.level) == (["127.0.0.1:2"], "error")
    neither = with_sections(one, ["log"], load_text(backends))
    assert neither.settings is not None
    assert neither.settings.log.level != "error"
    assert not with_sections(one, ["backends"], load_text("")).settings
