"""The models of Go's readers against what Go said; see ``ask_go.py``, which asks it."""

from hashlib import sha256

import pytest

from tests.fuzz.ask_go import MODELS, agree, body
from tests.fuzz.corpora import kept
from tests.fuzz.oracles.goanswers import form, recorded


@pytest.mark.parametrize("name", MODELS)
def test_the_models_say_what_go_said(name: str) -> None:
    answers = recorded(name)
    for file, data in kept(name).items():
        answer = answers.get(sha256(data).hexdigest())
        assert answer is not None, f"{file} was not shown to Go; run python -m tests.fuzz.ask_go"
        assert agree(name, answer, MODELS[name](data)), f"{file}: Go says {answer}"


def test_a_model_that_says_something_else_is_noticed() -> None:
    assert not agree("json_gate", {"error": "syntax"}, body(b"{}"))
    assert not agree("json_gate", body(b'{"model":"a"}'), body(b'{"model":"b"}'))
    assert not agree("multipart_form", {"values": {}}, form(b"x"))
