"""`cors`, which says what the frame decides by; the decisions are in tests/proxy/kernel/test_cross_origin.py."""

import pytest

from middleware.cors import Cors
from proxy.kernel.asgi import header
from proxy.kernel.cross_origin import EXPOSED
from proxy.kernel.explain import Verdict
from proxy.testing import call, make_exchange, ok
from tests.support.asgi import assert_not_wrapped

CHAT = "https://chat.example.com"


async def test_it_hands_requests_on_as_they_came() -> None:
    answer = await call(Cors(ok, origins=[CHAT]), make_exchange(headers=[("origin", "https://evil.example")]))
    assert (answer.status, answer.body) == (200, b"ok")
    await assert_not_wrapped(lambda app: Cors(app, origins=[CHAT]))


def test_its_options_are_what_the_frame_decides_by() -> None:
    cors = Cors(
        ok,
        origins=[CHAT, "https://*.example.org"],
        ollama_origins=False,
        headers=["x-a"],
        expose=["x-b"],
        credentials=True,
        max_age=60.0,
        private_network=True,
    ).cross_origin
    fields = cors.answer_fields(CHAT) or []
    assert header(fields, b"access-control-expose-headers") == b"x-b"
    assert header(fields, b"access-control-allow-credentials") == b"true"
    assert cors.answer_fields("https://a.example.org") is not None
    assert cors.answer_fields("http://localhost:3000") is None
    asked = make_exchange("OPTIONS", headers=[("access-control-request-private-network", "true")]).scope
    fields = cors.preflight_fields(asked)
    assert header(fields, b"access-control-allow-headers") == b"x-a"
    assert header(fields, b"access-control-max-age") == b"60"
    assert header(fields, b"access-control-allow-private-network") == b"true"


def test_without_options_it_is_what_holds_without_it() -> None:
    cors = Cors(ok).cross_origin
    assert cors.answer_fields("http://localhost:3000") is not None
    assert cors.answer_fields(CHAT) is None
    exposed = header(cors.answer_fields("app://x") or [], b"access-control-expose-headers")
    assert exposed == ", ".join(EXPOSED).encode()


def test_what_would_let_anybody_in_is_refused() -> None:
    with pytest.raises(ValueError, match="needs its origins by name"):
        Cors(ok, origins=["*"], credentials=True)


@pytest.mark.parametrize(
    ("origin", "verdict"), [(None, "pass"), (CHAT, "pass"), ("app://x", "pass"), ("https://evil.example", "refuse")]
)
async def test_explaining(origin: str | None, verdict: Verdict) -> None:
    exchange = make_exchange(headers=[] if origin is None else [("origin", origin)])
    assert (await Cors(ok, origins=[CHAT]).explain(exchange)).verdict == verdict
