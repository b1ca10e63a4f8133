"""docs/: what the pages say about Ollama, held to what a real one answered (tests/recorded)."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import orjson
import pytest

from tests.recorded.cases import Case, read_cases

DOCS: Final = Path(__file__).parents[1] / "docs"
CASES: Final = {case.name: case for case in read_cases()}
GENERATES: Final = (
    "/api/generate",
    "/api/chat",
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/responses",
    "/v1/messages",
)
EMBEDS: Final = ("/api/embed", "/api/embeddings", "/v1/embeddings")


def text(name: str) -> str:
    """Return the body of the answer in the case `name`."""
    return "".join(chunk * times for times, chunk in CASES[name].chunks)


def last(name: str) -> Any:
    """Return the last line of an answer as what its JSON says; numbers that differ each time are 0."""
    return orjson.loads(text(name).splitlines()[-1].replace(":#", ":0"))


def answered(status: int, *names: str) -> Callable[[], bool]:
    """Return whether all of the cases `names` were answered with `status`."""
    return lambda: {CASES[name].status for name in names} == {status}


def said(words: str, *names: str) -> Callable[[], bool]:
    """Return whether the answers in all of the cases `names` hold `words`."""
    return lambda: all(words in text(name) for name in names)


def fails_in_a_200(name: str) -> Callable[[], bool]:
    """Return whether the case `name` was answered 200 with a stream that ends with an error."""
    return lambda: CASES[name].status == 200 and CASES[name].ended == "clean" and list(last(name)) == ["error"]


def statuses(*paths: str) -> set[int]:
    """Return the statuses from 500 on in all cases of `paths`."""
    return {case.status for case in CASES.values() if case.path in paths and case.status >= 500}


def streams(path: str) -> list[Case]:
    """Return the cases of `path` with a stream in which a model ran to its end."""
    kinds = ("application/x-ndjson", "text/event-stream")
    return [case for case in CASES.values() if case.path == path and case.headers.get("content-type") in kinds]


def end_with(**terminators: str) -> Callable[[], bool]:
    """Return whether every recorded stream of a route, each written `api_chat`, ends with its terminator."""
    ends = {f"/{route.replace('__', '/')}": terminator for route, terminator in terminators.items()}
    return lambda: all(
        streams(path) and all(terminator in case.chunks[-1][1] for case in streams(path))
        for path, terminator in ends.items()
    )


CLAIMS: Final[list[tuple[str, str, Callable[[], bool]]]] = [
    # (page, what has to stand there, whether the recorded cases say the same)
    (
        "guides/retries.md",
        "answers with 500, 501 or 502 though the request is at fault",
        lambda: statuses(*GENERATES, *EMBEDS) == {500, 501, 502},
    ),
    (
        "guides/retries.md",
        "an option of the wrong type",
        answered(500, "gen bad option s=True", "gen bad option s=False"),
    ),
    ("guides/retries.md", "an unknown `format`", answered(500, "gen bad format s=True", "gen bad format s=False")),
    ("guides/retries.md", "embeddings of a model that cannot make any", answered(501, "embed one", "v1emb one")),
    ("guides/retries.md", "embeddings of a model that cannot make any", answered(500, "embeddings")),
    ("guides/retries.md", "a cloud model without network", answered(502, "chat cloud s=True", "v1msg cloud s=False")),
    (
        "guides/retries.md",
        "a prompt that is too long for the context and may not be shortened, Ollama answers with 400",
        answered(400, "gen long trunc=false s=True", "chat long trunc=false s=False", "embed trunc false"),
    ),
    ("guides/streaming.md", "a pull of a model that no registry has", fails_in_a_200("pull s=True")),
    ("guides/streaming.md", "a push that is refused", fails_in_a_200("push s=True")),
    (
        "guides/streaming.md",
        'the terminator came (`done:true`, `[DONE]`, `message_stop`, `response.completed`, `"status":"success"`)',
        end_with(
            api__generate='"done":true',
            api__chat='"done":true',
            v1__chat__completions="[DONE]",
            v1__completions="[DONE]",
            v1__messages="message_stop",
            v1__responses="response.completed",
        ),
    ),
    (
        "guides/quotas.md",
        "Streams of `/v1/chat/completions` and `/v1/completions` come without a report unless the client sets",
        lambda: (
            not any(said('"usage"', name)() for name in ("v1chat stream=True", "v1comp stream=True"))
            and said('"usage"', "v1chat usage", "v1comp usage")()
        ),
    ),
    (
        "guides/quotas.md",
        "Those of the other routes that generate have one",
        lambda: (
            said('"eval_count"', "gen stream=True", "chat stream=True")()
            and said('"output_tokens"', "v1resp stream=True", "v1msg stream=True")()
        ),
    ),
    (
        "guides/quotas.md",
        "Answers of `/api/embeddings` never have a report",
        lambda: [*last("embeddings empty")] == ["embedding"],
    ),
    ("guides/access.md", "keys in any case", said("'nope'", "gen case key", "chat case key")),
    ("guides/access.md", "the last of two equal ones", said("'nope2'", "gen dup key", "chat dup key")),
    ("guides/access.md", "anything behind the first value", said("'nope'", "gen trailing", "chat trailing")),
    (
        "guides/access.md",
        "It cuts off what a number in `options` has behind the point",
        lambda: last("gen num_predict float s=True")["eval_count"] == 5,
    ),
    (
        "guides/access.md",
        "What Ollama takes for left out (`false`, `null`, an empty text) may be sent",
        said('"status":"success"', "create remote_host"),
    ),
    (
        "guides/access.md",
        "With it Ollama takes a model from a registry by plain HTTP",
        lambda: said('"http://', "pull insecure s=True")() and said('"https://', "pull hf s=True")(),
    ),
    (
        "guides/queueing.md",
        "a request to `/api/generate` or `/api/chat` without a prompt or messages",
        said('"done_reason":"load"', "gen load s=True", "chat load s=True", "chat empty msgs s=True"),
    ),
    ("guides/queueing.md", "loads a model or unloads it", said('"done_reason":"unload"', "gen unload", "chat unload")),
    (
        "reference/errors.md",
        "written as Ollama writes them: the member is missing there",
        lambda: [*last("gen missing model s=True")] == ["error"],
    ),
    (
        "reference/errors.md",
        "in OpenAI's form it is null",
        lambda: last("v1chat missing model s=True")["error"]["code"] is None,
    ),
]


def plain(page: Path) -> str:
    return re.sub(r"\s+", " ", page.read_text("utf-8"))


@pytest.mark.parametrize(("page", "claim", "holds"), CLAIMS, ids=[claim[1] for claim in CLAIMS])
def test_a_claim_stands_in_its_page_and_is_what_a_real_ollama_did(
    page: str, claim: str, holds: Callable[[], bool]
) -> None:
    assert claim in plain(DOCS / page)
    assert holds()


@pytest.mark.parametrize("page", sorted(DOCS.rglob("*.md")), ids=lambda page: page.name)
def test_how_many_run_at_once_is_said_of_each_model(page: Path) -> None:
    for paragraph in re.split(r"\n\s*\n|\n(?=\|)", page.read_text("utf-8")):
        assert "OLLAMA_NUM_PARALLEL" not in paragraph or "model" in paragraph, paragraph
