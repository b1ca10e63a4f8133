import pytest

from middleware.cors import Cors
from tests.support.asgi import call, make_exchange, ok

ORIGIN = "https://chat.example.com"


async def test_a_preflight_request_is_answered_without_the_inner_app() -> None:
    cors = Cors(None, origins=[ORIGIN], max_age=60.0)  # type: ignore[arg-type]  # must not be called
    headers = [
        ("origin", ORIGIN),
        ("access-control-request-method", "DELETE"),
        ("access-control-request-headers", "authorization, x-anything"),
    ]
    answer = await call(cors, make_exchange("OPTIONS", "/api/delete", headers=headers))
    assert (answer.status, answer.header("access-control-allow-origin")) == (200, ORIGIN)
    assert answer.header("access-control-max-age") == "60"
    assert answer.header("access-control-allow-headers") == "authorization, x-anything"
    assert "DELETE" in (answer.header("access-control-allow-methods") or "")


async def test_an_answer_names_the_origin_that_may_read_it() -> None:
    cors = Cors(ok, origins=[ORIGIN], expose=["x-request-id"])
    answer = await call(cors, make_exchange(headers=[("origin", ORIGIN)]))
    assert (answer.status, answer.body) == (200, b"ok")
    assert answer.header("access-control-allow-origin") == ORIGIN
    assert answer.header("access-control-expose-headers") == "x-request-id"


@pytest.mark.parametrize(
    ("origin", "allowed"), [("https://a.example.com", True), ("https://a.example.com.evil.net", False)]
)
async def test_an_expression_matches_whole_origins(origin: str, allowed: bool) -> None:
    cors = Cors(ok, origin_regex=r"https://[a-z]+\.example\.com")
    answer = await call(cors, make_exchange(headers=[("origin", origin)]))
    assert (answer.header("access-control-allow-origin") == origin) is allowed


async def test_other_origins_and_no_origin_get_no_permission() -> None:
    cors = Cors(ok, origins=[ORIGIN])
    for headers in ([("origin", "https://evil.example.net")], []):
        answer = await call(cors, make_exchange(headers=headers))
        assert (answer.status, answer.header("access-control-allow-origin")) == (200, None)


def test_what_would_let_anybody_in_is_refused() -> None:
    with pytest.raises(ValueError, match="cors needs origins"):
        Cors(ok)
    with pytest.raises(ValueError, match="needs its origins by name"):
        Cors(ok, origins=["*"], credentials=True)
