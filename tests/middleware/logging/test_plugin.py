"""One line per request, at its level, sampled or not."""

import json
from typing import Any, get_args

import pytest

from middleware.logging.fields import FIELDS
from middleware.logging.plugin import LEVELS, Logging
from proxy.kernel.asgi import Receive, Scope, Send
from proxy.kernel.errors import ErrorRecord, Outcome, Refused
from proxy.testing import Answer, ManualClock, call, make_exchange, ok, suppose
from tests.support.logs import Lines


def make(sink: Lines, app: Any = ok, **options: Any) -> Logging:
    return Logging(app, sink=sink, clock=ManualClock(0.0), **options)


async def ask(plugin: Logging, path: str = "/", *, outcome: Outcome | None = None) -> Answer:
    return await call(plugin, make_exchange("GET", path), outcome=outcome)


async def test_one_line_with_every_field_in_order() -> None:
    sink = Lines()
    answer = await ask(make(sink))
    assert (answer.status, answer.body) == (200, b"ok")
    (event,) = sink.events
    assert list(event) == [field.name for field in FIELDS]
    assert (event["time"], event["level"], event["event"]) == ("1970-01-01T00:00:00.000Z", "info", "request")
    assert (event["route"], event["status"], event["outcome"]) == ("/", 200, "completed")


async def test_receive_and_send_are_passed_on_as_they_came() -> None:
    seen: list[object] = []

    async def inner(scope: Scope, receive: Receive, send: Send) -> None:
        seen.extend([receive, send])

    exchange = make_exchange()

    async def send(message: object) -> None: ...

    receive = exchange.receive
    await make(Lines(), inner)(exchange.scope, receive, send)
    assert seen == [receive, send]


async def test_a_refused_request_has_its_line() -> None:
    async def refuse(scope: Scope, receive: Receive, send: Send) -> None:
        raise Refused(403, "not you")

    sink = Lines()
    await ask(make(sink, refuse))
    (event,) = sink.events
    assert (event["level"], event["outcome"], event["error_code"]) == ("warning", "refused", "forbidden")


def test_every_outcome_has_a_level() -> None:
    assert set(LEVELS) == set(get_args(Outcome))


@pytest.mark.parametrize("outcome", get_args(Outcome))
async def test_the_level_of_an_outcome_can_be_changed(outcome: Outcome) -> None:
    sink = Lines()
    await ask(make(sink), outcome=outcome)
    await ask(make(sink, levels={outcome: "debug"}), outcome=outcome)
    assert [event["level"] for event in sink.events] == [LEVELS[outcome], "debug"]


@pytest.mark.parametrize(
    ("levels", "level"), [({}, "warning"), ({"completed": "debug"}, "warning"), ({"upstream_failed": "info"}, "info")]
)
async def test_an_error_that_was_passed_on_in_a_200_is_a_warning(levels: dict[Any, Any], level: str) -> None:
    sink = Lines()
    exchange = suppose(make_exchange(), failure=ErrorRecord("boom", about="unknown", said="boom"))
    await call(make(sink, levels=levels), exchange, outcome="upstream_failed")
    await call(make(sink, levels=levels), suppose(make_exchange(), failure=exchange.failure), outcome="cancelled")
    assert [event["level"] for event in sink.events] == [level, "warning"]


async def test_sampling_spares_only_completed_requests_of_its_routes() -> None:
    sink = Lines()
    plugin = make(sink, sample={"/": 0.0, "/api/version": 1.0})
    await ask(plugin)
    await ask(plugin, outcome="client_gone")
    await ask(plugin, "/api/version")
    await ask(plugin, "/nothing")
    assert [(event["route"], event["outcome"]) for event in sink.events] == [
        ("/", "client_gone"),
        ("/api/version", "completed"),
        (None, "completed"),
    ]


async def test_a_share_is_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    draws = iter([0.009, 0.01, 0.5])
    monkeypatch.setattr("random.random", lambda: next(draws))
    sink = Lines()
    plugin = make(sink, sample={"/": 0.01})
    for _ in range(3):
        await ask(plugin)
    assert len(sink.raw) == 1


async def test_console() -> None:
    sink = Lines()
    await ask(make(sink, format="console"))
    assert sink.raw[0].startswith(b"00:00:00.000 info     request request_id=test client_address=127.0.0.1 method=GET")


async def test_lines_stay_lines_and_secrets_stay_secret_whatever_is_sent() -> None:
    sink = Lines()
    nasty = "a\r\n\x1b[31m\u2028{}"
    exchange = make_exchange(
        "POST",
        f"/k/hunter2/{nasty}",
        body=b'{"model":"hunter2-prompt"}',
        headers=[("user-agent", nasty), ("authorization", "Bearer hunter2"), ("cookie", "hunter2")],
        query=b"key=hunter2",
    )
    await call(make(sink), exchange)
    (line,) = sink.raw
    assert len(line.decode().splitlines()) == 1
    assert b"\x1b" not in line
    assert b"hunter2" not in line
    assert json.loads(line)["path"] == f"/k/***/{nasty}"


async def test_other_scopes_pass() -> None:
    seen: list[str] = []

    async def inner(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope["type"])

    await make(Lines(), inner)({"type": "lifespan"}, None, None)  # type: ignore[arg-type]  # neither is used
    assert seen == ["lifespan"]
