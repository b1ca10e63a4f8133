import pytest

from config.settings import Settings
from tests.support.policy import load_text


def settings(text: str = "") -> Settings:
    loaded = load_text("backends: [{name: a, url: 'http://127.0.0.1:1'}]\n" + text, env={})
    assert loaded.settings is not None, [str(problem) for problem in loaded.problems]
    return loaded.settings


def problems(text: str) -> list[str]:
    text = "backends: [{name: a, url: 'http://127.0.0.1:1'}]\n" + text
    return [str(problem).removeprefix("proxy.yaml:") for problem in load_text(text, env={}).problems]


def test_a_backend_is_all_that_is_needed() -> None:
    plain = settings()
    assert [str(address) for address in plain.listen] == ["127.0.0.1:11435"]
    assert (plain.store.get_secret_value(), plain.middleware, plain.policies, plain.tls) == ("memory", (), {}, None)
    assert (plain.pool.timeouts.connect, plain.server.head.deadline, plain.server.body.each) == (2.0, 10.0, 2**26)


def test_one_address_or_several() -> None:
    assert [str(address) for address in settings("listen: 127.0.0.1:1").listen] == ["127.0.0.1:1"]
    several = settings("listen: ['127.0.0.1:1', 'unix:/run/x.sock', '[::1]:2']")
    assert [str(address) for address in several.listen] == ["127.0.0.1:1", "unix:/run/x.sock", "[::1]:2"]
    assert problems("listen: []") == ["2:9: listen: expected at least 1, got a list"]


def test_what_others_can_reach_is_known() -> None:
    text = "listen: ['127.0.0.1:1', '0.0.0.0:1', 'unix:/x', 'h.example.com:1']\nops: {listen: '0.0.0.0:2'}"
    assert settings(text).exposed == (("listen", 1), ("listen", 3), ("ops", "listen"))
    assert settings("ops: {listen: '127.0.0.1:2'}").exposed == ()


def test_every_field_is_documented() -> None:
    def undocumented(schema: dict[str, object]) -> list[str]:
        properties = schema.get("properties", {})
        assert isinstance(properties, dict)
        return [name for name, part in properties.items() if not (part.get("description") or "$ref" in part)]

    whole = Settings.model_json_schema()
    assert undocumented(whole) == []
    for name, part in whole["$defs"].items():
        assert undocumented(part) == [], name


def test_routes_of_another_ollama() -> None:
    extra = settings("routes: [{path: '/v1/images/{id}', methods: [POST], kind: inference, flavor: openai}]").routes[0]
    assert (extra.path, extra.methods, extra.kind, extra.repeat) == ("/v1/images/{id}", ("POST",), "inference", "never")
    for path in ("/a/../b", "a", "/{x}/y", "/a//b", "/a b", "/%61"):
        assert len(problems(f"routes: [{{path: '{path}', methods: [POST], kind: read}}]")) == 1


def test_what_one_section_says_of_itself() -> None:
    assert problems("server: {body: {each: 2MB, total: 1MB}}") == ["2:23: server.body.each: is larger than total"]
    assert not problems("server: {body: {each: 2MB, total: 2MB}}")
    assert not problems("server: {body: {each: 2MB, total: 8MB, share: 25%}}")
    (small,) = problems("server: {body: {each: 2MB, total: 8MB, share: 24%}}")
    assert "server.body.share: lets no caller send one body of each: that is 24% of 8MB" in small
    assert len(problems("server: {body: {share: 0%}}")) == 1
    raw = "routes: [{path: /x, methods: [POST], kind: manage, body: raw, repeat: safe}]"
    assert problems(raw) == ["2:71: routes[0].repeat: must be never: a raw body is gone once it was sent"]
    assert problems("store: s3cret://x") == [
        "2:8: store: expected memory, sqlite:PATH, or a URL like redis://host:6379/0"
    ]
    assert problems("policies: {'a b': {}}") == [
        "2:19: policies['a b']: a policy's name is made of letters, digits, dot, dash and underscore"
    ]
    assert settings("store: redis://host:6379/0").store.get_secret_value() == "redis://host:6379/0"


def test_networks_are_networks() -> None:
    assert [str(network) for network in settings("trusted_proxies: [10.0.0.0/8, '::1', unix]").trusted_proxies] == [
        "10.0.0.0/8",
        "::1/128",
        "unix",
    ]


def test_permissions_are_octal_however_yaml_reads_them() -> None:
    assert settings().server.unix_mode == 0o660
    assert settings("server: {unix_mode: 0600}").server.unix_mode == 0o600
    for written in ("660", "0o660", "'0x1b0'"):
        (problem,) = problems(f"server: {{unix_mode: {written}}}")
        assert problem.startswith("2:21: server.unix_mode: expected permissions like 0660")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("workers: 2", "2:10: workers: workers: 2 needs a store that they share; limits would count 2 times"),
        ("workers: auto", "needs a store that they share; limits would count as often as there are workers"),
        ("workers: 0", "2:10: workers: "),
        ("workers: many", "2:10: workers: "),
        ("workers: 257", "2:10: workers: "),
    ],
)
def test_several_workers_need_a_store_that_they_share(text: str, problem: str) -> None:
    (found,) = problems(text)
    assert problem in found
    if "store" in problem:
        assert "store: redis://host:6379/0" in found


@pytest.mark.parametrize("workers", [1, 2, "auto"])
def test_workers_may_share_a_redis(workers: int | str) -> None:
    assert settings(f"workers: {workers}\nstore: valkey://127.0.0.1/0").workers == workers
