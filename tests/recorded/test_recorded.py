"""The simulator is held against what a real Ollama answered (``README.md`` here)."""

import asyncio
import itertools
import json
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest

from tests.proxy.simulator.client import Answer
from tests.recorded.cases import FILE, Case, differences, read_cases
from tests.recorded.host import replay

CASES: Final = read_cases()

# Cases in which the simulator differs, with what differs (a key of `differences`) and why it may.
EXCEPTIONS: Final[dict[str, dict[str, str]]] = {}


@pytest.fixture(scope="module")
def answers() -> dict[str, Answer]:
    """What the simulator answers to all cases, asked in their order: some create, copy and delete models."""
    return asyncio.run(replay(CASES))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_simulator_answers_as_the_real_one_did(case: Case, answers: dict[str, Answer]) -> None:
    found = differences(case, answers[case.name])
    excepted = EXCEPTIONS.get(case.name, {})
    unexplained = {name: both for name, both in found.items() if name not in excepted}
    assert not unexplained, "\n".join(f"{name}\n  real {a}\n  ours {b}" for name, (a, b) in unexplained.items())
    assert set(excepted) <= set(found), "an exception that is no longer needed"


def test_the_table_in_the_readme() -> None:
    table = replay_table()
    assert table in FILE.with_name("README.md").read_text("utf-8"), f"the table has to be\n{table}"


def test_what_the_page_on_the_design_says() -> None:
    text = Path("docs/design.md").read_text("utf-8")
    assert f": {len(CASES)} requests and what was answered" in text
    assert (f"All {len(CASES)} are equal, without an exception;" in text) == (not EXCEPTIONS)


def replay_table() -> str:
    """Return the table of cases, equal ones and exceptions, by route."""
    routes = Counter(_route(case) for case in CASES)
    excepted = Counter(_route(case) for case in CASES if case.name in EXCEPTIONS)
    rows = [(f"`{route}`", count, excepted[route]) for route, count in routes.items()]
    rows.append(("all", len(CASES), len(EXCEPTIONS)))
    lines = [f"| {route} | {count} | {count - listed} | {listed} |" for route, count, listed in rows]
    return "\n".join(["| route | cases | equal | listed exceptions |", "|---|---:|---:|---:|", *lines])


def _route(case: Case) -> str:
    path = "/" + case.path.strip("/")
    for prefix in ("/api/blobs", "/v1/models", "/api/user/keys"):
        if path.startswith(f"{prefix}/"):
            return f"{prefix}/…"
    return path


STREAM: Final = next(case for case in CASES if case.name == "gen stream=True")
WHOLE: Final = next(case for case in CASES if case.name == "v1chat stream=False")
EVENTS: Final = next(case for case in CASES if case.name == "v1resp stream=True")
REFUSED: Final = next(case for case in CASES if case.name == "gen missing model s=True")


def answer_of(case: Case, first: int = 0) -> Answer:
    """An answer that is what was recorded, its events numbered from `first`."""
    headers = [(name, value if value != "N" else "1") for name, value in case.headers.items()]
    numbers = itertools.count(first)
    texts = [text.replace(":#", ":1") for times, text in case.chunks for _ in range(times)]
    chunks = [re.sub(r'(?<="sequence_number":)\d+', lambda _: str(next(numbers)), text).encode() for text in texts]
    return Answer(case.status, [*headers, ("Date", "today")], chunks)


@pytest.mark.parametrize("case", [STREAM, WHOLE, EVENTS, REFUSED], ids=lambda case: case.name)
def test_what_was_recorded_is_equal_to_itself(case: Case) -> None:
    assert differences(case, answer_of(case)) == {}


def _json(case: Case, change: Any) -> Answer:
    answer = answer_of(case)
    value = json.loads(answer.chunks[-1])
    end = answer.chunks[-1][len(answer.chunks[-1].rstrip()) :]
    answer.chunks[-1] = json.dumps(change(value), separators=(",", ":")).encode() + end
    return answer


@pytest.mark.parametrize(
    ("case", "answer", "what"),
    [
        (STREAM, replace(answer_of(STREAM), status=201), {"status"}),
        (STREAM, replace(answer_of(STREAM), end="cut"), {"ended"}),
        (STREAM, replace(answer_of(STREAM), chunks=answer_of(STREAM).chunks[1:]), {"counts"}),
        (STREAM, replace(answer_of(STREAM), chunks=answer_of(STREAM).chunks[:-1]), {"chunks", "counts"}),
        (STREAM, replace(answer_of(STREAM), chunks=[answer_of(STREAM).body]), {"chunks", "counts"}),
        (STREAM, replace(answer_of(STREAM), fields=[("content-type", "text/plain")]), {"headers", "framing"}),
        (STREAM, replace(answer_of(STREAM), fields=[*answer_of(STREAM).fields, ("server", "x")]), {"headers"}),
        (WHOLE, _json(WHOLE, lambda value: dict(reversed(value.items()))), {"chunks"}),
        (WHOLE, _json(WHOLE, lambda value: value | {"more": 1}), {"chunks"}),
        (WHOLE, _json(WHOLE, lambda value: value | {"object": "other"}), {"chunks"}),
        (WHOLE, _json(WHOLE, lambda value: value | {"created": "1"}), {"chunks"}),
        (WHOLE, _json(WHOLE, lambda value: value | {"created": 2}), set()),
        (WHOLE, replace(answer_of(WHOLE), chunks=[answer_of(WHOLE).body.rstrip()]), {"chunks"}),
        (WHOLE, replace(answer_of(WHOLE), chunks=[answer_of(WHOLE).body.replace(b'":', b'": ')]), {"spaced"}),
        (WHOLE, _json(WHOLE, lambda value: value | {"usage": {**value["usage"], "total_tokens": 0}}), {"summed"}),
        (EVENTS, replace(answer_of(EVENTS), chunks=[*reversed(answer_of(EVENTS).chunks)]), {"chunks", "numbered"}),
        (EVENTS, answer_of(EVENTS, first=1), {"numbered"}),
        (REFUSED, _json(REFUSED, lambda value: {"error": "model not found"}), {"chunks"}),
    ],
)
def test_a_difference_is_seen(case: Case, answer: Answer, what: set[str]) -> None:
    assert set(differences(case, answer)) == what
