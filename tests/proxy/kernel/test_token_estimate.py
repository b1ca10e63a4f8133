"""proxy/kernel/token_estimate.py, as tables."""

from typing import Any

import orjson
import pytest
from pydantic import ValidationError

from proxy.kernel.attempts import Usage
from proxy.kernel.prompt_size import PromptSize
from proxy.kernel.route import Route
from proxy.kernel.routes import Match, declared
from proxy.kernel.token_estimate import (
    AUDIO_BYTES_PER_TOKEN,
    IMAGE_TOKENS,
    Estimate,
    Expected,
    expect,
    expect_form,
    expect_unread,
    usage_of,
    used,
)
from proxy.testing import make_exchange, suppose
from proxy.testing.exchanges import ROUTES

PICTURE = "A" * 40_000


def sized(document: dict[str, Any]) -> PromptSize:
    return PromptSize.of(document, len(orjson.dumps(document)))


def route_of(path: str) -> Route:
    match = ROUTES.match("POST", path)
    assert isinstance(match, Match)
    return match.route


@pytest.mark.parametrize(
    ("path", "document", "output"),
    [
        ("/api/chat", {}, 1000),
        ("/api/chat", {"options": {"num_predict": 50}}, 50),
        ("/api/chat", {"options": {"num_predict": 0}}, 1000),
        ("/api/chat", {"options": {"num_predict": 0.5}}, 1000),
        ("/api/chat", {"options": {"num_predict": 50.9}}, 50),
        ("/api/chat", {"options": {"num_predict": True}}, 1000),
        ("/v1/chat/completions", {"max_tokens": 0}, 1000),
        ("/api/chat", {"options": {"num_predict": -1}}, 1000),
        ("/api/chat", {"options": {"num_predict": "50"}}, 1000),
        ("/api/chat", {"options": [1]}, 1000),
        ("/api/chat", {"max_tokens": 1}, 1000),
        ("/api/generate", {"options": {"num_predict": 7}}, 7),
        ("/v1/chat/completions", {"max_tokens": 60}, 60),
        ("/v1/chat/completions", {"max_completion_tokens": 70, "max_tokens": 60}, 60),
        ("/v1/chat/completions", {"max_completion_tokens": 1}, 1000),  # Ollama does not read it
        ("/v1/chat/completions", {"max_output_tokens": 1}, 1000),
        ("/v1/responses", {"max_tokens": 1}, 1000),
        ("/v1/chat/completions", {"max_tokens": None}, 1000),
        ("/v1/chat/completions", {"options": {"num_predict": 1}}, 1000),
        ("/v1/completions", {"max_tokens": 16}, 16),
        ("/v1/responses", {"max_output_tokens": 80}, 80),
        ("/v1/messages", {"max_tokens": 90}, 90),
        ("/api/embed", {"input": "some text"}, 0),
        ("/api/embed", {"input": "some text", "options": {"num_predict": 9}}, 0),
        ("/v1/embeddings", {"input": ["some", "texts"]}, 0),
    ],
)
def test_the_answer_is_expected_to_be_as_long_as_it_may_be(path: str, document: dict[str, Any], output: int) -> None:
    prompt = len(orjson.dumps(document)) // 4
    assert expect(route_of(path), document, sized(document), Estimate(output=1000)) == Expected(prompt, prompt + output)


@pytest.mark.parametrize(
    ("path", "document"),
    [
        ("/api/generate", {"prompt": "what is this", "images": [PICTURE]}),
        ("/api/chat", {"messages": [{"role": "user", "content": "what is this", "images": [PICTURE]}]}),
        (
            "/v1/chat/completions",
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": PICTURE}}]}]},
        ),
        (
            "/v1/responses",
            {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": PICTURE}]}]},
        ),
        (
            "/v1/messages",
            {"messages": [{"role": "user", "content": [{"type": "image", "source": {"data": PICTURE}}]}]},
        ),
    ],
)
def test_a_picture_counts_as_one_not_by_its_bytes(path: str, document: dict[str, Any]) -> None:
    expected = expect(route_of(path), document, sized(document), Estimate(output=0))
    assert IMAGE_TOKENS < expected.prompt < IMAGE_TOKENS + 50


def test_a_reservation_is_bounded() -> None:
    expected = expect(route_of("/api/chat"), {"options": {"num_predict": 10**12}}, PromptSize(), Estimate(max=5000))
    assert expected.total == 5000


@pytest.mark.parametrize(
    ("usage", "status", "counts"),
    [
        (Usage(30, 12), 200, 42),
        (Usage(None, 12), 200, 12),  # the backend had the prompt in its cache, and says so by saying nothing
        (Usage(30, None), 200, 30),
        (Usage(None, 5, "estimated"), 200, 105),
        (Usage(0, 0), 200, 0),  # a zero that was reported is one
        (Usage(0, None), 200, 0),
        (None, 200, 110),
        (Usage(done_reason="stop"), 200, 110),  # as of OpenAI's answers without usage
        (Usage(done_reason="load"), 200, 0),
        (Usage(done_reason="unload"), 200, 0),
        (None, 400, 0),
        (Usage(30, 12), 404, 0),
        (None, None, 0),
    ],
)
def test_what_a_finished_request_counts_for(usage: Usage | None, status: int | None, counts: int) -> None:
    exchange = make_exchange()
    suppose(exchange, usage=usage, status=status, bytes_out=40)
    assert used(exchange, Expected(100, 200)) == counts


@pytest.mark.parametrize(("attempts", "counts"), [(0, 0), (1, 100)])
def test_who_leaves_before_the_answer_pays_for_the_prompt_that_a_backend_read(attempts: int, counts: int) -> None:
    exchange = make_exchange()
    suppose(exchange, gone=True, attempts=attempts)
    assert used(exchange, Expected(100, 200)) == counts


@pytest.mark.parametrize(
    ("path", "output"),
    [
        *[(path, None) for path in ("/api/embeddings", "/api/embed", "/v1/embeddings")],
        *[(path, 10) for path in ("/api/chat", "/v1/chat/completions", "/v1/messages", "/v1/audio/transcriptions")],
    ],
)
def test_an_answer_without_a_report_is_estimated(path: str, output: int | None) -> None:
    exchange = make_exchange("POST", path)
    suppose(exchange, status=200, bytes_out=43)
    assert usage_of(exchange, Expected(100, 200)) == Usage(100, output, "estimated")


@pytest.mark.parametrize("path", ["/api/show", "/api/pull", "/nothing"])
def test_what_runs_no_model_costs_no_tokens(path: str) -> None:
    exchange = make_exchange("POST", path)
    suppose(exchange, status=200, bytes_out=43)
    assert usage_of(exchange, Expected()) is None


def test_a_recording_counts_by_its_length() -> None:
    assert expect_form(10 * AUDIO_BYTES_PER_TOKEN, Estimate(output=7)) == Expected(10, 17)
    assert expect_form(10**9, Estimate(output=7, max=500)).total == 500


def test_a_body_that_is_not_read_counts_by_its_length() -> None:
    route = declared("/x/{model}", ("POST",), None, {"kind": "inference", "body": "raw"})
    assert expect_unread(400, route, Estimate(output=7)) == Expected(100, 107)
    assert expect_unread(10**9, route, Estimate(max=500)).total == 500


def test_a_route_that_is_like_none_reserves_an_answer() -> None:
    route = declared("/v1/images", ("POST",), None, {"kind": "inference", "body": "json", "models": ("model",)})
    assert expect(route, {"max_tokens": 5}, PromptSize(40), Estimate(output=7)) == Expected(10, 17)


@pytest.mark.parametrize("options", [{"max": 0}, {"output": -1}, {"prompt": 1}])
def test_what_no_estimate_may_be(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Estimate.model_validate(options)
