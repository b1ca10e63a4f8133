import sys
from collections.abc import Collection, Mapping, Sequence
from importlib.metadata import EntryPoint, EntryPoints
from types import ModuleType
from typing import Annotated, Any, ClassVar, Literal

import pytest
from pydantic import Field, ValidationError
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from typing_extensions import Doc

from config.json_schema import describe
from middleware import BUILTIN
from middleware.cors import Cors
from proxy.chain import plugin_lookup
from proxy.chain.plugin_lookup import Plugin, find, inspected, known_names
from proxy.kernel.asgi import ASGIApp, Receive, Scope, Send
from proxy.kernel.clock import Clock
from proxy.kernel.retry_budget import RetryBudget
from proxy.kernel.store import Store
from proxy.kernel.units import Duration, Mistake, Rate
from proxy.services.system_clock import SystemClock
from proxy.testing import ok


class Recorder:
    """Remembers what it was made with.

    Args:
        rate: how often; a description
            over two lines.
        mode: how.
    """

    sets_policy: ClassVar = True

    def __init__(  # type: ignore[no-untyped-def]  # a plugin need not be typed in full
        self,
        app: ASGIApp,
        clock: Clock,
        rate: Rate,
        *,
        store: Store | None = None,
        mode: Literal["a", "b"] = "a",
        noted: Annotated[int, Doc("a note"), Field(ge=1)] = 1,
        model_copy: Collection[str] | None = None,
        _hidden: Mapping[str, Sequence[int]] = {},
        untyped=None,
    ) -> None:
        self.app = app
        self.given = (clock, rate, store, mode, noted, model_copy, _hidden, untyped)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app(scope, receive, send)


RECORDER = inspected("recorder", Recorder)


def options(plugin: Plugin, text: str) -> Any:
    return plugin.options.model_validate_json(text, strict=True)


def test_parameters_are_services_or_options() -> None:
    assert {name: (wanted.service, wanted.optional) for name, wanted in RECORDER.services.items()} == {
        "clock": (Clock, False),
        "store": (Store, True),
    }
    schema = describe(RECORDER.options)
    assert list(schema["properties"]) == ["rate", "mode", "noted", "model_copy", "_hidden", "untyped"]
    assert (schema["required"], schema["additionalProperties"]) == (["rate"], False)
    assert RECORDER.sets_policy


def test_descriptions_come_from_the_docstring_or_the_annotation() -> None:
    properties = describe(RECORDER.options)["properties"]
    assert {name: part.get("description") for name, part in properties.items() if "description" in part} == {
        "rate": "How often; a description over two lines.",
        "mode": "How.",
        "noted": "A note",
    }
    assert RECORDER.summary == "Remembers what it was made with."


def test_only_what_was_given_is_handed_over() -> None:
    clock = SystemClock()
    text = '{"rate": "5/10s", "model_copy": ["x"], "_hidden": {"a": [1]}, "untyped": {"any": "thing"}}'
    made = RECORDER.around(ok, options(RECORDER, text), {Clock: clock})
    assert isinstance(made, Recorder)
    rate = Rate.parse("5/10s")
    assert made.given == (clock, rate, None, "a", 1, ("x",), {"a": [1]}, {"any": "thing"})
    assert options(RECORDER, '{"rate": "5/10s"}').arguments() == {"rate": rate}


def test_a_service_that_is_missing_is_a_mistake_unless_it_is_optional() -> None:
    with pytest.raises(Mistake, match="recorder needs the service Clock, which nothing provides"):
        RECORDER.around(ok, options(RECORDER, '{"rate": "5/10s"}'), {})


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        '{"rate": 5}',
        '{"rate": "5/10s", "mode": "c"}',
        '{"rate": "5/10s", "noted": 0}',
        '{"rate": "5/10s", "noted": "1"}',
        '{"rate": "5/10s", "model_copy": "x"}',
        '{"rate": "5/10s", "clock": 1}',
        '{"rate": "5/10s", "app": 1}',
        '{"rate": "5/10s", "option_rate": 1}',
    ],
)
def test_options_are_checked(text: str) -> None:
    with pytest.raises(ValidationError):
        options(RECORDER, text)


def test_options_are_in_no_print() -> None:
    given = options(RECORDER, '{"rate": "5/10s", "untyped": "s3cret"}')
    assert "s3cret" not in f"{given!r} {given!s}"


def factory(app: ASGIApp, /, wait: Duration = 1.0, **rest: object) -> ASGIApp:
    """Another way to write a plugin."""
    del wait, rest
    return app


def test_a_function_will_do_and_may_take_anything() -> None:
    plugin = inspected("factory", factory)
    assert options(plugin, '{"wait": "1m", "extra": {"a": 1}}').arguments() == {"wait": 60.0, "extra": {"a": 1}}
    assert plugin.around(ok, options(plugin, "{}"), {}) is ok
    assert not plugin.sets_policy


class NoApp:
    pass


class OnlyKeywords:
    def __init__(self, *, app: ASGIApp) -> None:
        pass


class Unreadable:
    def __init__(self, app: ASGIApp, option: "Missing" = None) -> None:  # type: ignore[name-defined]  # noqa: F821
        pass


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (5, "x is not a class or function"),
        (NoApp, "x is no ASGI middleware: its first parameter must be the inner app"),
        (OnlyKeywords, "x is no ASGI middleware"),
        (Unreadable, "the type of x's parameter option cannot be read: name 'Missing' is not defined"),
    ],
)
def test_what_is_no_plugin(make: object, message: str) -> None:
    with pytest.raises(Mistake, match=message):
        inspected("x", make)


def test_starlettes_own_middleware_loads_with_checked_options() -> None:
    gzip = find("starlette.middleware.gzip:GZipMiddleware")
    made = gzip.around(ok, options(gzip, '{"minimum_size": 10, "compresslevel": 1}'), {})
    assert isinstance(made, GZipMiddleware)
    assert (made.minimum_size, made.compresslevel) == (10, 1)
    with pytest.raises(ValidationError):
        options(gzip, '{"minimum_size": "10"}')

    cors = find("starlette.middleware.cors:CORSMiddleware")
    text = '{"allow_origins": ["https://a.example"], "allow_credentials": true, "max_age": 5}'
    wrapped = cors.around(ok, options(cors, text), {})
    assert isinstance(wrapped, CORSMiddleware)
    assert wrapped.allow_origins == ("https://a.example",)
    for wrong in ('{"allow_origins": "*"}', '{"allow_credentials": "yes"}', '{"origins": []}'):
        with pytest.raises(ValidationError):
            options(cors, wrong)


def test_a_plugin_is_found_in_the_table_then_among_entry_points_then_by_path(monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint("recorder", f"{__name__}:Recorder", plugin_lookup.GROUP)
    shadow = EntryPoint("cors", f"{__name__}:Recorder", plugin_lookup.GROUP)
    monkeypatch.setitem(sys.modules, __name__, sys.modules[Recorder.__module__])

    def entry_points(*, group: str, name: str | None = None) -> EntryPoints:
        assert group == plugin_lookup.GROUP
        return EntryPoints(one for one in (point, shadow) if name in (None, one.name))

    monkeypatch.setattr(plugin_lookup, "entry_points", entry_points)
    assert find("recorder").make is Recorder
    assert find("cors").make is Cors
    assert find(f"{__name__}:Recorder").make is Recorder
    assert known_names() == {*BUILTIN, "recorder"}


def test_two_packages_with_one_name_need_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    points = EntryPoints([EntryPoint("x", "one:A", plugin_lookup.GROUP), EntryPoint("x", "two:B", plugin_lookup.GROUP)])
    monkeypatch.setattr(plugin_lookup, "entry_points", lambda **_: points)
    with pytest.raises(Mistake, match="several packages call a plugin 'x'") as caught:
        find("x")
    assert caught.value.hint == "write use: one:A"


@pytest.mark.parametrize(
    ("use", "message", "hint"),
    [
        ("ratelimit", "there is no plugin 'ratelimit'", "did you mean 'rate_limit'?"),
        ("zzz", "there is no plugin 'zzz'", None),
        ("unterminated", "there is no plugin", "it is an option of streaming: write streaming: {unterminated: …}"),
        (
            "starlette.middleware.gzip.GZipMiddleware",
            "there is no plugin",
            "write starlette.middleware.gzip:GZipMiddleware",
        ),
        ("acme.redact:Redact", "cannot import acme.redact: ModuleNotFoundError: No module named 'acme'", None),
        ("starlette.middleware.gzip:GZipMidleware", "there is no 'GZipMidleware' in", "did you mean 'GZipMiddleware'?"),
        (":Class", "cannot import : ValueError", None),
        ("module:", "there is no '' in", None),
    ],
)
def test_what_cannot_be_found(use: str, message: str, hint: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "module", ModuleType("module"))
    with pytest.raises(Mistake, match=message) as caught:
        find(use)
    assert caught.value.hint == hint


@pytest.mark.parametrize("name", sorted(BUILTIN))
def test_every_option_of_a_plugin_that_ships_is_documented(name: str) -> None:
    plugin = find(name)
    assert plugin.summary
    schema = describe(plugin.options)
    for section in (schema, *schema.get("$defs", {}).values()):
        for option, part in section.get("properties", {}).items():
            assert part.get("description") or "$ref" in part, f"{name}.{option} has no description"


def test_a_service_of_the_kernel_is_never_an_option() -> None:
    class Budgeted:
        def __init__(self, app: ASGIApp, budget: Annotated[RetryBudget, "note"]) -> None: ...

    assert set(inspected("x", Budgeted).services) == {"budget"}
