import importlib
import inspect
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from jsonschema import Draft202012Validator
from pydantic import BaseModel

from config.load import load
from config.settings import Settings
from config.yaml_reader import parse
from middleware import BUILTIN
from proxy.chain.plan import plan
from proxy.chain.plugin_lookup import find
from proxy.reference.policy_file import configuration_page, generated, plugins_page, policy_schema

ROOT = Path(__file__).parents[3]
SCHEMA = policy_schema()
VALIDATOR = Draft202012Validator(SCHEMA)
BACKEND = "backends: [{name: a, url: 'http://127.0.0.1:1'}]\n"


def tree(text: str) -> Any:
    root, problems = parse(text.encode(), "p.yaml")
    assert root is not None
    assert not problems
    return root.data()


def test_generated_files_are_current() -> None:
    for path, text in generated(ROOT).items():
        assert path.read_text("utf-8") == text, f"{path} is not current; run scripts/generate"


@pytest.mark.parametrize(
    "first",
    ["str | int | float | bool | None", "Optional[Union[str, int, float, bool]]", "Optional[float | str | bool | int]"],
)
def test_no_union_that_others_made_first_shows_in_it(first: str) -> None:
    """`typing` gives one object for equal unions inside of generic types; a fresh process has made none yet."""
    code = (
        "from typing import Optional, Union\n"
        f"{first}\n"
        "import middleware.parameters.rules\n"
        "from proxy.reference.policy_file import policy_schema\n"
        "import json; print(json.dumps(policy_schema()))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == json.loads((ROOT / "config/schema.json").read_text("utf-8"))


def test_it_is_a_json_schema() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    assert json.loads(json.dumps(SCHEMA)) == SCHEMA


def test_the_shipped_policy_file_names_its_schema_and_has_no_mistake() -> None:
    file = ROOT / "proxy.yaml"
    text = file.read_text()
    assert "# yaml-language-server: $schema=config/schema.json" in text
    assert list(VALIDATOR.iter_errors(tree(text))) == []
    found, problems = plan(load(file, env={}))
    assert problems == ()
    assert str(found) == (
        "logging → metrics → auth → access(guests, operators) → parameters(research, operators off) → "
        "rate_limit(guests, research, operators off) → queue(research) → retry → dispatch"
    )


def test_the_lines_that_are_commented_out_work_as_well(tmp_path: Path) -> None:
    head, mark, body = (ROOT / "proxy.yaml").read_text().partition("\nlisten:")
    body = re.sub(r"^( *)# (?=tls:|trusted|- |  |anonymous)", r"\1", body, flags=re.MULTILINE)
    text = head + mark + "\n".join(line for line in body.split("\n") if "acme" not in line and "pattern" not in line)
    for name in ("cert.pem", "key.pem", "gpu-2.pem"):
        (tmp_path / name).touch()
    (tmp_path / "proxy.yaml").write_text(text)
    loaded = load(tmp_path / "proxy.yaml", env={"GPU2_TOKEN": "x"})
    found, problems = plan(loaded)
    assert [str(problem) for problem in problems] == []
    assert str(found) == (
        "logging → metrics → cors → auth → access(guests, operators) → defer → resumable → "
        "parameters(research, operators off) → "
        "rate_limit(guests, research, operators off) → queue(research) → retry → streaming → dispatch"
    )
    assert loaded.settings is not None
    assert (len(loaded.settings.backends), len(loaded.settings.trusted_proxies)) == (2, 1)
    assert list(VALIDATOR.iter_errors(tree(text))) == []


@pytest.mark.parametrize(
    "text",
    [
        "listen: 127.0.0.1:1",
        "listen: [127.0.0.1:1, 'unix:/run/x.sock']",
        "listen: 127.0.0.1:${PORT}",
        "store: file:/run/secrets/store",
        "pool: {timeouts: {connect: 250ms, idle: '${IDLE:-2m}'}}",
        "server: {head: {fields: '${FIELDS}'}}",
        "middleware: [logging, retry, 'acme.redact:Redact']",
        "middleware: [{logging: {format: json}}, {retry: null}, {'acme:Redact': {x: 1}}]",
        "middleware: [{use: retry, name: again, attempts: 2}, {use: 'acme:Redact', anything: [1]}]",
        "policies: {guests: {rate_limit: {requests: 10/minute}, retry: off, custom: {a: 1}, other: off}, empty: {}}",
        "routes: [{path: /v1/x, methods: [GET], kind: read, stream: '${STREAM}'}]",
    ],
)
def test_what_is_right(text: str) -> None:
    assert list(VALIDATOR.iter_errors(tree(BACKEND + text))) == []


@pytest.mark.parametrize(
    "text",
    [
        "lisen: 127.0.0.1:1",
        "listen: here",
        "listen: []",
        "store: 5",
        "pool: {timeouts: {connect: 5}}",
        "pool: {timeouts: {connect: 5 seconds}}",
        "server: {head: {fields: many}}",
        "middleware: [loging]",
        "middleware: [{loging: {}}]",
        "middleware: [{logging: {}, retry: {}}]",
        "middleware: [{logging: {fromat: json}}]",
        "middleware: [{logging: {format: jsno}}]",
        "middleware: [{use: retry, atempts: 2}]",
        "middleware: [{use: 5}]",
        "middleware: [{}]",
        "policies: {guests: {rate_limit: {requests: 10 per minute}}}",
        "policies: {guests: {retry: false}}",
        "policies: {guests: off}",
        "routes: [{path: /v1/x, methods: [GETT], kind: read}]",
    ],
)
def test_what_is_wrong(text: str) -> None:
    assert list(VALIDATOR.iter_errors(tree(BACKEND + text)))


def test_every_setting_and_option_is_in_the_reference() -> None:
    page = configuration_page()
    for name in SCHEMA["properties"]:
        assert f"| `{name}` |" in page
    for title in ("## backends[].tls", "## pool.timeouts", "## server.head", "## routes[]"):
        assert title in page
    page = plugins_page()
    for name in BUILTIN:
        assert f"## {name}\n" in page
        for option in SCHEMA["$defs"][name]["properties"]:
            assert f"| `{option}` |" in page


def documented(page: str) -> dict[str, list[str]]:
    """The options of a page's tables by the title that they stand under."""
    parts = re.split(r"^#{2,3} (.+)$", page, flags=re.MULTILINE)[1:]
    return {
        title: re.findall(r"^\| `([^`]+)` \|", text, re.MULTILINE)
        for title, text in zip(parts[::2], parts[1::2], strict=True)
    }


@pytest.mark.parametrize("name", sorted(BUILTIN))
def test_a_plugin_takes_what_is_documented_and_nothing_else(name: str) -> None:
    page = documented((ROOT / "docs/reference/plugins.md").read_text("utf-8"))
    module, _, attribute = BUILTIN[name].partition(":")
    taken = inspect.signature(getattr(importlib.import_module(module), attribute)).parameters
    assert set(page.get(name, [])) == taken.keys() - {"app"} - find(name).services.keys()


def test_every_documented_setting_is_one_of_the_models_and_the_other_way_round() -> None:
    page = documented((ROOT / "docs/reference/configuration.md").read_text("utf-8"))
    models = set(settings_below(Settings))
    assert {frozenset(names) for names in page.values()} == {
        frozenset(field.alias or name for name, field in model.model_fields.items()) for model in models
    }
    assert page["Top level"] == list(Settings.model_fields)


def settings_below(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    yield model
    for field in model.model_fields.values():
        for part in parts_of(field.annotation):
            if isinstance(part, type) and issubclass(part, BaseModel):
                yield from settings_below(part)


def parts_of(annotation: Any) -> Iterator[Any]:
    yield annotation
    for part in get_args(annotation):
        yield from parts_of(part)


def test_the_reference_says_what_may_be_written() -> None:
    page = configuration_page()
    row = "| `connect` | duration | `2s` | Until a connection, with TLS, is made. |"
    assert row in page
    assert "| `trusted_proxies` | list of networks |" in page
    assert '| `listen` | address or list of addresses | `["127.0.0.1:11435"]` |' in page
    assert "| `format` | `json`, `console`, `ecs`, `otel` | `json` |" in plugins_page()


def test_no_machine_and_no_secret_is_in_it() -> None:
    text = "".join(generated(ROOT).values())
    assert str(ROOT) not in text
    assert str(Path.home()) not in text


@pytest.mark.parametrize("page", sorted((ROOT / "docs" / "reference").glob("*.md")), ids=lambda page: page.name)
def test_no_row_of_a_table_is_broken_into_two(page: Path) -> None:
    rows: list[str] = []
    for line in page.read_text("utf-8").splitlines():
        assert not rows or line.startswith("|") or not line, f"{page.name}: {line}"
        rows = [*rows, line] if line.startswith("|") else []
