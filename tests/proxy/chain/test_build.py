from pathlib import Path

import pytest
from starlette.middleware.gzip import GZipMiddleware

from config.problems import Invalid
from proxy.chain.build import Chain, Switch, build
from proxy.chain.plan import plan
from proxy.kernel.asgi import Receive, Scope, Send
from proxy.kernel.clock import Clock
from proxy.kernel.errors import Refused
from proxy.kernel.exchange import Exchange
from proxy.services.system_clock import SystemClock
from proxy.testing import Answer, call, make_exchange, ok
from tests.support import plugins
from tests.support.policy import load_text

BACKEND = "backends: [{name: a, url: 'http://127.0.0.1:1'}]\n"
TAG = "tests.support.plugins:Tag"
IDENTIFY = "tests.support.plugins:Identify"
HEAD = f"""\
middleware:
  - use: {IDENTIFY}
    name: who
"""


def built(text: str, *, folder: Path | None = None, inner: object = ok, **env: str) -> Chain:
    found, problems = plan(load_text(BACKEND + text, env=env, folder=folder))
    assert problems == ()
    assert found is not None
    plugins.made.clear()
    return build(found, inner, {Clock: CLOCK})  # type: ignore[arg-type]  # tests pass stranger things than an app


CLOCK = SystemClock()


async def ask(chain: Chain, policy: str | None = None) -> tuple[Answer, Exchange]:
    exchange = make_exchange(headers=[("policy", policy)] if policy else [])
    return await call(chain.app, exchange), exchange


async def test_the_first_entry_is_the_outermost() -> None:
    chain = built(f"""\
middleware:
  - {{use: '{TAG}', name: one, tags: [x]}}
  - {{use: '{TAG}', name: two, tags: [y, z]}}
""")
    answer, exchange = await ask(chain)
    assert (answer.status, answer.body, exchange.tried) == (200, b"ok", ("one:x", "two:y", "two:z"))
    assert [name for name, _ in chain.parts] == ["dispatch", "two", "one"]


async def test_an_empty_chain_is_the_innermost_app() -> None:
    assert built("").app is ok


def test_what_governs_pages_is_found_in_the_chain() -> None:
    assert built("").cross_origin is None
    chain = built("middleware: [{cors: {origins: ['https://chat.example.com']}}]\n")
    assert chain.cross_origin is not None
    assert chain.cross_origin.answer_fields("https://chat.example.com") is not None


def test_what_only_has_an_attribute_of_that_name_governs_nothing() -> None:
    assert built("middleware: ['tests.support.plugins:Resembling']\n").cross_origin is None


def test_what_says_that_it_governs_pages_has_to_say_how() -> None:
    with pytest.raises(Invalid, match="says that it governs pages, but has no `cross_origin` to decide by"):
        built("middleware: ['tests.support.plugins:Claiming']\n")


def test_services_are_handed_in() -> None:
    built(HEAD + f"  - {{use: '{TAG}', name: tag}}\npolicies: {{a: {{}}, b: {{}}}}\n")
    tag, who = plugins.made
    assert isinstance(tag, plugins.Tag)
    assert isinstance(who, plugins.Identify)
    assert tag.clock is CLOCK
    assert str(tag.entry) == "tag"
    assert set(who.policies) == {"a", "b"}


POLICIES = (
    HEAD
    + f"""\
  - {{use: '{TAG}', name: limit, tags: [base], wait: 1s}}
  - {{use: '{TAG}', name: last, tags: [end]}}
policies:
  guests: {{limit: {{tags: [guest]}}}}
  others: {{limit: {{tags: [guest], wait: 1s}}}}
  same: {{limit: {{tags: [base]}}}}
  free: {{limit: off}}
  plain: {{}}
"""
)


@pytest.mark.parametrize(
    ("policy", "tags"),
    [
        (None, ["limit:base", "last:end"]),
        ("plain", ["limit:base", "last:end"]),
        ("unheard-of", ["limit:base", "last:end"]),
        ("same", ["limit:base", "last:end"]),
        ("guests", ["limit:guest", "last:end"]),
        ("others", ["limit:guest", "last:end"]),
        ("free", ["last:end"]),
    ],
)
async def test_a_policy_changes_options_for_its_callers(policy: str | None, tags: list[str]) -> None:
    answer, exchange = await ask(built(POLICIES), policy)
    assert (answer.status, list(exchange.tried)) == (200, tags)


def test_there_is_one_instance_per_distinct_set_of_options_and_a_switch_only_where_they_differ() -> None:
    chain = built(POLICIES)
    assert [name for name, _ in chain.parts] == ["dispatch", "last", "limit", "limit", "who"]
    assert [part.tags for part in plugins.made if isinstance(part, plugins.Tag)] == [("end",), ("base",), ("guest",)]
    who = plugins.made[-1]
    assert isinstance(who, plugins.Identify)
    assert isinstance(who.app, Switch)

    unchanged = built(HEAD + f"  - {{use: '{TAG}', name: tag, tags: [a]}}\npolicies: {{p: {{tag: {{tags: [a]}}}}}}\n")
    who = plugins.made[-1]
    assert isinstance(who, plugins.Identify)
    assert isinstance(who.app, plugins.Tag)
    assert len(unchanged.parts) == 3


def test_every_constructor_that_refuses_is_reported_with_its_place(tmp_path: Path) -> None:
    text = f"""\
middleware:
  - {{use: '{IDENTIFY}', name: who}}
  - {{use: '{TAG}', name: one, tags: [impossible]}}
  - {{use: '{TAG}', name: two, secret: "${{TOKEN}}", tags: [secret]}}
  - use: {TAG}
    name: three
    file: none.yaml
  - {{use: '{TAG}', name: four, tags: [bug]}}
  - {{use: '{TAG}', name: five}}
policies:
  p: {{five: {{tags: [impossible, "${{TOKEN}}"]}}}}
"""
    with pytest.raises(Invalid) as caught:
        built(text, folder=tmp_path, TOKEN="canary-s3cret")
    assert [str(problem).removeprefix("proxy.yaml:") for problem in caught.value.problems] == [
        "4:5: middleware[1]: the tags ['impossible'] do not go together",
        "5:5: middleware[2]: a careless plugin repeats ${TOKEN}",
        f"6:5: middleware[3]: {tmp_path}/none.yaml: No such file or directory",
        "9:5: middleware[4]: the plugin cannot be set up: TypeError: a constructor with a bug",
        "12:13: policies.p.five: the tags ['impossible', '${TOKEN}'] do not go together",
    ]


def test_a_service_that_nothing_provides_is_a_problem() -> None:
    with pytest.raises(Invalid, match=r"middleware\[0\]: retry needs the service Backends, which nothing provides"):
        built("middleware: [retry]\n")


async def _fail(scope: Scope, receive: Receive, send: Send) -> None:
    raise Refused(503, "no backend")


@pytest.mark.parametrize(
    ("entries", "raised", "blamed"),
    [
        (f"[{{use: '{TAG}', name: a, refuse: true}}, {{use: '{TAG}', name: b}}]", Refused, "a"),
        (f"[{{use: '{TAG}', name: a}}, {{use: '{TAG}', name: b, refuse: true}}]", Refused, "b"),
        (f"[{{use: '{TAG}', name: a}}, {{use: '{TAG}', name: b, fail: true}}]", ZeroDivisionError, "b"),
        (f"[{{use: '{TAG}', name: a}}, {{use: 'tests.support.plugins:Inherited', name: b, fail: true}}]",
         ZeroDivisionError, "b"),
        (f"['tests.support.plugins:passing', {{use: '{TAG}', name: a, fail: true}}]", ZeroDivisionError, "a"),
        (f"[{{use: '{TAG}', name: a}}]", Refused, "dispatch"),
        ("['starlette.middleware.gzip:GZipMiddleware']", Refused, "dispatch"),
        ("[]", Refused, "dispatch"),
    ],
)  # fmt: skip
async def test_the_entry_that_raised_is_known(entries: str, raised: type[Exception], blamed: str) -> None:
    chain = built(f"middleware: {entries}\n", inner=_fail)
    exchange = make_exchange(headers=[("accept-encoding", "gzip")])
    with pytest.raises(raised) as caught:
        await chain.app(exchange.scope, exchange.receive, _ignore)
    assert chain.blame(caught.value) == blamed


async def test_the_instance_of_a_policy_is_blamed_by_its_entry() -> None:
    chain = built(HEAD + f"  - {{use: '{TAG}', name: tag}}\npolicies: {{p: {{tag: {{fail: true}}}}}}\n")
    exchange = make_exchange(headers=[("policy", "p")])
    with pytest.raises(ZeroDivisionError) as caught:
        await chain.app(exchange.scope, exchange.receive, _ignore)
    assert chain.blame(caught.value) == "tag"


def test_nobody_is_blamed_for_what_never_passed_through_the_chain() -> None:
    assert built("").blame(ValueError()) is None


async def _ignore(message: object) -> None:
    pass


async def test_an_unmodified_starlette_middleware_works_in_the_chain() -> None:
    async def long(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
        await send({"type": "http.response.body", "body": b"x" * 1000})

    text = "middleware:\n  - use: starlette.middleware.gzip:GZipMiddleware\n    minimum_size: 100\n"
    chain = built(text, inner=long)
    assert isinstance(chain.app, GZipMiddleware)
    answer = await call(chain.app, make_exchange("GET", "/", headers=[("accept-encoding", "gzip")]))
    assert answer.header("content-encoding") == "gzip"


# Before a body is read

EARLY = "tests.support.plugins:Early"
READS = "tests.support.plugins:Reads"


def entry(use: str, name: str, **options: object) -> str:
    more = "".join(f", {key}: {str(value).lower()}" for key, value in options.items())
    return f"  - {{use: '{use}', name: {name}{more}}}\n"


@pytest.mark.parametrize("plainly", [False, True])
@pytest.mark.parametrize(
    ("entries", "policy", "seen"),
    [
        # who stands below is asked once, in order, and then reached
        (["reads", "a", "b"], None, ["a?", "b?", "reads", "a", "b"]),
        # who was reached already is not asked any more
        (["a", "reads", "b"], None, ["a", "b?", "reads", "b"]),
        (["a", "b", "reads"], None, ["a", "b", "reads"]),
        # a second one finds it read
        (["reads", "again", "a"], None, ["a?", "reads", "again", "a"]),
        # the policy of the caller counts
        (["reads", "a", "b"], "free", ["b?", "reads", "b"]),
        (["reads", "a", "b"], "other", ["x?", "b?", "reads", "x", "b"]),
    ],
)
async def test_who_is_still_to_come_is_asked_before_a_body_is_read(
    entries: list[str], policy: str | None, seen: list[str], plainly: bool
) -> None:
    lines = [
        entry(READS, name, plainly=plainly) if name in ("reads", "again") else entry(EARLY, name, tags=f"[{name}]")
        for name in entries
    ]
    chain = built(HEAD + "".join(lines) + "policies: {free: {a: off}, other: {a: {tags: [x]}}}\n")
    exchange = make_exchange(body=[b"1", b"2", b"3"], headers=[("policy", policy)] if policy else [])
    answer = await call(chain.app, exchange)
    assert answer.status == 200
    assert [step.rpartition(":")[2] for step in exchange.tried] == seen


async def test_nobody_is_asked_while_the_caller_is_unknown() -> None:
    chain = built("middleware:\n" + entry(READS, "reads") + HEAD.partition("\n")[2] + entry(EARLY, "a", tags="[a]"))
    answer, exchange = await ask(chain)
    assert (answer.status, exchange.tried) == (200, ("reads", "a:a"))


async def test_without_anybody_who_asks_for_a_caller_all_are_asked() -> None:
    chain = built("middleware:\n" + entry(READS, "reads") + entry(EARLY, "a", tags="[a]"))
    _, exchange = await ask(chain)
    assert exchange.tried == ("a:a?", "reads", "a:a")


async def test_whoever_refuses_is_blamed_and_the_body_is_not_read() -> None:
    chain = built(HEAD + entry(READS, "reads") + entry(EARLY, "a", refuse=True) + entry(EARLY, "b", tags="[b]"))
    answer, exchange = await ask(chain)
    assert isinstance(answer.error, Refused)
    assert (answer.error.status, chain.blame(answer.error)) == (429, "a")
    assert (exchange.tried, exchange.bytes_in) == ((), 0)


def test_where_nobody_decides_early_nothing_stands_in_between() -> None:
    chain = built(HEAD + entry(TAG, "tag"))
    who = chain.app
    assert isinstance(who, plugins.Identify)
    assert isinstance(who.app, plugins.Tag)
