import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from proxy.chain.plan import Plan, plan
from proxy.chain.plugin_lookup import find
from proxy.kernel.route import Route
from tests.support import plugins
from tests.support.policy import load_text

BACKEND = "backends: [{name: a, url: 'http://127.0.0.1:1'}]\n"
TAG = "tests.support.plugins:Tag"
IDENTIFY = "tests.support.plugins:Identify"


def planned(text: str, **env: str) -> tuple[Plan | None, list[str]]:
    """Return the plan of a file whose first line names a backend, and its problems without the file's name."""
    found, problems = plan(load_text(BACKEND + text, env=env))
    return found, [str(problem).removeprefix("proxy.yaml:") for problem in problems]


def complete(text: str, **env: str) -> Plan:
    found, problems = planned(text, **env)
    assert problems == []
    assert found is not None
    return found


CHAIN = f"""\
middleware:
  - use: {TAG}
    name: first
  - use: {IDENTIFY}
    name: who
    anonymous: guests
  - {{use: '{TAG}', name: limit, tags: [a], wait: 1s}}
  - {TAG}: {{tags: [b]}}
policies:
  guests:
    limit: {{tags: [c]}}
  staff:
    limit: off
    '{TAG}': {{wait: 1m}}
  plain: {{}}
"""


def test_a_plan_reads_from_the_outside_in() -> None:
    chain = complete(CHAIN)
    assert str(chain) == f"first → who → limit(guests, staff off) → {TAG}(staff) → dispatch"
    assert chain.policies == {"guests", "staff", "plain"}
    assert not chain.anonymous
    assert complete(f"middleware: [{{use: '{TAG}', tags: [a]}}]").anonymous


def test_a_policy_changes_only_the_options_it_names() -> None:
    limit = complete(CHAIN).links[2]
    assert limit.options.arguments() == {"tags": ["a"], "wait": 1.0}
    guests = limit.overrides["guests"]
    assert guests is not None
    assert guests.arguments() == {"tags": ["c"], "wait": 1.0}
    assert limit.overrides["staff"] is None
    assert "plain" not in limit.overrides


def test_planning_constructs_nothing() -> None:
    plugins.made.clear()
    complete(CHAIN)
    assert plugins.made == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "middleware: [ratelimit, rety]\n",
            [
                "2:14: middleware[0]: there is no plugin 'ratelimit' (did you mean 'rate_limit'?)",
                "2:25: middleware[1]: there is no plugin 'rety' (did you mean 'retry'?)",
            ],
        ),
        (
            f"middleware:\n  - {TAG}: {{tgas: [a], wait: 5}}\n",
            [
                f"3:33: middleware[0]['{TAG}'].tgas: unknown key 'tgas' (did you mean 'tags'?)",
                (
                    f"3:50: middleware[0]['{TAG}'].wait: expected a duration like 250ms, 30s, 10m, 1h or 7d, got 5 "
                    "(write 5s for seconds)"
                ),
            ],
        ),
        (
            f"middleware:\n  - use: {TAG}\n    name: x\n    tags: a\n    clock: 5\n",
            [
                "5:11: middleware[0].tags: expected a list, got 'a'",
                "6:5: middleware[0].clock: unknown key 'clock' (known here: fail, file, refuse, secret, tags, wait)",
            ],
        ),
        (
            "middleware: [retry, logging, retry]\n",
            [
                (
                    "2:30: middleware[2]: there is a 'retry' in the list already "
                    "(write use: retry and a name: of its own, with the options beside them)"
                )
            ],
        ),
        (
            f"middleware: ['{IDENTIFY}']\npolicies: {{a: {{unterminated: pass}}}}\n",
            [
                (
                    "3:16: policies.a.unterminated: there is no 'unterminated' in the middleware list "
                    "(it is an option of streaming: add streaming to the list and write streaming: {unterminated: …})"
                ),
                "3:30: policies.a.unterminated: expected a mapping, or 'off', got 'pass'",
            ],
        ),
        (
            f"middleware: ['{IDENTIFY}', streaming]\npolicies: {{a: {{unterminated: pass}}}}\n",
            [
                (
                    "3:16: policies.a.unterminated: there is no 'unterminated' in the middleware list "
                    "(it is an option of streaming: write streaming: {unterminated: …})"
                ),
                "3:30: policies.a.unterminated: expected a mapping, or 'off', got 'pass'",
            ],
        ),
        (
            f"middleware: ['{IDENTIFY}', streaming]\npolicies: {{a: {{streaming: {{unterminated: yes}}}}}}\n",
            ["3:42: policies.a.streaming.unterminated: expected 'auto', 'pass' or 'error', got 'yes'"],
        ),
        (
            f"middleware: ['{IDENTIFY}', retry]\npolicies: {{a: {{rety: off}}, b: {{retry: {{x: 1}}}}}}\n",
            [
                "3:16: policies.a.rety: there is no 'rety' in the middleware list (did you mean 'retry'?)",
                (
                    "3:40: policies.b.retry.x: unknown key 'x' "
                    "(known here: attempts, backoff, budget, fallback, first_byte, hedge, patience)"
                ),
            ],
        ),
        (
            f"middleware: [retry, {{use: '{IDENTIFY}', name: who}}]\npolicies: {{a: {{retry: off, who: {{}}}}}}\n",
            [
                (
                    "3:16: policies.a.retry: cannot change 'retry', which stands before a caller's policy is known "
                    "(move it below who in the middleware list)"
                ),
                (
                    "3:28: policies.a.who: cannot change 'who', which stands before a caller's policy is known "
                    "(move it below who in the middleware list)"
                ),
            ],
        ),
        (
            "middleware: [retry]\npolicies: {a: {retry: off}}\n",
            ["3:16: policies.a.retry: nothing in the middleware list says which policy a caller has (add auth to it)"],
        ),
        (
            f"middleware: [{{use: '{IDENTIFY}', anonymous: gests}}]\npolicies: {{guests: {{}}}}\n",
            [
                "2:65: middleware[0].anonymous: there is no such policy under policies (did you mean 'guests'?)",
            ],
        ),
        (
            "listen: ['127.0.0.1:1', '0.0.0.0:1', '[::]:2']\n",
            [
                f"2:{column}: listen[{index}]: can be reached from other machines, and nothing in the middleware list "
                "asks who is calling (add auth, listen on 127.0.0.1, or set allow_anonymous_network: true)"
                for index, column in ((1, 25), (2, 38))
            ],
        ),
        ("listen: 0.0.0.0:1\nallow_anonymous_network: true\n", []),
        (
            f"middleware: [{{use: '{IDENTIFY}', name: who}}, cors]\n",
            [
                (
                    "2:66: middleware[1]: stands below who, but browsers ask what they may send before they send "
                    "credentials (move it above who in the middleware list)"
                )
            ],
        ),
        (
            f"middleware: [cors, {{use: '{IDENTIFY}', name: who}}]\npolicies: {{a: {{cors: off}}}}\n",
            [
                (
                    "3:16: policies.a.cors: cannot change 'cors': browsers ask what they may send before anybody is "
                    "asked who he is (remove it here; it holds for all callers)"
                )
            ],
        ),
        (
            "middleware: [logging, 'starlette.middleware.cors:CORSMiddleware']\n",
            [
                (
                    "2:23: middleware[1]: opens nothing: the proxy has decided which pages may call before it sees a "
                    "request (name their origins in cors.origins)"
                )
            ],
        ),
        (
            "middleware: [{cors: {origin_regex: 'https://.*'}}]\n",
            ["2:22: middleware[0].cors.origin_regex: unknown key 'origin_regex' (use origins with *)"],
        ),
        (
            "middleware: [cors, {use: cors, name: second}]\n",
            ["2:20: middleware[1]: cors says already which pages may call (write their origins there)"],
        ),
        (f"middleware: [logging, cors, {{use: '{IDENTIFY}', name: who}}]\n", []),
        (f"listen: 0.0.0.0:1\nmiddleware: ['{IDENTIFY}']\n", []),
    ],
)
def test_what_is_wrong_with_a_chain(text: str, expected: list[str]) -> None:
    found, problems = planned(text)
    assert problems == expected
    assert (found is None) is bool(expected)


def test_mistakes_in_settings_options_and_policies_are_reported_together() -> None:
    text = f"""\
pool: {{timeouts: {{connect: 5}}}}
middleware:
  - nothing
  - {IDENTIFY}
  - 5
  - use: {TAG}
    name: tag
    waiting: 5s
policies:
  a: {{tag: {{waitt: 1s, tags: 5}}, tga: off}}
"""
    assert planned(text)[1] == [
        "2:28: pool.timeouts.connect: expected a duration like 250ms, 30s, 10m, 1h or 7d, got 5 (write 5s for seconds)",
        "4:5: middleware[0]: there is no plugin 'nothing'",
        "6:5: middleware[2]: expected a plugin: name, name: {options}, or use: package.module:Class, got 5",
        "9:5: middleware[3].waiting: unknown key 'waiting' (did you mean 'wait'?)",
        "11:13: policies.a.tag.waitt: unknown key 'waitt' (did you mean 'wait'?)",
        "11:30: policies.a.tag.tags: expected a list, got 5",
        "11:34: policies.a.tga: there is no 'tga' in the middleware list (did you mean 'tag'?)",
    ]


def test_a_mistake_in_the_entry_is_not_said_again_for_every_policy() -> None:
    entries = f"middleware: ['{IDENTIFY}', {{use: '{TAG}', name: tag, wait: 5}}]\n"
    _, problems = planned(entries + "policies: {a: {tag: {tags: [x]}}, b: {tag: {}}}\n")
    assert len(problems) == 1


def test_options_from_outside_are_typed_and_stay_secret() -> None:
    text = f"""\
middleware:
  - {IDENTIFY}
  - {{use: '{TAG}', name: tag, refuse: "${{FLAG}}", secret: "${{TOKEN}}", tags: ["${{TOKEN}}"]}}
policies:
  a: {{tag: {{tags: ["${{TOKEN}}", b]}}}}
"""
    chain = complete(text, FLAG="true", TOKEN="canary-s3cret")
    tag = chain.links[1]
    assert tag.options.arguments()["refuse"] is True
    assert tag.options.arguments()["tags"] == ["canary-s3cret"]
    assert "canary" not in f"{chain!r} {chain} {tag!r} {tag.options!r} {tag.overrides}"
    _, problems = planned(text, FLAG="canary-s3cret", TOKEN="x")
    assert problems == ["4:59: middleware[1].refuse: expected true or false, got '${FLAG}'"]


def test_paths_in_options_start_at_the_policy_file(tmp_path: Path) -> None:
    loaded = load_text(BACKEND + f"middleware: [{{use: '{TAG}', file: keys.yaml}}]\n", env={}, folder=tmp_path)
    found, problems = plan(loaded)
    assert problems == ()
    assert found is not None
    assert found.links[0].options.arguments() == {"file": tmp_path / "keys.yaml"}


def test_without_middleware_there_is_only_dispatch() -> None:
    assert str(complete("")) == "dispatch"


LONE = "{path: /v2/x, methods: [POST], kind: inference, body: json, models: [model]}"
NAMELESS = "{path: /v2/x, methods: [POST], kind: inference, body: json}"
KNOWN = "{path: /v2/x, methods: [POST], like: /api/chat}"
OTHER = "{path: /v2/x, methods: [POST], like: /api/me, kind: inference}"
READ = "{path: /v2/x, methods: [GET], kind: read}"


@pytest.mark.parametrize(
    ("entry", "route", "why"),
    [
        ("parameters: {num_ctx: {max: 100}}", LONE, "parameters"),
        ("parameters: {runner: drop}", LONE, "parameters"),
        ("parameters: {options: {num_gpu: {refuse: true}}}", LONE, "parameters"),
        ("parameters: {num_ctx: {max: 100}}", "{path: /v2/x, methods: [GET], kind: inference}", "parameters"),
        ("parameters: {num_ctx: {max: 100}}", KNOWN.replace("}", ", body: raw}"), "JSON body"),
        ("parameters: {num_ctx: {max: 100}}", KNOWN.replace("}", ", body: none}"), "JSON body"),
        (
            "parameters: {num_ctx: {max: 100}}",
            "{path: /v2/x, methods: [POST], like: /api/me, kind: inference}",
            "keep their",
        ),
        ("parameters: {num_ctx: {max: 100}}", LONE.replace("}", ", parameters: none}"), None),
        ("parameters: {num_ctx: {max: 100}}", LONE.replace("inference", "read"), "keep their"),
        ("parameters: {num_ctx: {max: 100}}", LONE.replace("inference", "manage"), "keep their"),
        ("parameters: {num_ctx: {max: 100}}", READ.replace("GET", "GET, PUT"), "keep their"),
        ("parameters: {num_ctx: {max: 100}}", LONE.replace("inference", "read, parameters: none"), None),
        ("parameters: {aliases: {a: b}}", LONE.replace("inference", "read"), None),
        ("parameters: {num_ctx: {max: 100}}", KNOWN, None),
        ("parameters: {num_ctx: {max: 100}}", READ, None),
        ("parameters: {aliases: {a: b}}", LONE, None),
        ("access: {}", NAMELESS, "name their model"),
        ("access: {}", READ, "list models"),
        ("access: {routes: [manage]}", NAMELESS.replace("inference", "manage"), "name their model"),
        ("access: {routes: [/v2/x]}", NAMELESS, "name their model"),
        ("access: {routes: ['POST /v2/x']}", NAMELESS, "name their model"),
        ("access: {routes: [manage]}", NAMELESS, None),
        ("access: {}", READ.replace("kind: read", "like: /api/tags"), None),
        ("access: {routes: [account]}", NAMELESS.replace("inference", "account"), None),
        ("access: {routes: [manage]}", "{path: '/v2/{x}', methods: [POST], like: '/api/blobs/{digest}'}", None),
        ("access: {}", LONE, None),
        ("queue: {}", NAMELESS, "what slot"),
        ("queue: {}", LONE, None),
        ("queue: {routes: [manage]}", NAMELESS, None),
        ("rate_limit: {requests: 1/day, by: model}", NAMELESS, "counted"),
        ("rate_limit: {requests: 1/day, by: [tenant, model]}", NAMELESS, "counted"),
        ("rate_limit: {limits: [{name: x, requests: 1/day, by: model}]}", NAMELESS, "counted"),
        ("rate_limit: {requests: 1/day}", NAMELESS, None),
        ("capture: {prompt: 1KiB}", LONE, "words"),
        ("capture: {answer: 1KiB}", LONE, "words"),
        ("capture: {prompt: 1KiB}", KNOWN.replace("}", ", body: raw}"), "JSON body"),
        ("capture: {prompt: 1KiB}", KNOWN.replace("}", ", body: multipart}"), "JSON body"),
        ("capture: {prompt: 1KiB}", KNOWN.replace("}", ", body: none}"), "JSON body"),
        ("capture: {answer: 1KiB}", KNOWN.replace("}", ", body: multipart}"), None),
        ("capture: {prompt: 1KiB}", KNOWN.replace("/api/chat", "/v1/audio/transcriptions"), None),
        ("capture: {}", LONE, None),
        ("capture: {answer: 1KiB}", OTHER, "words"),
        ("capture: {prompt: 1KiB}", KNOWN, None),
        ("logging", NAMELESS, None),
        ("retry", NAMELESS, None),
    ],
)
def test_a_route_that_a_plugin_cannot_govern_is_a_mistake(entry: str, route: str, why: str | None) -> None:
    item = f"{{{entry}}}" if ":" in entry else entry
    _, problems = planned(f"middleware: [{item}]\nroutes: [{route}]\n")
    if why is None:
        assert problems == []
    else:
        (problem,) = problems
        assert problem.startswith(f"3:10: routes[0]: {entry.partition(':')[0]} cannot govern /v2/x: ")
        assert why in problem
        assert problem.endswith("as in like: /api/chat; see docs/guides/access.md, Other routes)")


def test_a_policy_that_could_not_govern_a_route_is_one_as_well() -> None:
    text = (
        "middleware: [{auth: {keys: keys.yaml}}, {parameters: {aliases: {a: b}}}]\n"
        f"policies: {{guests: {{parameters: {{num_ctx: {{max: 9}}}}}}}}\nroutes: [{LONE}]\n"
    )
    _, problems = planned(text)
    assert len([problem for problem in problems if "parameters cannot govern /v2/x" in problem]) == 1


def test_a_plugin_of_somebody_else_is_asked_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def cannot_govern(route: Route, options: Mapping[str, Any]) -> str | None:
        return f"{route.path} has no {options['tags'][0]}"

    find.cache_clear()
    monkeypatch.setattr(plugins.Tag, "cannot_govern", staticmethod(cannot_govern), raising=False)
    _, problems = planned(f"middleware: [{{{TAG}: {{tags: [b]}}}}]\nroutes: [{LONE}]\n")
    find.cache_clear()
    (problem,) = problems
    assert "cannot govern /v2/x: /v2/x has no b" in problem


def method(self: object, route: Route, options: Mapping[str, Any]) -> str | None:
    return None


def raises(route: Route, options: Mapping[str, Any]) -> str | None:
    raise KeyError("tags")


def ends(route: Route, options: Mapping[str, Any]) -> str | None:
    raise SystemExit


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (method, "cannot_govern fails: TypeError"),
        (staticmethod(raises), "cannot_govern fails: KeyError: 'tags'"),
        (staticmethod(ends), "cannot_govern fails: SystemExit"),
        (staticmethod(lambda route, options: True), "cannot_govern returns bool"),
        ("no function", "cannot_govern fails: TypeError"),
    ],
)
def test_one_that_cannot_be_asked_is_a_mistake_at_its_entry(
    answer: object, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    find.cache_clear()
    monkeypatch.setattr(plugins.Tag, "cannot_govern", answer, raising=False)
    other = LONE.replace("/v2/x", "/v2/y")
    _, problems = planned(f"middleware: [{{{TAG}: {{tags: [b]}}}}]\nroutes: [{LONE}, {other}]\n")
    _, invalid = planned(f"middleware: [{{{TAG}: {{tags: 1}}}}]\nroutes: [{LONE}]\n")
    find.cache_clear()
    (problem,) = problems
    assert problem.startswith(f"2:42: middleware[0]['{TAG}']: {TAG}: {says}")
    assert "static method" in problem
    assert not [problem for problem in invalid if "cannot_govern" in problem]


WAITS = "middleware: [{auth: {keys: keys.yaml}}, %s, %s]\n"
BEATS = "streaming: {heartbeat: 15s}"


@pytest.mark.parametrize(
    ("text", "place"),
    [
        (WAITS % (f"{{{BEATS}}}", "queue"), []),
        (WAITS % ("queue", "{streaming: {include_usage: add}}"), []),
        (WAITS % ("rate_limit: {requests: 1/minute}", f"{{{BEATS}}}"), []),
        (WAITS % ("queue", f"{{{BEATS}}}"), ["2", "middleware[2].streaming"]),
        (WAITS % ("{use: queue, name: line}", f"{{{BEATS}}}"), ["2", "middleware[2].streaming"]),
        (WAITS % ("queue", "streaming") + f"policies: {{web: {{{BEATS}}}}}\n", ["3", "policies.web.streaming"]),
        (WAITS % ("queue", "streaming") + "policies: {web: {streaming: off}}\n", []),
    ],
)
def test_a_plugin_stands_above_what_its_options_need(text: str, place: list[str]) -> None:
    _, problems = planned(text)
    form = re.compile(r"(\d+):\d+: (\S+): heartbeat has no effect .*move streaming above.*")
    said = [form.fullmatch(problem) for problem in problems]
    assert [part for one in said if one is not None for part in one.groups()] == place
    assert len(problems) == len(place) // 2


@pytest.mark.parametrize(
    ("order", "said"),
    [
        (["auth", "access", "defer", "rate_limit", "queue"], []),
        (["defer"], []),
        (["defer", "auth"], ["stands above auth (move it below auth in the middleware list)"]),
        (["defer", "access"], ["stands above access (move it below access in the middleware list)"]),
        (["rate_limit", "defer"], ["stands below rate_limit (move it above rate_limit in the middleware list)"]),
        (
            ["queue", "defer", "access"],
            [
                "stands above access (move it below access in the middleware list)",
                "stands below queue (move it above queue in the middleware list)",
            ],
        ),
    ],
)
def test_a_plugin_stands_between_those_that_it_names(order: list[str], said: list[str]) -> None:
    options = {"auth": "auth: {anonymous: x}", "rate_limit": "rate_limit: {requests: 1/minute}"}
    text = "policies: {x: {}}\nmiddleware:\n"
    _, problems = planned(text + "".join(f"  - {options.get(use, use)}\n" for use in order))
    assert [re.sub(r"^\d+:\d+: \S+: ", "", problem) for problem in problems] == said
