import json
from typing import Any

import pytest

from proxy.simulator import Ollama
from proxy.simulator.generation_job import Job
from proxy.simulator.refusals import Refuse
from proxy.simulator.runner_checks import check_runner
from proxy.simulator.settings import Model
from tests.proxy.simulator.client import ask


def refused(model: Model | None = None, **job: Any) -> tuple[int, str]:
    """Return status and text of what a runner with a context of 4 refuses."""
    with pytest.raises(Refuse) as found:
        check_runner(Job("a", "why is the sky blue", stream=False, **job), model or Model("a"), 4)
    return found.value.status, found.value.message


def test_what_is_passed_on_from_the_runner_is_its_json() -> None:
    status, text = refused(truncate=False)
    assert (status, json.loads(text)["error"]) == (
        400,
        {
            "code": 400,
            "message": "request (5 tokens) exceeds the available context size (4 tokens), try increasing it",
            "type": "exceed_context_size_error",
            "n_prompt_tokens": 5,
            "n_ctx": 4,
        },
    )
    assert refused(images=1)[0] == 400


@pytest.mark.parametrize(
    "schema", [{"type": "wrong"}, {"properties": {"a": {"type": "wrong"}}}, {"items": {"type": "wrong"}}]
)
def test_a_schema_of_an_unknown_type(schema: dict[str, Any]) -> None:
    status, text = refused(format=schema)
    assert (status, json.loads(text)["error"]["message"].splitlines()[-1]) == (
        400,
        'Unrecognized schema: {"type":"wrong"}',
    )


@pytest.mark.parametrize("form", ["json", "", {}, {"type": "object"}, {"type": ["string", "null"]}, None])
def test_what_is_taken(form: object) -> None:
    check_runner(Job("a", "", stream=False, format=form), Model("a"), 4)
    check_runner(Job("a", "", stream=False, images=1), Model("a", capabilities=("completion", "vision")), 4)


@pytest.mark.parametrize(
    ("path", "more"),
    [
        ("/api/generate", {"prompt": "x", "format": "xml"}),
        ("/api/chat", {"messages": [{"role": "user", "content": "x"}], "format": "xml"}),
    ],
)
async def test_in_the_place_of_a_stream_it_comes_in_chunks_and_without_charset(path: str, more: dict[str, Any]) -> None:
    async with Ollama() as sim:
        stream = await ask(sim, "POST", path, {"model": "llama3.2", **more})
        assert (stream.status, stream.headers["content-type"]) == (500, "application/json")
        assert stream.headers["transfer-encoding"] == "chunked"
        whole = await ask(sim, "POST", path, {"model": "llama3.2", "stream": False, **more})
        assert (whole.status, whole.headers["content-type"]) == (500, "application/json; charset=utf-8")
        assert whole.headers["content-length"] == str(len(whole.body))
        assert whole.body == stream.body
