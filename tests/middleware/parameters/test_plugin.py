"""middleware/parameters/plugin.py."""

from collections.abc import Sequence
from typing import Any

import httpx
import orjson
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from middleware.access.plugin import Access
from middleware.parameters.plugin import Parameters
from middleware.parameters.rules import Anything, Context, Flag, Lifetime, Number, Thinking, Whole
from proxy.kernel.asgi import ASGIApp, Receive, Scope, Send
from proxy.kernel.errors import ProxyError, Refused
from proxy.kernel.exchange import Exchange
from proxy.testing import call, make_exchange, ok, suppose
from tests.support.asgi import hands_send_on

KINDS: dict[str, Any] = {
    "num_ctx": Context, "num_predict": Whole, "keep_alive": Lifetime, "temperature": Number, "top_p": Number,
    "top_k": Whole, "seed": Whole, "n": Whole, "think": Thinking, "shift": Flag,
}  # fmt: skip


def parameters(**rules: Any) -> Parameters:
    """Return the plugin with options as the policy file has them."""
    options = {name: KINDS[name].model_validate(rule) if name in KINDS else rule for name, rule in rules.items()}
    if "options" in rules:
        options["options"] = {name: Anything.model_validate(rule) for name, rule in rules["options"].items()}
    return Parameters(ok, **options)


async def pass_through(plugin: Parameters, path: str, body: bytes, headers: Sequence[tuple[str, str]] = ()) -> Exchange:
    exchange = make_exchange("POST", path, body=body, headers=headers)
    await exchange.body()
    answer = await call(plugin, exchange)
    if answer.error is not None:
        raise answer.error
    return exchange


async def change(plugin: Parameters, path: str, document: dict[str, Any]) -> Any:
    """Return what becomes of the body, None where it stays the same object."""
    body = orjson.dumps(document)
    exchange = make_exchange("POST", path, body=body)
    await exchange.body()
    answer = await call(plugin, exchange)
    if answer.error is not None:
        raise answer.error
    changed = await exchange.body()
    assert orjson.loads(changed) == await exchange.json()
    return None if changed is body else orjson.loads(changed)


GENERATE, CHAT, EMBED = "/api/generate", "/api/chat", "/api/embed"
V1_CHAT, COMPLETIONS, RESPONSES, MESSAGES = "/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages"
NEWER = "max_completion_tokens"
HARD, UNTHINKING = {"output_config": {"effort": "high"}}, {"thinking": {"type": "disabled"}}
TALK, SAID = {"messages": [{"role": "user", "content": "hi"}]}, {"prompt": "hi"}
THINKING, ADAPTIVE = {"thinking": {"type": "enabled"}}, {"thinking": {"type": "adaptive"}}


@pytest.mark.parametrize(
    ("rules", "path", "document", "result"),
    [
        # a size of the context
        ({"num_ctx": {"max": 8}}, CHAT, {"options": {"num_ctx": 9}}, {"options": {"num_ctx": 8}}),
        ({"num_ctx": {"max": 8}}, EMBED, {"options": {"num_ctx": 9}}, {"options": {"num_ctx": 8}}),
        ({"num_ctx": {"max": 8}}, CHAT, {"options": {"num_ctx": 8}}, None),
        ({"num_ctx": {"max": 8}}, CHAT, {"options": {"num_ctx": None}}, None),
        ({"num_ctx": {"max": 8}}, CHAT, {"options": {}}, None),
        ({"num_ctx": {"max": 8}}, CHAT, {"num_ctx": 9}, None),
        ({"num_ctx": {"max": 8}}, V1_CHAT, {"num_ctx": 9, "options": {"num_ctx": 9}}, None),
        ({"num_ctx": {"set": 8}}, CHAT, {"options": {"num_ctx": 8.0}}, None),
        ({"num_ctx": {"set": 8}}, CHAT, {"options": None}, {"options": {"num_ctx": 8}}),
        ({"num_ctx": {"set": 8}}, CHAT, {"model": "a"}, {"options": {"num_ctx": 8}, "model": "a"}),
        ({"num_ctx": {"default": 8}}, CHAT, {"options": {"seed": 1}}, {"options": {"num_ctx": 8, "seed": 1}}),
        ({"num_ctx": {"default": 8}}, CHAT, {"options": {"num_ctx": 4}}, None),
        # the length of a reply
        ({"num_predict": {"max": 9}}, CHAT, {"options": {"num_predict": -1}}, {"options": {"num_predict": 9}}),
        ({"num_predict": {"max": 9}}, GENERATE, {}, {"options": {"num_predict": 9}}),
        ({"num_predict": {"max": 9}}, EMBED, {}, None),
        ({"num_predict": {"max": 9}}, V1_CHAT, {"max_tokens": 99}, {"max_tokens": 9}),
        # Ollama does not read max_completion_tokens: what it asks for must stand in max_tokens, or nothing would hold
        ({"num_predict": {"max": 9}}, V1_CHAT, {NEWER: 99}, {"max_tokens": 9, NEWER: 9}),
        ({"num_predict": {"max": 9}}, V1_CHAT, {NEWER: 5}, {"max_tokens": 5, NEWER: 5}),
        ({"num_predict": {"max": 9}}, V1_CHAT, {NEWER: -1}, {"max_tokens": 9, NEWER: 9}),
        ({"num_predict": {"max": 9}}, V1_CHAT, {NEWER: 5, "max_tokens": None}, {"max_tokens": 5, NEWER: 5}),
        ({"num_predict": {"max": 9}}, V1_CHAT, {NEWER: 5, "max_tokens": 99}, {"max_tokens": 9, NEWER: 5}),
        ({"num_predict": {"max": 9}}, V1_CHAT, {NEWER: 99, "max_tokens": 5}, {"max_tokens": 5, NEWER: 9}),
        ({"num_predict": {"max": 9}}, V1_CHAT, {NEWER: 5, "max_tokens": 5}, None),
        ({"num_predict": {"default": 9}}, V1_CHAT, {NEWER: 99}, {"max_tokens": 99, NEWER: 99}),
        ({"num_predict": {"set": 9}}, V1_CHAT, {NEWER: 9}, {"max_tokens": 9, NEWER: 9}),
        ({"num_predict": {"max": 9}}, V1_CHAT, {"max_tokens": None}, {"max_tokens": 9}),
        ({"num_predict": {"max": 9}}, V1_CHAT, {"max_tokens": 0}, {"max_tokens": 9}),
        ({"num_predict": {"max": 9}}, V1_CHAT, {}, {"max_tokens": 9}),
        ({"num_predict": {"max": 9}}, COMPLETIONS, {"max_tokens": 10}, {"max_tokens": 9}),
        ({"num_predict": {"max": 9}}, RESPONSES, {"max_output_tokens": 10}, {"max_output_tokens": 9}),
        ({"num_predict": {"max": 9}}, MESSAGES, {"max_tokens": 10}, {"max_tokens": 9}),
        ({"num_predict": {"default": 9}}, RESPONSES, {}, {"max_output_tokens": 9}),
        # how long the model stays
        ({"keep_alive": {"max": "10m"}}, CHAT, {"keep_alive": -1}, {"keep_alive": 600}),
        ({"keep_alive": {"max": "10m"}}, CHAT, {"keep_alive": "-1s"}, {"keep_alive": 600}),
        ({"keep_alive": {"max": "10m"}}, EMBED, {"keep_alive": "24h"}, {"keep_alive": 600}),
        ({"keep_alive": {"max": "10m"}}, GENERATE, {"keep_alive": "600s"}, None),
        ({"keep_alive": {"max": "10m"}}, CHAT, {"keep_alive": 0}, None),
        ({"keep_alive": {"max": "10m"}}, CHAT, {}, None),
        ({"keep_alive": {"min": "1m"}}, CHAT, {"keep_alive": 0, **TALK}, {"keep_alive": 60, **TALK}),
        ({"keep_alive": {"min": "1m"}}, GENERATE, {"keep_alive": "0.9ns", **SAID}, {"keep_alive": 60, **SAID}),
        ({"keep_alive": {"min": "1m"}}, CHAT, {"keep_alive": 0.9, **TALK}, {"keep_alive": 60, **TALK}),
        ({"keep_alive": {"min": "1m"}}, EMBED, {"keep_alive": 0}, {"keep_alive": 60}),
        # without a prompt it loads the model, or unloads it, and goes on doing that
        ({"keep_alive": {"max": "1m"}}, CHAT, {"keep_alive": "1h"}, {"keep_alive": 60}),
        ({"keep_alive": {"min": "1m"}}, GENERATE, {"keep_alive": 1}, {"keep_alive": 60}),
        ({"keep_alive": {"set": "1m"}}, GENERATE, {}, {"keep_alive": 60}),
        ({"keep_alive": {"max": "1m"}}, GENERATE, {"keep_alive": 0, "prompt": ""}, None),
        ({"keep_alive": {"set": "forever"}}, CHAT, {}, {"keep_alive": -1}),
        ({"keep_alive": {"set": "forever"}}, CHAT, {"keep_alive": -7}, None),
        ({"keep_alive": {"set": "250ms"}}, CHAT, {"keep_alive": 0, **TALK}, {"keep_alive": "250ms", **TALK}),
        ({"keep_alive": {"set": "1h"}}, V1_CHAT, {}, None),
        # sampling
        ({"temperature": {"max": 1}}, CHAT, {"options": {"temperature": 1.5}}, {"options": {"temperature": 1.0}}),
        ({"temperature": {"max": 1}}, V1_CHAT, {"temperature": 2}, {"temperature": 1.0}),
        ({"temperature": {"max": 1}}, MESSAGES, {"temperature": 0.5}, None),
        ({"top_k": {"set": 5}}, MESSAGES, {}, {"top_k": 5}),
        ({"top_k": {"set": 5}}, V1_CHAT, {}, None),
        ({"seed": {"set": 7}}, V1_CHAT, {"seed": 1}, {"seed": 7}),
        ({"seed": {"set": 7}}, CHAT, {}, {"options": {"seed": 7}}),
        ({"n": {"max": 1}}, V1_CHAT, {"n": 128}, {"n": 1}),
        ({"n": {"max": 1}}, CHAT, {"n": 128, "options": {"n": 128}}, None),
        # thinking
        ({"think": {"set": False}}, CHAT, {"think": "high"}, {"think": False}),
        ({"think": {"set": False}}, CHAT, {}, {"think": False}),
        ({"think": {"set": False}}, CHAT, {"think": False}, None),
        ({"think": {"set": False}}, EMBED, {}, None),
        ({"think": {"set": False}}, V1_CHAT, {}, {"reasoning_effort": "none"}),
        ({"think": {"set": False}}, V1_CHAT, {"reasoning": {"effort": "high"}}, {"reasoning": {"effort": "none"}}),
        ({"think": {"set": "low"}}, RESPONSES, {"reasoning": {"x": 1}}, {"reasoning": {"effort": "low", "x": 1}}),
        ({"think": {"set": False}}, MESSAGES, {"thinking": {"type": "enabled"}}, {"thinking": {"type": "disabled"}}),
        # with `reasoning` Ollama does not look at `reasoning_effort`
        ({"think": {"set": False}}, V1_CHAT, {"reasoning": {}}, {"reasoning": {"effort": "none"}}),
        ({"think": {"set": False}}, V1_CHAT, {"reasoning": None}, {"reasoning": None, "reasoning_effort": "none"}),
        (
            {"think": {"set": False}},
            V1_CHAT,
            {"reasoning": {}, "reasoning_effort": "none"},
            {"reasoning": {"effort": "none"}, "reasoning_effort": "none"},
        ),
        # without `thinking` it looks at `output_config`
        ({"think": {"set": False}}, MESSAGES, HARD, {**HARD, **UNTHINKING}),
        ({"think": {"set": False}}, MESSAGES, {"output_config": {}}, {"output_config": {}, **UNTHINKING}),
        ({"think": {"default": False}}, MESSAGES, HARD, None),
        ({"think": {"allow": ["high"]}}, MESSAGES, HARD, None),
        ({"think": {"default": True}}, MESSAGES, {"thinking": {"type": "disabled"}}, None),
        ({"think": {"allow": [False, "low"]}}, V1_CHAT, {"reasoning_effort": "none"}, None),
        # with `thinking` it does not, unless that is of a type it does not know
        ({"think": {"allow": [False, "low", "medium"]}}, MESSAGES, {**HARD, **UNTHINKING}, None),
        ({"think": {"allow": [True, False]}}, MESSAGES, {**HARD, **THINKING}, None),
        ({"think": {"allow": [True]}}, MESSAGES, {"output_config": {"effort": "enormous"}, **THINKING}, None),
        ({"think": {"set": False}}, MESSAGES, {**HARD, **UNTHINKING}, None),
        ({"think": {"set": False}}, MESSAGES, {**HARD, **THINKING}, {**HARD, **UNTHINKING}),
        ({"think": {"set": False}}, MESSAGES, {**HARD, **ADAPTIVE}, {**HARD, **UNTHINKING}),
        ({"think": {"set": False}}, MESSAGES, ADAPTIVE, UNTHINKING),
        ({"think": {"allow": ["high"]}}, MESSAGES, {**HARD, **ADAPTIVE}, None),
        # others
        ({"options": {"num_gpu": {"set": 99}}}, CHAT, {}, {"options": {"num_gpu": 99}}),
        ({"options": {"use_mmap": {"set": True}}}, CHAT, {"options": {"use_mmap": 1}}, {"options": {"use_mmap": True}}),
        ({"options": {"num_gpu": {"set": 99}}}, V1_CHAT, {}, None),
        ({"options": {"presence_penalty": {"max": 1}}}, V1_CHAT, {"presence_penalty": 2}, {"presence_penalty": 1}),
        # numbers as Ollama takes them: it cuts off what an option has behind the point
        ({"num_predict": {"max": 9}}, CHAT, {"options": {"num_predict": 0.5}}, {"options": {"num_predict": 9}}),
        ({"num_predict": {"max": 9}}, CHAT, {"options": {"num_predict": -0.9}}, {"options": {"num_predict": 9}}),
        ({"num_predict": {"max": 9}}, CHAT, {"options": {"num_predict": 1e-9}}, {"options": {"num_predict": 9}}),
        ({"num_predict": {"max": 9}}, CHAT, {"options": {"num_predict": 9.9}}, None),
        ({"num_ctx": {"min": 4}}, CHAT, {"options": {"num_ctx": 3.9}}, {"options": {"num_ctx": 4}}),
        ({"num_ctx": {"allow": [4]}}, CHAT, {"options": {"num_ctx": 4.5}}, None),
        ({"top_k": {"max": 40}}, CHAT, {"options": {"top_k": 0}}, {"options": {"top_k": 40}}),
        ({"top_k": {"max": 40}}, MESSAGES, {"top_k": -1}, {"top_k": 40}),
        ({"options": {"num_gpu": {"max": 9}}}, CHAT, {"options": {"num_gpu": -1}}, {"options": {"num_gpu": 9}}),
        ({"options": {"num_gpu": {"max": 9}}}, CHAT, {"options": {"num_gpu": -0.5}}, None),
        (
            {"options": {"num_thread": {"max": 9}}},
            CHAT,
            {"options": {"num_thread": 0.5}},
            {"options": {"num_thread": 9}},
        ),
        ({"options": {"num_thread": {"max": 9}}}, CHAT, {}, None),
        ({"options": {"stop": {"set": "x"}}}, CHAT, {"options": {"stop": ["y"]}}, {"options": {"stop": ["x"]}}),
        ({"options": {"stop": {"set": "x"}}}, V1_CHAT, {"stop": ["x"]}, None),
        # what is forgotten
        ({"num_ctx": {"drop": True}}, CHAT, {"options": {"num_ctx": 9}}, {"options": {"num_ctx": None}}),
        ({"num_ctx": {"drop": True}}, CHAT, {"options": {"num_ctx": "x"}}, {"options": {"num_ctx": None}}),
        ({"num_ctx": {"drop": True}}, CHAT, {"options": {"num_ctx": None}}, None),
        ({"num_predict": {"drop": True}}, V1_CHAT, {NEWER: 5, "max_tokens": 4}, {NEWER: None, "max_tokens": None}),
        ({"keep_alive": {"drop": True}}, CHAT, {"keep_alive": 0, **TALK}, {"keep_alive": None, **TALK}),
        ({"keep_alive": {"drop": True}}, CHAT, {"keep_alive": 9}, {"keep_alive": None}),
        ({"think": {"drop": True}}, V1_CHAT, {"reasoning": {"effort": "low"}}, {"reasoning": {"effort": None}}),
        ({"think": {"drop": True}}, MESSAGES, HARD, {"output_config": {"effort": None}}),
        ({"shift": {"drop": True}}, CHAT, {"shift": False}, {"shift": None}),
        ({"shift": {"set": True}}, GENERATE, {"shift": False}, {"shift": True}),
        # what makes Ollama load a model anew, at once
        ({"runner": "drop"}, CHAT, {"options": {"num_gpu": 1, "seed": 1}}, {"options": {"num_gpu": None, "seed": 1}}),
        ({"runner": "drop"}, CHAT, {"options": {"use_mmap": False}}, {"options": {"use_mmap": None}}),
        ({"runner": "drop"}, EMBED, {"options": {"draft_num_predict": 3}}, {"options": {"draft_num_predict": None}}),
        ({"runner": "drop"}, GENERATE, {"shift": False, "model": "a"}, {"shift": None, "model": "a"}),
        ({"runner": "drop"}, CHAT, {"options": {"num_ctx": 9, "temperature": 1}, "keep_alive": 9}, None),
        ({"runner": "drop", "options": {"num_gpu": {"max": 9}}}, CHAT, {"options": {"num_gpu": 5}}, None),
        ({"runner": "drop", "shift": {"allow": [False]}}, CHAT, {"shift": False}, None),
        # several at once
        (
            {"num_ctx": {"max": 8}, "keep_alive": {"max": "1m"}, "num_predict": {"max": 5}},
            CHAT,
            {"model": "a", "options": {"num_ctx": 9, "top_p": 0.5}, "keep_alive": "1h", "messages": []},
            {"model": "a", "options": {"num_ctx": 8, "top_p": 0.5, "num_predict": 5}, "keep_alive": 60, "messages": []},
        ),
        # nothing to do with it
        ({"num_ctx": {"set": 8}}, "/api/show", {"model": "a"}, None),
        ({"num_ctx": {"set": 8}}, "/api/pull", {"model": "a"}, None),
        ({"temperature": {"set": 1}}, "/v1/embeddings", {"model": "a"}, None),
        ({}, CHAT, {"model": "a"}, None),
    ],
)
async def test_what_becomes_of_a_body(rules: dict[str, Any], path: str, document: dict[str, Any], result: Any) -> None:
    assert await change(parameters(**rules), path, document) == result


UNLOAD = "may not be used to unload a model"
MORE, NOT_SET = "is more than the {} allowed", "may not be set"


@pytest.mark.parametrize(
    ("rules", "path", "document", "message"),
    [
        ({"num_ctx": {"max": 8, "refuse": True}}, CHAT, {"options": {"num_ctx": 9}}, f"num_ctx {MORE.format(8)}"),
        ({"num_ctx": {"refuse": True}}, CHAT, {"options": {"num_ctx": 9}}, f"num_ctx {NOT_SET}"),
        ({"options": {"num_gpu": {"refuse": True}}}, CHAT, {"options": {"num_gpu": 0}}, f"num_gpu {NOT_SET}"),
        ({"num_predict": {"max": 9, "refuse": True}}, V1_CHAT, {"max_tokens": 10}, f"num_predict {MORE.format(9)}"),
        ({"think": {"refuse": True}}, V1_CHAT, {"reasoning": {"effort": "low"}}, f"think {NOT_SET}"),
        ({"think": {"allow": [False]}}, V1_CHAT, {"reasoning_effort": "low"}, "think is none of the values allowed"),
        ({"think": {"allow": [False]}}, MESSAGES, HARD, "think is none of the values allowed"),
        ({"think": {"allow": [True]}}, MESSAGES, {**HARD, **ADAPTIVE}, "think is none of the values allowed"),
        ({"think": {"allow": [True]}}, MESSAGES, {**HARD, "thinking": {}}, "think is none of the values allowed"),
        ({"think": {"allow": [False]}}, MESSAGES, {**HARD, **THINKING}, "think is none of the values allowed"),
        ({"think": {"refuse": True}}, MESSAGES, {"output_config": {"effort": " XHIGH "}}, f"think {NOT_SET}"),
        ({"n": {"max": 1, "refuse": True}}, V1_CHAT, {"n": 2}, f"n {MORE.format(1)}"),
        ({"runner": "refuse"}, CHAT, {"options": {"num_gpu": 0}}, f"num_gpu {NOT_SET}"),
        ({"runner": "refuse"}, CHAT, {"shift": False}, f"shift {NOT_SET}"),
        # an unload must not become a load, nor a load an unload
        ({"keep_alive": {"min": "1m"}}, CHAT, {"keep_alive": 0}, f"keep_alive {UNLOAD}"),
        ({"keep_alive": {"min": "1m"}}, GENERATE, {"keep_alive": "0s", "prompt": ""}, f"keep_alive {UNLOAD}"),
        ({"keep_alive": {"set": "1m"}}, CHAT, {"keep_alive": 0.5, "messages": []}, f"keep_alive {UNLOAD}"),
        ({"keep_alive": {"drop": True}}, GENERATE, {"keep_alive": "-0.5ns"}, f"keep_alive {UNLOAD}"),
        ({"keep_alive": {"set": "0s"}}, CHAT, {"keep_alive": "5m"}, "keep_alive may not be used to load a model"),
        ({"keep_alive": {"set": "0s"}}, CHAT, {}, "keep_alive may not be used to load a model"),
        ({"keep_alive": {"max": "0s"}}, GENERATE, {"keep_alive": -1}, "keep_alive may not be used to load a model"),
    ],
)
async def test_what_is_refused(rules: dict[str, Any], path: str, document: dict[str, Any], message: str) -> None:
    exchange = make_exchange("POST", path, body=orjson.dumps(document))
    suppose(exchange, policy="guests")
    error = (await call(parameters(**rules), exchange)).error
    assert isinstance(error, Refused)
    assert (error.status, error.code) == (403, "parameter_not_allowed")
    assert error.message == f"{message} for policy 'guests'"


@pytest.mark.parametrize(
    ("rules", "path", "body"),
    [
        ({"num_ctx": {"max": 8}}, CHAT, b'{"options":{"num_ctx":"9"}}'),
        ({"num_ctx": {"max": 8}}, CHAT, b'{"options":{"num_ctx":true}}'),
        ({"num_ctx": {"max": 8}}, CHAT, b'{"options":[9]}'),
        ({"num_ctx": {"set": 8}}, CHAT, b'{"options":"x"}'),
        ({"num_ctx": {"max": 8}}, CHAT, b'{"options":{"num_ctx":1,"num_ctx":9}}'),
        ({"num_ctx": {"max": 8}}, CHAT, b'{"options":{"num_ctx":1},"options":{"num_ctx":9}}'),
        ({"num_ctx": {"max": 8}}, CHAT, b'{"Options":{"num_ctx":9}}'),
        ({"num_ctx": {"max": 8}}, CHAT, b'{"options":{"NUM_CTX":9}}'),
        ({"num_ctx": {"max": 8}}, CHAT, b""),
        ({"keep_alive": {"max": "1m"}}, CHAT, b'{"keep_alive":"forever"}'),
        ({"keep_alive": {"max": "1m"}}, CHAT, b'{"keep_alive":[1]}'),
        ({"keep_alive": {"max": "1m"}}, CHAT, '{"\u212aeep_alive":-1}'.encode()),
        ({"keep_alive": {"min": "1m"}}, CHAT, b'{"keep_alive":18446744074}'),
        ({"keep_alive": {"min": "1m"}}, CHAT, b'{"keep_alive":1e300}'),
        ({"keep_alive": {"max": "1m"}}, CHAT, b'{"keep_alive":"9999999h"}'),
        ({"num_predict": {"max": 9}}, V1_CHAT, b'{"max_tokens":1e999}'),
        ({"num_predict": {"max": 9}}, V1_CHAT, b'{"max_tokens":0.5}'),
        ({"num_predict": {"max": 9}}, V1_CHAT, b'{"max_tokens":5.0}'),
        ({"num_predict": {"max": 9}}, V1_CHAT, b'{"max_completion_tokens":5e0}'),
        ({"num_predict": {"max": 9}}, MESSAGES, b'{"max_tokens":0.5}'),
        ({"num_predict": {"max": 9}}, RESPONSES, b'{"max_output_tokens":9223372036854775808}'),
        ({"num_predict": {"max": 9}}, CHAT, b'{"options":{"num_predict":1e19}}'),
        ({"num_predict": {"max": 9}}, CHAT, b'{"options":{"num_predict":-1e19}}'),
        ({"num_predict": {"max": 9}}, CHAT, b'{"options":{"num_predict":18446744073709551615}}'),
        ({"options": {"num_thread": {"max": 9}}}, CHAT, b'{"options":{"num_thread":[1]}}'),
        ({"options": {"num_thread": {"max": 9}}}, CHAT, b'{"options":{"num_thread":"nan"}}'),
        ({"options": {"num_thread": {"max": 9}}}, CHAT, b'{"options":{"num_thread":{"a":1}}}'),
        ({"options": {"of_another_version": {"max": 9}}}, CHAT, b'{"options":{"of_another_version":[1]}}'),
        ({"options": {"use_mmap": {"allow": [True]}}}, CHAT, b'{"options":{"use_mmap":1}}'),
        ({"shift": {"allow": [True]}}, CHAT, b'{"shift":"x"}'),
        ({"num_predict": {"max": 9}}, V1_CHAT, b'{"MAX_TOKENS":99}'),
        ({"think": {"refuse": True}}, V1_CHAT, b'{"reasoning":{"Effort":"high"}}'),
        ({"think": {"refuse": True}}, V1_CHAT, b'{"reasoning":{"effort":"high","effort":null}}'),
        ({"think": {"set": False}}, RESPONSES, b'{"reasoning":"high"}'),
        ({"think": {"allow": [False]}}, MESSAGES, b'{"output_config":{"EFFORT":"high"}}'),
        ({"think": {"allow": [False]}}, MESSAGES, b'{"output_config":{"effort":"enormous"}}'),
    ],
)
async def test_what_cannot_be_judged_is_refused(rules: dict[str, Any], path: str, body: bytes) -> None:
    with pytest.raises(ProxyError) as caught:
        await pass_through(parameters(**rules), path, body)
    assert caught.value.status == 400


async def test_an_unchanged_body_is_the_same_object() -> None:
    body = b' { "model" : "a", "options":{"num_ctx": 1e1} }\n'
    exchange = await pass_through(parameters(num_ctx={"max": 10}), CHAT, body)
    assert await exchange.body() is body


async def test_every_other_byte_is_kept() -> None:
    body = b' { "model" : "a" , "options":{"num_ctx": 1e2, "x":[ ] } , "prompt":"\\u00e9 \xc3\xa9" }\n'
    exchange = await pass_through(parameters(num_ctx={"max": 10}), GENERATE, body)
    assert await exchange.body() == body.replace(b"1e2", b"10")


async def test_a_compressed_body_that_changes_goes_out_plain() -> None:
    headers = [("content-encoding", "zstd")]
    body = zstandard.compress(b'{"max_tokens": 10}')
    exchange = await pass_through(parameters(num_predict={"max": 9}), V1_CHAT, body, headers)
    assert (await exchange.body(), exchange.scope["headers"]) == (b'{"max_tokens": 9}', [])
    exchange = await pass_through(parameters(num_predict={"max": 10}), V1_CHAT, body, headers)
    assert (await exchange.body(), exchange.scope["headers"]) == (body, [(b"content-encoding", b"zstd")])


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "model": st.text(max_size=5),
            "options": st.dictionaries(
                st.sampled_from(["num_ctx", "num_predict", "x"]), st.integers(-9, 99), max_size=3
            ),
            "keep_alive": st.integers(-9, 99) | st.sampled_from(["5m", "-1s", "0"]),
        },
    )
)
async def test_after_it_everything_is_within_bounds(document: dict[str, Any]) -> None:
    plugin = parameters(num_ctx={"min": 4, "max": 8}, num_predict={"max": 9}, keep_alive={"max": "10s"})
    changed = await change(plugin, CHAT, document) or document
    options = changed.get("options", {})
    assert options.get("num_ctx", 4) in range(4, 9)
    assert options["num_predict"] in range(1, 10)
    assert changed.get("keep_alive", 0) in [*range(11), "0"]
    assert changed.get("model") == document.get("model")
    assert options.get("x") == document.get("options", {}).get("x")
    assert await change(plugin, CHAT, changed) is None


OPTION = (
    st.floats(allow_nan=False, allow_infinity=False)
    | st.integers(-(2**63), 2**64 - 1)
    | st.sampled_from([0.5, -0.5, 1e19, 0])
)


@given(OPTION, st.sampled_from([CHAT, V1_CHAT, RESPONSES, MESSAGES]))
async def test_no_number_gets_an_endless_reply(value: float, path: str) -> None:
    name = {CHAT: "num_predict", RESPONSES: "max_output_tokens"}.get(path, "max_tokens")
    document: dict[str, Any] = {"options": {name: value}} if path == CHAT else {name: value}
    try:
        changed = await change(parameters(num_predict={"max": 9}), path, document) or document
    except Refused:
        return
    found: Any = (changed["options"] if path == CHAT else changed)[name]
    assert 1 <= int(found) <= 9


# Aliases


@pytest.mark.parametrize(
    ("path", "body", "result"),
    [
        (CHAT, b'{"model": "gpt-4o" }', b'{"model": "llama3.3:70b" }'),
        (V1_CHAT, b'{"model":"GPT-4o:latest"}', b'{"model":"llama3.3:70b"}'),
        (MESSAGES, b'{"model":" gpt-4o "}', b'{"model":"llama3.3:70b"}'),
        ("/v1/embeddings", b'{"model":"ada"}', b'{"model":"nomic-embed-text"}'),
        ("/api/show", b'{"name":"gpt-4o"}', b'{"name":"llama3.3:70b"}'),
        (CHAT, b'{"model":"gpt-4o:x"}', b'{"model":"gpt-4o:x"}'),
        (CHAT, b'{"model":"llama3.3:70b"}', b'{"model":"llama3.3:70b"}'),
        (CHAT, b'{"model":"not a name"}', b'{"model":"not a name"}'),
        (CHAT, b"{}", b"{}"),
        ("/api/pull", b'{"model":"gpt-4o"}', b'{"model":"gpt-4o"}'),
        ("/api/copy", b'{"source":"gpt-4o","destination":"x"}', b'{"source":"gpt-4o","destination":"x"}'),
    ],
)
async def test_aliases(path: str, body: bytes, result: bytes) -> None:
    plugin = parameters(aliases={"gpt-4o": "llama3.3:70b", "ada": "nomic-embed-text"})
    exchange = await pass_through(plugin, path, body)
    assert await exchange.body() == result


@pytest.mark.parametrize(
    ("path", "model"), [(V1_CHAT, "long"), (MESSAGES, "long"), ("/v1/embeddings", "long"), (CHAT, "llama3.2")]
)
async def test_an_alias_gets_the_model_that_has_the_context(path: str, model: str) -> None:
    plugin = parameters(aliases={"gpt-4o": "llama3.2"}, num_ctx={"v1": {"llama3.2": "long"}})
    changed = await change(plugin, path, {"model": "gpt-4o"})
    assert changed == {"model": model}


async def test_an_alias_in_a_form() -> None:
    request = httpx.Request(
        "POST", "http://h/x", data={"model": "whisper-1", "x": "whisper-1"}, files={"file": b"RIFF"}
    )
    body, headers = request.read(), [("content-type", request.headers["content-type"])]
    plugin = parameters(aliases={"whisper-1": "gemma3n:e4b"})
    exchange = await pass_through(plugin, "/v1/audio/transcriptions", body, headers)
    assert await exchange.body() == body.replace(b"whisper-1", b"gemma3n:e4b", 1)
    assert await exchange.names() == {"form": "gemma3n:e4b"}


async def test_whoever_stands_below_sees_the_models_real_name() -> None:
    seen: list[str | None] = []

    async def inner(scope: Scope, receive: Receive, send: Send) -> None:
        model = Exchange.of(scope).model
        seen.append(model.short if model else None)

    plugin = Parameters(Access(inner, models=["llama3.3:*"]), aliases={"gpt-4o": "llama3.3:70b"})
    await call(plugin, make_exchange(body=b'{"model":"gpt-4o"}'))
    assert seen == ["llama3.3:70b"]


async def test_whoever_stands_above_sees_what_was_asked_for() -> None:
    inner = parameters(aliases={"gpt-4o": "llama3.3:70b"})
    assert (await call(Access(inner, models=["gpt-4o"]), make_exchange(body=b'{"model":"gpt-4o"}'))).status == 200
    answer = await call(Access(inner, models=["llama3.3:*"]), make_exchange(body=b'{"model":"gpt-4o"}'))
    assert answer.error is not None
    assert answer.error.status == 403


# Options


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"aliases": {"a b": "x"}}, "'a b' is not the name of a model"),
        ({"aliases": {"a": ""}}, "'' is not the name of a model"),
        ({"options": {"num_ctx": {"max": 1}}}, "num_ctx has a rule of its own"),
        ({"options": {"ä": {"max": 1}}}, "is not the name of an option"),
        ({"options": {"shift": {"set": True}}}, "shift has a rule of its own"),
        ({"num_predict": {"max": 0}}, "num_predict: as a max, 0 would mean that there is none"),
        ({"top_k": {"max": -1}}, "top_k: as a max, -1 would mean"),
        ({"options": {"num_gpu": {"max": -1}}}, "num_gpu: as a max, -1 would mean"),
        ({"num_predict": {"max": 9, "default": -1}}, "num_predict: the default is not among the values allowed"),
        ({"num_ctx": {"min": 9, "default": 8}}, "num_ctx: the default is not among the values allowed"),
        ({"think": {"allow": [False], "default": True}}, "think: the default is not among the values allowed"),
        ({"num_ctx": {"max": 0}}, "num_ctx: a value of the rule must be at least 1"),
        ({"n": {"max": 0}}, "n: a value of the rule must be at least 1"),
        ({"num_ctx": {"set": 10**30}}, "num_ctx: a value of the rule is out of range"),
        ({"options": {"num_gpu": {"set": "x"}}}, "num_gpu: a value of the rule must be a number"),
        ({"options": {"num_gpu": {"max": 1.5}}}, "num_gpu: a value of the rule must be a whole number"),
        ({"options": {"use_mmap": {"set": 1}}}, "use_mmap: a value of the rule must be true or false"),
    ],
)
def test_mistakes(rules: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parameters(**rules)


# Explaining


@pytest.mark.parametrize(
    ("path", "body", "verdict", "text"),
    [
        (CHAT, b'{"model":"a"}', "pass", "nothing in the body changes"),
        ("/api/tags", b"", "pass", "nothing in the body changes"),
        (CHAT, b'{"options":{"num_ctx":9}}', "change", 'the body gets {"options":{"num_ctx":8}}'),
        (CHAT, b'{"keep_alive":1}', "refuse", "keep_alive may not be set for you"),
    ],
)
async def test_explains_itself(path: str, body: bytes, verdict: str, text: str) -> None:
    exchange = make_exchange("POST", path, body=body)
    explanation = await parameters(num_ctx={"max": 8}, keep_alive={"refuse": True}).explain(exchange)
    assert (explanation.verdict, explanation.text) == (verdict, text)
    if verdict == "change":
        assert exchange.document == {"options": {"num_ctx": 8}}


async def test_nothing_of_it_runs_per_chunk() -> None:
    def clamped(inner: ASGIApp) -> Parameters:
        return Parameters(inner, num_ctx=Context(max=8192))

    assert await hands_send_on(clamped, make_exchange(body=b'{"model":"llama3.2","options":{"num_ctx":9999}}'))
