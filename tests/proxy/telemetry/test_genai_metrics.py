"""The metrics of OpenTelemetry's conventions for generative AI."""

from typing import Any

import pytest

from proxy.kernel.attempts import Usage
from proxy.kernel.errors import Truncated
from proxy.telemetry.exposition import Moment
from proxy.telemetry.genai_metrics import Generations
from tests.support.metrics import Numbers, finished

MODEL = {"gen_ai_provider_name": "ollama", "gen_ai_request_model": "m:latest"}


async def counted(path: str = "/api/chat", **changes: Any) -> Numbers:
    generations = Generations()
    generations.count(await finished(path, **changes), "m:latest", "b1", 2.5)
    return Numbers(Moment((series.meter, series.read) for series in generations.series))


async def test_a_stream() -> None:
    numbers = await counted()
    labels = {**MODEL, "gen_ai_operation_name": "chat", "backend": "b1"}
    assert numbers("gen_ai_server_request_duration_seconds_sum", **labels, error_type="") == 2.5
    assert numbers("gen_ai_server_time_to_first_token_seconds_sum", **labels) == 0.5
    assert numbers("gen_ai_server_time_per_output_token_seconds_sum", **labels) == pytest.approx(0.1)  # 2 s, 20 more
    assert numbers("gen_ai_client_token_usage_sum", **MODEL, gen_ai_token_type="input") == 30
    assert numbers("gen_ai_client_token_usage_sum", **MODEL, gen_ai_token_type="output") == 21


@pytest.mark.parametrize(
    ("path", "changes"),
    [
        ("/api/chat", {"chunks": 1}),  # in one piece: the first token was not seen
        ("/v1/chat/completions", {}),  # not asked for a stream
        ("/api/embed", {}),
    ],
)
async def test_an_answer_in_one_piece_has_no_first_token(path: str, changes: dict[str, Any]) -> None:
    numbers = await counted(path, **changes)
    assert numbers("gen_ai_server_request_duration_seconds_count") == 1
    assert numbers("gen_ai_server_time_to_first_token_seconds_count") is None
    assert numbers("gen_ai_server_time_per_output_token_seconds_count") is None


@pytest.mark.parametrize("usage", [None, Usage(tokens_out=1), Usage(tokens_out=9, source="estimated"), Usage()])
async def test_time_per_token_needs_tokens_that_were_counted(usage: Usage | None) -> None:
    numbers = await counted(usage=usage)
    assert numbers("gen_ai_server_time_to_first_token_seconds_count") == 1
    assert numbers("gen_ai_server_time_per_output_token_seconds_count") is None


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"outcome": "upstream_truncated", "error": Truncated("broke off")}, "upstream_truncated"),
        ({"outcome": "client_gone"}, "client_gone"),
        ({"status": 400}, "status_400"),
        ({"outcome": None}, "shutdown"),
    ],
)
async def test_what_failed_counts_for_its_duration_only(changes: dict[str, Any], error: str) -> None:
    numbers = await counted(**changes)
    assert numbers("gen_ai_server_request_duration_seconds_count", error_type=error) == 1
    assert numbers("gen_ai_server_time_to_first_token_seconds_count") is None
    assert numbers("gen_ai_client_token_usage_count") is None
