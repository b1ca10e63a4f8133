import itertools
import json
import math

import jsonschema
import pytest

from proxy.simulator import made_up_text


def take(count: int, *parts: str, seed: int = 0) -> list[str]:
    return list(itertools.islice(made_up_text.tokens(made_up_text.dice(seed, *parts)), count))


def test_the_same_seed_model_and_prompt_say_the_same() -> None:
    assert take(200, "llama3", "why?") == take(200, "llama3", "why?")
    assert take(200, "llama3", "why?") != take(200, "llama3", "how?")
    assert take(200, "llama3", "why?") != take(200, "qwen3", "why?")
    assert take(200, "llama3", "why?") != take(200, "llama3", "why?", seed=1)


def test_a_longer_reply_begins_with_the_shorter_one() -> None:
    assert take(500, "m", "p")[:7] == take(7, "m", "p")


def test_words_need_several_bytes_and_escaping() -> None:
    text = "".join(made_up_text.VOCABULARY)
    assert {len(char.encode()) for char in text} == {1, 2, 3, 4}
    assert all(char in text for char in '"\\\n<>&')


def test_vectors_have_unit_length() -> None:
    vector = made_up_text.vector(0, "m", "text", 64)
    assert len(vector) == 64
    assert math.isclose(sum(value * value for value in vector), 1.0, rel_tol=1e-5)
    assert vector == made_up_text.vector(0, "m", "text", 64)
    assert vector != made_up_text.vector(0, "m", "other", 64)


@pytest.mark.parametrize(
    "schema",
    [
        {
            "type": "object",
            "properties": {
                "name": {"type": "string"},
                "age": {"type": "integer"},
                "height": {"type": "number"},
                "married": {"type": "boolean"},
                "nothing": {"type": "null"},
                "color": {"enum": ["red", "green"]},
                "kind": {"const": "person"},
                "tags": {"type": "array", "items": {"type": "string"}, "minItems": 2},
                "either": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
                "nullable": {"type": ["string", "null"]},
            },
            "required": ["name", "age", "tags"],
        },
        {"$ref": "#/$defs/pet", "$defs": {"pet": {"type": "object", "properties": {"legs": {"type": "integer"}}}}},
        {"properties": {"implied": {"type": "string"}}},
    ],
)
def test_structured_replies_satisfy_their_schema(schema: dict[str, object]) -> None:
    pieces = made_up_text.structured(made_up_text.dice(3), schema)
    assert len(pieces) > 1
    jsonschema.validate(json.loads("".join(pieces)), schema)


def test_any_json_is_an_object() -> None:
    assert isinstance(json.loads("".join(made_up_text.structured(made_up_text.dice(3), "json"))), dict)
