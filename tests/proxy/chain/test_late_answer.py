"""proxy/chain/late_answer.py."""

import json

import pytest

from proxy.chain.late_answer import LONGEST_ERROR, UNFIT, LateAnswer
from proxy.kernel.asgi import Message
from proxy.kernel.errors import BadAnswer, Flavor

OPENAI = {"error": {"message": "model 'x' not found", "type": "not_found_error", "param": None, "code": None}}
ANTHROPIC = {"type": "error", "error": {"type": "not_found_error", "message": "no"}, "request_id": "req_1"}


async def sent(flavor: Flavor, status: int, *parts: bytes) -> list[Message]:
    out: list[Message] = []

    async def send(message: Message) -> None:
        out.append(message)

    late = LateAnswer(send, flavor, status)
    *firsts, last = parts or (b"",)
    for part in firsts:
        assert late.take(part)
    await late.send({"type": "http.response.body", "body": last, "more_body": True})
    assert out == []
    await late.send({"type": "http.response.body", "body": b"", "more_body": False})
    return out


async def record_of(flavor: Flavor, status: int, body: bytes) -> tuple[bytes, dict[str, object]]:
    (message,) = await sent(flavor, status, body[:9], body[9:])
    assert message["more_body"]
    assert message["body"].endswith(b"\n\n")
    name, _, data = message["body"][:-2].rpartition(b"data: ")
    assert b"\n" not in data
    return name, json.loads(data)


@pytest.mark.parametrize("indent", [None, 2])
async def test_an_error_in_the_format_of_the_api_stays_as_it_is(indent: int | None) -> None:
    assert await record_of("openai", 404, json.dumps(OPENAI, indent=indent).encode()) == (b"", OPENAI)
    body = json.dumps(ANTHROPIC, indent=indent).encode()
    assert await record_of("anthropic", 404, body) == (b"event: error\n", ANTHROPIC)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b'{"error":"not here"}', "not here"),
        (b"<html>", "the answer was an error with status 503"),
        (b"[1]", "the answer was an error with status 503"),
        (b"", "the answer was an error with status 503"),
        (b'{"error":"' + b"x" * LONGEST_ERROR + b'"}' + b" " * 9, None),
    ],
)
@pytest.mark.parametrize("flavor", ["openai", "anthropic"])
async def test_of_any_other_error_the_message_stays(flavor: Flavor, body: bytes, text: str | None) -> None:
    _, document = await record_of(flavor, 503, body)
    error = document["error"]
    assert isinstance(error, dict)
    assert error["code"] == "upstream_error"
    assert text is None or error["message"] == text


async def test_a_long_answer_is_not_kept() -> None:
    (message,) = await sent("openai", 500, *[b"x" * LONGEST_ERROR] * 5)
    assert len(message["body"]) < 1000


async def test_an_empty_200_ends_the_stream() -> None:
    assert await sent("openai", 200) == [{"type": "http.response.body", "body": b"", "more_body": False}]


async def test_another_200_is_a_bad_answer() -> None:
    out: list[Message] = []

    async def send(message: Message) -> None:
        out.append(message)

    late = LateAnswer(send, "openai", 200)
    with pytest.raises(BadAnswer, match=UNFIT):
        await late.send({"type": "http.response.body", "body": b'{"choices":[]}', "more_body": False})
    assert UNFIT.encode() in out[0]["body"]
    assert out[0]["more_body"]
